"""The Numba twins of the definitions in `sums`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from quantlab_kernels import reference, sum_loops, sums
from quantlab_kernels.checks import Doubles, Floats, Integers, scale_dtype
from quantlab_kernels.sums import ErrorSums

_FUSED = frozenset(np.dtype(name) for name in ("int8", "uint8", "int16", "uint16"))


def error_sums(x: Floats, other: Floats, grid: Floats, lo: Floats, hi: Floats) -> ErrorSums:
    """Twin of `sums.error_sums`."""
    sums.require_pairs(x, other, grid, lo, hi)
    v, y, g = (_singles(np.ascontiguousarray(array).reshape(-1)) for array in (x, other, grid))
    least, most = _ends_for(v, lo, hi)
    return _finished(sum_loops.error_sums(v, y, g, least, most), x.size)


def grid_error_sums(
    x: Floats, q: Integers, scale: float | np.floating[Any], zero_point: int, qmin: int, qmax: int
) -> ErrorSums:
    """Twin of `sums.grid_error_sums`; what is not float32 is laid on the grid by the definition first."""
    sums.require_integers(x, q, qmin, qmax)
    if x.dtype != np.float32 or q.dtype not in _FUSED or scale_dtype(scale) != np.float32:
        grid = reference.fake_quant(x, scale, zero_point, qmin, qmax)
        ends = sums.grid_ends(scale, zero_point, qmin, qmax)
        return error_sums(x, reference.dequantize(q, scale, zero_point), grid, *ends)
    v, integers = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(q).reshape(-1)
    step, zero, first, last = (np.float32(number) for number in (scale, zero_point, qmin, qmax))
    least, most = _single_ends(scale, zero_point, qmin, qmax)
    return _finished(sum_loops.grid_error_sums(v, integers, step, zero, first, last, least, most), x.size)


@functools.lru_cache(maxsize=4096)
def _single_ends(scale: float | np.floating[Any], zero_point: int, qmin: int, qmax: int) -> tuple[Floats, Floats]:
    return _ends_for(np.zeros(0, np.float32), *sums.grid_ends(scale, zero_point, qmin, qmax))


def _singles(x: Floats) -> Floats:
    """Widen float16, which has no machine loop."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _ends_for(x: Floats, lo: Floats, hi: Floats) -> tuple[Floats, Floats]:
    """Return ends in the precision of `x` that the same of its elements lie outside of: one each, or one row of lanes.

    A float32 is below a float64 where it is below the next float32 that is not below that.
    """
    if x.dtype == np.float32:
        lo, hi = _next(lo, np.inf), _next(hi, -np.inf)
    rows = (np.full(sums.LANES, end) if end.ndim == 0 else end.reshape(-1) for end in (lo, hi))
    low, high = (np.ascontiguousarray(row, x.dtype) for row in rows)
    return low, high


def _next(end: Floats, towards: float) -> Floats:
    """Return the float32 at a number, or the next one towards an infinity."""
    with np.errstate(over="ignore"):
        single = end.astype(np.float32)
        short = single < end if towards > 0 else single > end
        return np.where(short, np.nextafter(single, np.float32(towards)), single)


def _finished(found: tuple[Doubles, int, int], count: int) -> ErrorSums:
    numbers, below, above = found
    ends = numbers.tolist()
    return sums.finished(ends[:7], ends[7:], (below, above, count))
