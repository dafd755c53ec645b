"""Two groups of options that a recipe hands on to the plan: how grids are written, and how numbers are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_args

from quantlab.arrays import Degenerate
from quantlab.errors import OptionError, nearest

T = TypeVar("T", bound="Layout | Numerics")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How grids are written into a graph.

    Attributes:
        weight_pairs: Weights stay float constants with a QuantizeLinear before their DequantizeLinear, as TensorRT
            wants them. Biases are stored as integers all the same.
        dedicated_pairs: Where several quantized nodes read an activation, each gets a pair of its own with the suffix
            `_1`, `_2`, ...; whoever else reads that tensor then reads it in float.
        contrib_ops: QuantizeLinear and DequantizeLinear are those of domain `com.microsoft`.
        integer_inputs: Inputs of the model that are rounded are integers: whoever calls it rounds them.
        integer_outputs: Outputs of the model that are rounded are integers.
        rounded_for_all: Whoever reads a rounded tensor reads it rounded, nodes that stay in float too, as
            onnxruntime.quantization has it. Otherwise those read what a float node makes as it is made.
        converts: What a node reads with 16 bits is converted to 8 for it where everything else around the node has 8
            and onnxruntime would compute it in float for that one tensor's sake; see `quantlab.plan.mixed`.

    Raises:
        OptionError: A value is not true or false.
    """

    weight_pairs: bool = False
    dedicated_pairs: bool = False
    contrib_ops: bool = False
    integer_inputs: bool = False
    integer_outputs: bool = False
    rounded_for_all: bool = False
    converts: bool = True

    def __post_init__(self) -> None:
        _require_flags(self, "layout", tuple(one.name for one in fields(self)))


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """How numbers are computed.

    Attributes:
        degenerate: Zero point of a range too narrow for any scale; see `quantlab.arrays.qparams_from_range`.
        restricted: Zero points of asymmetric uint8 activations are 0 or 128, nothing between; see
            `quantlab.arrays.restricted_qparams`.
        widen_weights: A weight's scale is widened where its bias would not fit into 32 bits otherwise. If not, such a
            bias saturates, and a note of the plan says so.
        reduced_constants: Where weights give a bit away, constants that other operators read (what an Add adds, the
            table of a Gather) do so too. No product of theirs can overflow: onnxruntime.quantization does it in QDQ.
        deviation_scales: The scale of a float8 constant is the deviation of its values over that of the type's levels,
            as the distribution rules and onnxruntime.quantization have it. Otherwise its largest magnitude lands on the
            largest level, and nothing is cut off.

    Raises:
        OptionError: A value is none of those allowed.
    """

    degenerate: Degenerate = "natural"
    restricted: bool = False
    widen_weights: bool = True
    reduced_constants: bool = False
    deviation_scales: bool = False

    def __post_init__(self) -> None:
        _require_flags(self, "numerics", ("restricted", "widen_weights", "reduced_constants", "deviation_scales"))
        if self.degenerate not in (allowed := get_args(Degenerate)):
            raise OptionError(
                f"degenerate {self.degenerate!r} is unknown{nearest(str(self.degenerate), allowed)} "
                f"(allowed: {', '.join(allowed)})"
            )


def _require_flags(group: Layout | Numerics, what: str, names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(value := getattr(group, name), bool):
            raise OptionError(f"{name} in {what} must be true or false, got {value!r}")


def options_to_json(group: Layout | Numerics) -> dict[str, Any]:
    """Return a group as plain JSON values; fields that keep their default are left out."""
    return {one.name: value for one in fields(group) if (value := getattr(group, one.name)) != one.default}


def options_from_json(kind: type[T], plain: Any) -> T:
    """Read what `options_to_json` wrote.

    Args:
        kind: `Layout` or `Numerics`.
        plain: Its JSON value.

    Returns:
        The group.

    Raises:
        OptionError: A field is unknown or has an impossible value.
    """
    what, known = kind.__name__.lower(), [one.name for one in fields(kind)]
    if not isinstance(plain, Mapping):
        raise OptionError(f"{what} must be an object, got {plain!r}")
    for name in plain:
        if name not in known:
            raise OptionError(f"unknown field {name!r} in {what}{nearest(str(name), known)} (allowed: {known})")
    return kind(**plain)
