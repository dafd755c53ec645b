"""The error of one tensor as sums that are streamed, and the row that they come to in the end.

    SQNR = 10 log10(signal / noise) dB      local: noise of the tensor's own grid on the float network's values
                                            accumulated: noise between the two networks

A value is clipped where it would be rounded to a level beyond the grid: more than half a step outside its ends. Closer
ones go to the end as they would go to any other level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab import kernels
from quantlab.arrays import QParams, dequantize, fake_quant, sqnr_from_powers
from quantlab.arrays.blocks import spread
from quantlab.kernels import ErrorSums

Array = npt.NDArray[Any]

NO_SUMS = ErrorSums(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, math.inf, -math.inf, 0, 0, 0)
"""The sums of nothing."""


@dataclass(frozen=True)
class Measured:
    """How the sums of one tensor are taken.

    Attributes:
        grid: Its grid; None for a tensor that is not rounded.
    """

    grid: QParams | None

    def sums(self, exact: Array, rounded: Array) -> ErrorSums:
        """Return the sums of one sample.

        Args:
            exact: Values in the float network.
            rounded: Integers of the quantized network in the grid's storage type, or its values as floats; of the
                same shape.
        """
        x, y, grid = _floats(exact), np.asarray(rounded), self.grid
        if grid is None:
            return kernels.error_sums(x, _floats(y), x, *_UNBOUNDED)
        kind = grid.spec.dtype
        if not (grid.scale.ndim or kind.is_float or y.dtype.kind == "f"):
            return kernels.grid_error_sums(x, y, grid.scale.flat[0], int(grid.zero_point), kind.qmin, kind.qmax)
        values = y if y.dtype.kind == "f" else dequantize(y, grid)
        return kernels.error_sums(x, values, fake_quant(x, grid), *self._ends_of(x.shape))

    @cached_property
    def _ends(self) -> tuple[Array, Array]:
        """Where clipping begins, for each scale."""
        assert self.grid is not None
        span, is_float = self.grid.span(), self.grid.spec.dtype.is_float
        half = 0.0 if is_float else self.grid.scale.astype(np.float64) / 2
        return np.asarray(span.lo - half), np.asarray(span.hi + half)

    def _ends_of(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return where clipping begins: one number, or one for each element."""
        assert self.grid is not None
        spec = self.grid.spec
        if not self.grid.scale.ndim or spec.axis is None:
            return self._ends
        axis = spec.axis % len(shape)
        if spec.block_size is not None:
            lo, hi = (spread(end, axis, spec.block_size, shape[axis]) for end in self._ends)
            return lo, hi
        column = [-1 if index == axis else 1 for index in range(len(shape))]
        lo, hi = (np.broadcast_to(end.reshape(column), shape) for end in self._ends)
        return lo, hi


_UNBOUNDED = (np.array(-math.inf), np.array(math.inf))


def _floats(values: Array) -> Array:
    return values if values.dtype in (np.float16, np.float32, np.float64) else values.astype(np.float64)


def added(first: ErrorSums, second: ErrorSums) -> ErrorSums:
    """Return the sums of two samples together."""
    return ErrorSums(
        signal=first.signal + second.signal,
        other=first.other + second.other,
        noise=first.noise + second.noise,
        dot=first.dot + second.dot,
        rounding=first.rounding + second.rounding,
        clipped_below=first.clipped_below + second.clipped_below,
        clipped_above=first.clipped_above + second.clipped_above,
        largest=max(first.largest, second.largest),
        least=min(first.least, second.least),
        most=max(first.most, second.most),
        below=first.below + second.below,
        above=first.above + second.above,
        size=first.size + second.size,
    )


def numbers(sums: ErrorSums) -> dict[str, Any]:
    """Turn sums into the fields of a `TensorError` that are measured."""
    parts = (sums.rounding, sums.clipped_below, sums.clipped_above)
    local = sum(parts)
    count = max(1, sums.size)
    return {
        "lo": sums.least,
        "hi": sums.most,
        "below": sums.below / count,
        "above": sums.above / count,
        **dict(zip(("rounding", "clipping_below", "clipping_above"), (_share(p, local) for p in parts), strict=True)),
        "local_db": sqnr_from_powers(sums.signal, local),
        "sqnr_db": sqnr_from_powers(sums.signal, sums.noise),
        "cosine": _cosine(sums),
        "mse": sums.noise / count,
        "max_error": sums.largest,
        "count": sums.size,
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _cosine(sums: ErrorSums) -> float:
    norms = math.sqrt(sums.signal) * math.sqrt(sums.other)
    return min(1.0, max(-1.0, sums.dot / norms)) if norms else float(sums.signal == sums.other)
