"""A trial is one configuration of an ablation: options, and the model and calibration data that they are applied to.

Options have the names of `quantlab.quantize_static` or of the fields of `Recipe`; where two names say the same, one of
them may be given. What neither says keeps the default of `quantize_static`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import onnx

from quantlab.errors import OptionError, QuantlabError, nearest
from quantlab.experiments.sampling import Sampling
from quantlab.plan import Recipe
from quantlab.workflow.fuse import fuse
from quantlab.workflow.static import make_recipe

Groups = tuple[tuple[str, ...], ...]

STATIC = tuple(inspect.signature(make_recipe).parameters)
"""Options under the names of `quantize_static`."""

OWN = tuple(one.name for one in fields(Recipe) if one.name not in STATIC)
"""Options that only a Recipe has under this name."""

OPTIONS = (*STATIC, *OWN)

_SYNONYMS = {"calibrate": "calibrate_method", "op_types": "op_types_to_quantize", "format": "quant_format"}
"""Fields of a Recipe that `quantize_static` has under another name."""

_CLASHES = {
    "activation": ("activation_type",),
    "weight": ("weight_type", "reduce_range"),
    **{one: (other,) for one, other in _SYNONYMS.items()},
}
"""Fields of a Recipe, and options of `quantize_static` that set the same."""

_FLAGS = (
    "per_channel",
    "reduce_range",
    "optimize",
    "bias",
    "subgraphs",
    "keep_clipping",
    "force_movement",
)
_LISTS = ("op_types_to_quantize", "nodes_to_quantize", "nodes_to_exclude", "op_types", "float_outputs")
_MAPPINGS = ("extra_options", "calibrate_options", "activation", "weight", "layout", "numerics", "overrides")


def recipe_of(options: Mapping[str, Any]) -> Recipe:
    """Build a recipe from options under either kind of name.

    Args:
        options: Name to plain value.

    Returns:
        The recipe. Rules that are given come before those of `nodes_to_exclude` and `nodes_to_quantize`.

    Raises:
        OptionError: An option is unknown, has an impossible value, or two of them say the same.

    Example:
        >>> recipe = recipe_of({"per_channel": True, "calibrate": "entropy", "min_real_range": 1e-4})
        >>> recipe.per_channel, recipe.calibrate, recipe.min_real_range
        (True, 'entropy', 0.0001)
    """
    _check(options)
    renamed = {_SYNONYMS.get(name, name): value for name, value in options.items()}
    base = make_recipe(**{name: value for name, value in renamed.items() if name in STATIC})
    own = {name: value for name, value in renamed.items() if name in OWN}
    if not own:
        return base
    plain = base.to_json()
    if "rules" in own:
        own["rules"] = [*own["rules"], *plain["rules"]]
    return Recipe.from_json(plain | own)


def _check(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in OPTIONS:
            raise OptionError(
                f"no option is called {name!r}{nearest(str(name), OPTIONS) or ';'} options have the names of "
                "quantize_static or of the fields of Recipe"
            )
        if twice := next((other for other in _CLASHES.get(name, ()) if other in options), None):
            raise OptionError(f"{name} and {twice} say the same: keep one of them")
        _check_type(name, value)


def _check_type(name: str, value: object) -> None:
    if name in _FLAGS and not isinstance(value, bool):
        raise OptionError(f"{name} must be true or false, got {value!r}")
    if name in _MAPPINGS and value is not None and not isinstance(value, Mapping):
        hint = f"; for a type alone give {name}_type" if name in ("activation", "weight") else ""
        raise OptionError(f"{name} must be a mapping from names to values, got {value!r}{hint}")
    if name in _LISTS and value is not None:
        words = (
            isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)
        )
        if not words:
            raise OptionError(f"{name} must be a list of names, got {value!r}")
    if name == "rules" and (isinstance(value, str) or not isinstance(value, Sequence)):
        raise OptionError(
            f"rules must be a list of rules such as {{'ops': ['Relu'], 'quantize': False}}, got {value!r}"
        )


@contextmanager
def blamed(trial: str) -> Iterator[None]:
    """Put the name of a trial in front of what is refused on its account.

    Args:
        trial: Its name.

    Raises:
        QuantlabError: Of the same kind as the one that is raised inside.

    Example:
        >>> with blamed("a"):
        ...     raise OptionError("no")
        Traceback (most recent call last):
        quantlab.errors.OptionError: trial 'a': no
    """
    try:
        yield
    except QuantlabError as error:
        raise type(error)(f"trial {trial!r}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration.

    Attributes:
        name: What it is called in the table.
        options: Name to value, see `recipe_of`.
        quantize: Whether the model is quantized; False measures the float model, as it is or fused.
        fuse: What `quantlab.fuse` does before anything else: `"all"`, groups of node names or operator types, or None.
        calibration: Its own calibration data; None for that of the ablation.

    Raises:
        OptionError: An option is unknown or impossible, or goes with quantization only; the text names the trial.

    Example:
        >>> Trial(name="a", options={"per_chanel": True})
        Traceback (most recent call last):
        quantlab.errors.OptionError: trial 'a': no option is called 'per_chanel'; did you mean 'per_channel'? options \
have the names of quantize_static or of the fields of Recipe
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    quantize: bool = True
    fuse: Groups | Literal["all"] | None = None
    calibration: Sampling | None = None

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise OptionError(f"a trial's name must be a text, got {self.name!r}")
        if not self.quantize and (self.options or self.calibration is not None):
            raise OptionError(f"trial {self.name!r}: quantize is false, so there is no use for options or calibration")
        if isinstance(self.fuse, str) and self.fuse != "all":
            raise OptionError(f"trial {self.name!r}: fuse must be 'all' or groups of nodes, got {self.fuse!r}")
        with blamed(self.name):
            recipe = self.recipe  # what cannot be built is refused before any work begins
        if recipe is not None and (recipe.layout.integer_inputs or recipe.layout.integer_outputs):
            raise OptionError(
                f"trial {self.name!r}: with integer_inputs or integer_outputs a model is fed and answers in integers, "
                "which cannot be compared with those of the float model: leave them out"
            )

    @cached_property
    def recipe(self) -> Recipe | None:
        """What the options come down to; None for a float model."""
        return recipe_of(self.options) if self.quantize else None

    def source(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the float model of the trial: fused where that was asked for.

        Args:
            model: The float model of the ablation; it is not changed.

        Returns:
            The model itself, or a changed copy.

        Raises:
            OptionError: A group cannot be read.
        """
        if self.fuse is None:
            return model
        return fuse(model, None if self.fuse == "all" else self.fuse).model
