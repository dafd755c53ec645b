"""From an override to the numbers of a plan's entry: scale and zero point, a range, one end of one, a second grid."""

from __future__ import annotations

from dataclasses import replace

from quantlab.arrays import QuantSpec
from quantlab.errors import OptionError
from quantlab.plan.entries import Conversion, TensorPlan
from quantlab.plan.overrides import GridOverride, TensorOverride

SOURCE = "given by an override"


def with_numbers(tensor: TensorPlan, override: TensorOverride, channels: int, usual: QuantSpec) -> TensorPlan:
    """Return a tensor's entry with the range, the numbers and the second grid that its override gives.

    Args:
        tensor: Its entry; its grid is the override's already.
        override: The override.
        channels: Number of channels along the grid's axis, 1 without one.
        usual: The recipe's grid of activations, from which the second grid is made.

    Returns:
        The entry.

    Raises:
        OptionError: The second grid has the type of the first.
        RangeError: As for `GridOverride.qparams`.
    """
    grid = override.grid
    numbers = grid.qparams(tensor.spec, tensor.dtype, channels)
    values = grid.values(tensor.dtype, channels)
    source = tensor.source if numbers is None and values is None else SOURCE
    tensor = replace(tensor, qparams=numbers, values=values, ends=_one_end(grid), source=source)
    if override.convert is None:
        return tensor
    return replace(tensor, convert=_conversion(tensor, override, override.convert, usual))


def _conversion(tensor: TensorPlan, override: TensorOverride, second: GridOverride, usual: QuantSpec) -> Conversion:
    spec = second.spec(usual)
    if spec.dtype == tensor.spec.dtype:
        raise OptionError(f"convert goes from {spec.dtype} to {spec.dtype}: give another quant_type, or leave it out")
    return Conversion(
        spec=spec,
        readers=override.readers,
        ends=_one_end(second),
        values=second.values(tensor.dtype, 1),
        qparams=second.qparams(spec, tensor.dtype, 1),
    )


def _one_end(grid: GridOverride) -> tuple[float | None, float | None] | None:
    """Return the one end that is given where the other is left to measurement."""
    if (grid.rmin is None) == (grid.rmax is None):
        return None
    return grid.rmin[0] if grid.rmin else None, grid.rmax[0] if grid.rmax else None
