"""What rounding did to a constant: its error as a whole, and that of each of its channels."""

from __future__ import annotations

import numpy as np

from quantlab.arrays import QParams, dequantize, quantize, sqnr_from_powers
from quantlab.debug.findings import Channels, TensorError
from quantlab.debug.matching import Match, Matching
from quantlab.debug.sums import Array, Measured, numbers
from quantlab.errors import ModelError

_OUTPUT_AXES = {"Conv": 0, "ConvTranspose": 1}


def constant_row(each: Match, found: Matching) -> TensorError:
    """Compare a constant with its rounded version.

    Args:
        each: A constant that has a partner.
        found: The matching that it comes from.

    Returns:
        Its row; weights have channels.
    """
    exact, stored = constant_values(each, found)
    kind, node = constant_kind(each), each.step.node if each.step is not None else None
    return TensorError(
        name=str(each.name),
        kind=kind,
        node=node.name if node is not None else "",
        op_type=node.op_type if node is not None else "",
        dtype=each.rounded.grid.spec.dtype.name,
        grid=each.rounded.grid,
        channels=_channels(each, exact, dequantize(stored, each.rounded.grid)) if kind == "weight" else None,
        **numbers(Measured(each.rounded.grid).sums(exact, stored)),
    )


def constant_values(each: Match, found: Matching) -> tuple[Array, Array]:
    """Return a constant of the float model, and the integers that the quantized model has for it.

    Raises:
        ModelError: The two have different shapes.
    """
    exact, stored = found.exact.values(str(each.name)), found.rounded.view.constant(each.rounded.integers)
    if stored is None:  # rounded when the model is loaded
        floats = found.rounded.values(found.rounded.origin(each.rounded.integers))
        assert floats is not None
        stored = quantize(floats, each.rounded.grid)
    assert exact is not None
    if each.rounded.after is None and each.step is not None:  # operators on integers have no beta: it is in the bias
        exact = exact * exact.dtype.type(each.step.attributes.get("beta", 1.0))
    if exact.shape != stored.shape:
        raise ModelError(f"constant {each.name!r} has shape {exact.shape} in one model and {stored.shape} in the other")
    return exact, stored


def constant_kind(each: Match) -> str:
    """Return `"weight"` or `"bias"`."""
    return "bias" if each.slot == 2 or each.rounded.grid.spec.dtype.name == "int32" else "weight"


def _channels(each: Match, exact: Array, rounded: Array) -> Channels | None:
    axis = _channel_axis(each, each.rounded.grid, exact.ndim)
    if axis is None:
        return None
    x = np.moveaxis(exact, axis, 0).reshape(exact.shape[axis], -1).astype(np.float64)
    y = np.moveaxis(rounded, axis, 0).reshape(x.shape).astype(np.float64)
    powers = zip(np.square(x).sum(axis=1), np.square(x - y).sum(axis=1), strict=True)
    return Channels(
        axis=axis,
        lo=x.min(axis=1, initial=np.inf),
        hi=x.max(axis=1, initial=-np.inf),
        sqnr_db=np.array([sqnr_from_powers(float(signal), float(noise)) for signal, noise in powers]),
    )


def _channel_axis(each: Match, grid: QParams, ndim: int) -> int | None:
    """Return the axis of output channels: that of the grid, or what the operator says."""
    if ndim < 2 or each.step is None:
        return None
    if grid.spec.per_channel and grid.spec.axis is not None:
        return grid.spec.axis % ndim
    if each.step.op == "MatMul":
        return ndim - 2 if each.step.attributes.get("transB") else ndim - 1
    return _OUTPUT_AXES.get(each.step.op, ndim - 1)
