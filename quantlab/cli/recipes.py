"""The options that say how to quantize, and the recipe they are turned into."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantlab.cli import options as o
from quantlab.errors import OptionError

if TYPE_CHECKING:
    from quantlab.plan import Recipe, RecipeRule, TensorOverride

PRESET_FIELDS = ("bias", "layout", "force_movement", "min_real_range")
"""Fields of a recipe that presets set beside both grids."""


@dataclass(frozen=True, kw_only=True)
class RecipeChoices:
    """What was given of a recipe; a verb that lacks some of these options leaves them at their defaults."""

    per_channel: o.PerChannel = False
    calibrate: o.Calibrate = "minmax"
    percent: o.Percent = None
    activation_type: o.ActivationType = o.ACTIVATIONS
    weight_type: o.WeightType = "int8"
    quant_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="qdq, which runs wherever ONNX does, or qoperator: onnxruntime's operators on integers.",
            rich_help_panel=o.GRIDS,
        ),
    ] = "qdq"
    reduce_range: Annotated[
        bool,
        typer.Option(
            "--reduce-range",
            help="Give one bit of the weights away, for processors without VNNI.",
            rich_help_panel=o.GRIDS,
        ),
    ] = False
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Grids that suit an execution provider: cpu-x86-vnni, cpu-x86-avx2, cpu-arm, tensorrt or qnn.",
            show_default=False,
            rich_help_panel=o.GRIDS,
        ),
    ] = None
    weights_only: Annotated[
        bool,
        typer.Option(
            "--weights-only",
            help="Give grids to weights alone: activations and biases stay float.",
            rich_help_panel=o.GRIDS,
        ),
    ] = False
    nonfinite: o.NonFinite = "refuse-nan"
    exclude: o.Exclude = None
    only: o.Only = None
    op_types: o.OpTypes = None
    overrides: Annotated[
        Path | None,
        typer.Option(
            "--overrides",
            metavar="FILE.json",
            help="What single tensors get instead: {tensor: {quant_type, scale, zero_point, axis, ...}}.",
            show_default=False,
            rich_help_panel=o.GRIDS,
        ),
    ] = None
    subgraphs: Annotated[
        bool,
        typer.Option("--subgraphs", help="Quantize the bodies of If, Loop and Scan too.", rich_help_panel=o.NODES),
    ] = False

    def rule_given(self) -> str | None:
        """Return what was given of a range rule, or None where both options stand at their defaults."""
        return None if self.calibrate == "minmax" and self.percent is None else self.calibrate

    def recipe(self) -> Recipe:
        """Build the recipe that was asked for; its rules say which option they come from.

        Raises:
            OptionError: An option has a value that does not exist, or does not go with another.
        """
        from quantlab.calibration import calibrator
        from quantlab.workflow.static import make_recipe

        # The rule that repeats onnxruntime's numbers keeps onnxruntime's name for the option.
        option = "percentile" if self.calibrate == "onnxruntime_percentile" else "percent"
        options = {} if self.percent is None else {option: self.percent}
        calibrator(self.calibrate, options)  # refuse a wrong rule before any model is read
        recipe = make_recipe(
            op_types_to_quantize=_separated(self.op_types),
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
            activation_type=self.activation_type,
            weight_type=self.weight_type,
            calibrate_method=self.calibrate,
            calibrate_options=options,
            quant_format=o.allowed_word(self.quant_format, ("QDQ", "QOperator")) or self.quant_format,
        )
        rules = tuple(self._rules(recipe.op_types or ()))
        chosen = replace(recipe, rules=rules, subgraphs=self.subgraphs, **self._preset())
        if self.weights_only:
            chosen = replace(chosen, weights_only=True)
        if self.overrides is not None:
            chosen = replace(chosen, overrides=_overrides_of(self.overrides))
        return replace(chosen, nonfinite=self.nonfinite)  # type: ignore[arg-type]  # checked by Recipe

    def _preset(self) -> dict[str, Any]:
        """Return the fields of a recipe that a preset sets.

        Raises:
            OptionError: There is no such preset, or another option sets the same.
        """
        if self.preset is None:
            return {}
        from quantlab.plan import Recipe, preset

        chosen, plain = vars(preset(self.preset)), vars(Recipe())
        types = {
            "--activation-type": self.activation_type != o.ACTIVATIONS,
            "--weight-type": self.weight_type != "int8",
        }
        given = [name for name, changed in {**types, "--reduce-range": self.reduce_range}.items() if changed]
        if given:
            raise OptionError(f"--preset {self.preset} sets the types: leave out {' and '.join(given)}, or the preset")
        return {name: chosen[name] for name in PRESET_FIELDS if chosen[name] != plain[name]} | {
            "activation": chosen["activation"],
            "weight": chosen["weight"],
        }

    def _rules(self, op_types: tuple[str, ...]) -> list[RecipeRule]:
        """Return the rules of --exclude, which win because they come first, and of --only."""
        from quantlab.plan import RecipeRule

        rules = [rule for name in self.exclude or () for rule in _excluded(name)]
        if self.only:
            rules.append(RecipeRule(nodes=tuple(self.only), ops=op_types, because="listed by --only"))
            rules.append(RecipeRule(quantize=False, because="not listed by --only"))
        return rules


def _excluded(name: str) -> tuple[RecipeRule, ...]:
    """Return the rules of one --exclude: for a name or pattern, or those in the recipe of a file that leave nodes."""
    from quantlab.plan import Recipe, RecipeRule

    if not name.startswith("@"):
        return (RecipeRule(nodes=(name,), quantize=False, because=f"excluded by --exclude {name!r}"),)
    plain = _read_json(f"--exclude {name!r}", Path(name[1:]))
    if not isinstance(plain, dict):
        raise OptionError(f"--exclude {name!r} must be a JSON object with the rules of a recipe, got {plain!r:.60}")
    rules = Recipe.from_json(plain).rules
    if wrong := next((rule for rule in rules if rule.quantize), None):
        raise OptionError(f"--exclude {name!r} has a rule that leaves nothing in float: {wrong.nodes or wrong.ops}")
    return rules


def _overrides_of(path: Path) -> dict[str, TensorOverride]:
    """Read a file of overrides, in any layout that `quantlab.plan.parse_overrides` takes."""
    from quantlab.plan import parse_overrides

    return parse_overrides(_read_json(f"--overrides {str(path)!r}", path))


def _read_json(option: str, path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OptionError(f"{option} cannot be read: {error}") from error


def _separated(words: list[str] | None) -> list[str] | None:
    return [part.strip() for word in words for part in word.split(",") if part.strip()] if words else None
