"""The Numba twin of every kernel in `reference`: the same names, signatures and bits, at memory speed where it can.

A public function checks its arguments with the functions of `checks`, views its array as (outer, C, inner) or
(rows, columns), and hands it to one of the passes in `loops`. float16 has no machine loop of its own: its 65,536 values
are computed once by the definition and looked up.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike, DTypeLike, NDArray

from quantlab_kernels import checks, loops, reference, sweep_loops, sweeps
from quantlab_kernels.checks import Counts, Doubles, Floats, Integers
from quantlab_kernels.compiled_blocks import (
    Packed4Bit,
    dequantize_block,
    fake_quant_block,
    quantize_block,
    quantize_pack_4bit,
)
from quantlab_kernels.compiled_sums import error_sums, grid_error_sums
from quantlab_kernels.reference import AxisMinMax, ErrorSums, MinMax, MinMaxLattice

__all__ = [
    "AxisMinMax",
    "ErrorSums",
    "MinMax",
    "MinMaxLattice",
    "Packed4Bit",
    "dequantize",
    "dequantize_axis",
    "dequantize_block",
    "error_sums",
    "fake_quant",
    "fake_quant_axis",
    "fake_quant_block",
    "grid_error_sums",
    "histogram",
    "kl_divergences",
    "lattice_histogram",
    "min_max",
    "min_max_axis",
    "min_max_lattice",
    "mse_curve",
    "quantize",
    "quantize_axis",
    "quantize_block",
    "quantize_pack_4bit",
]

_NARROW = 32
"""Rows shorter than this are unrolled into columns."""
_SWEEP_BLOCK = 2**14
"""Numbers worked on at a time by a sweep: a few arrays of 128 KiB stay in the second-level cache."""
_ALL_HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)


def min_max(x: Floats) -> MinMax:
    """Twin of `reference.min_max`."""
    checks.require_floats(x)
    keys = _keys(x.dtype)
    bounds, nan_count, inf_count = loops.min_max(_flat(x).view(keys.dtype), keys.limits)
    ends = bounds.view(x.dtype)
    return MinMax(ends[0], ends[1], nan_count, inf_count)


def min_max_axis(x: Floats, axis: int) -> AxisMinMax:
    """Twin of `reference.min_max_axis`."""
    checks.require_floats(x)
    keys = _keys(x.dtype)
    shape = _channel_shape(x, normalize_axis_index(axis, x.ndim))
    rows = np.ascontiguousarray(x).reshape(shape).view(keys.dtype)
    outer, count, inner = shape
    nan_count, inf_count = np.zeros(count, np.int64), np.zeros(count, np.int64)
    columns = _narrow(shape)
    length = count * inner if columns else count
    lo, hi = np.full(length, keys.top, keys.dtype), np.full(length, keys.bottom, keys.dtype)
    if columns:
        loops.key_extremes_columns(rows.reshape(outer, length), keys.shift, keys.mask, lo, hi)
        lo = np.min(lo.reshape(count, inner), axis=1, initial=int(keys.top))
        hi = np.max(hi.reshape(count, inner), axis=1, initial=int(keys.bottom))
    else:
        loops.key_extremes_rows(rows, keys.shift, keys.mask, lo, hi)
    if (lo <= keys.bottom).any() or (hi >= keys.top).any():
        found = np.zeros((count, 4), np.int64)
        found[:, 0], found[:, 1] = keys.top, keys.bottom
        loops.finite_key_extremes_rows(rows, keys.shift, keys.mask, keys.top, keys.bottom, found)
        lo, hi = found[:, 0].astype(keys.dtype), found[:, 1].astype(keys.dtype)
        nan_count, inf_count = found[:, 2].copy(), found[:, 3].copy()
    return AxisMinMax(keys.floats(lo), keys.floats(hi), nan_count, inf_count)


_FLOAT32_VANISHES = 1074 - 149
"""Above this exponent the smallest float32, 2**-149, is scaled to less than the smallest float64, 2**-1074."""


def lattice_histogram(x: Floats, exponent: int, first_bin: int, bins: int) -> Counts:
    """Twin of `reference.lattice_histogram`; bins whose numbers take more than 16 bits are left to the definition."""
    checks.require_floats(x)
    factor, first, end = _lattice(x.dtype, exponent, first_bin, bins)
    if bins > loops.MOST_BINS:
        return reference.lattice_histogram(x, exponent, first_bin, bins)
    values = _flat(x)
    if x.dtype == np.float16:
        values = values.astype(np.float32)
    elif _vanishing(values, exponent):
        # A negative number stays below zero if it is far enough from it.
        least = 2.0 ** (exponent - 1022)
        values = np.where((values < 0) & (values > -least), -least, values)
    counts = np.zeros(bins + 1, np.int64)
    loops.lattice_counts(values, factor, first, end, counts)
    left_out = int(counts[bins])
    if left_out and left_out != values.size - np.count_nonzero(np.isfinite(values)):
        raise checks.outside_lattice(exponent, first_bin, bins)
    return counts[:bins]


def min_max_lattice(x: Floats, exponent: int, first_bin: int, bins: int, into: Counts | None = None) -> MinMaxLattice:
    """Twin of `reference.min_max_lattice`; wide bin numbers and values that vanish on scaling go to the definition."""
    checks.require_floats(x)
    factor, first, end = _lattice(x.dtype, exponent, first_bin, bins)
    values = _flat(x)
    if bins > loops.MOST_BINS or _vanishing(values, exponent):
        return reference.min_max_lattice(x, exponent, first_bin, bins, into)
    counts = checks.counters(into, bins)
    single = values.astype(np.float32) if x.dtype == np.float16 else values
    keys = _keys(single.dtype)
    bounds, nan_count, inf_count, fits = loops.min_max_lattice(
        single, single.view(keys.dtype), keys.limits, factor, first, end, counts
    )
    ends = bounds.view(single.dtype).astype(x.dtype, copy=False)
    return MinMaxLattice(MinMax(ends[0], ends[1], nan_count, inf_count), counts if fits else None)


def _vanishing(x: Floats, exponent: int) -> bool:
    """Say whether scaling by 2**-exponent would turn some numbers of this dtype into zero."""
    return exponent > 0 and x.dtype != np.float16 and exponent > (0 if x.dtype == np.float64 else _FLOAT32_VANISHES)


@functools.lru_cache(maxsize=4096)
def _lattice(
    dtype: np.dtype[Any], exponent: int, first_bin: int, bins: int
) -> tuple[np.floating[Any], np.floating[Any], np.floating[Any]]:
    """Check a lattice; return 2**-exponent and its first and end bin in a dtype in which products with data are exact.

    A float32 times 2**n, n >= 0, is exact or infinite, and float32 holds bin numbers up to 2**23 and their differences;
    float64 holds all others. A stream asks for the same few lattices over and over.
    """
    checks.require_lattice(exponent, first_bin, bins)
    end = first_bin + bins
    small = -126 <= exponent <= 0 and first_bin >= -(2**23) and end <= 2**23 and dtype != np.float64
    working = np.float32 if small else np.float64
    return working(2.0**-exponent), working(first_bin), working(end)


def histogram(x: Floats, lo: float, hi: float, bins: int) -> Counts:
    """Twin of `reference.histogram`."""
    checks.require_floats(x)
    lo, hi = float(lo), float(hi)
    values = _flat(checks.widened(x, lo, hi, bins))
    edges = np.histogram_bin_edges(values[:0], bins, range=(lo, hi))
    if values.dtype == np.float16:
        codes = _rows_of_counts(values, 2**16)
        loops.code_counts(values.view(np.uint16), codes)
        placed, _ = np.histogram(_ALL_HALVES, bins, range=(lo, hi), weights=_total(codes, 2**16))
        return placed.astype(np.int64, copy=False)
    width = np.float64((hi - lo) if hi > lo else (hi + 0.5) - (lo - 0.5))
    working = values.dtype.type
    with np.errstate(all="ignore"):
        factor = working(bins / width)
    counts = _rows_of_counts(values, bins + 1)
    nan = working(np.nan)
    lower, upper = np.append(edges[:-1], nan), np.append(edges[1:-1], [nan, nan])
    loops.edge_counts(values, edges, lower, upper, width, factor, working(_doubt(edges, width, factor)), counts)
    return _total(counts, bins)


def kl_divergences(counts: Counts, levels: int) -> Doubles:
    """Twin of `reference.kl_divergences`; NumPy takes the logarithms, which have other bits in machine code."""
    return sweeps.divergences(counts, levels, _level_sums)


def _level_sums(below: Counts, occupied: Counts, kept: Counts, levels: int, end: Counts) -> tuple[Doubles, Doubles]:
    sums, at_end_level = np.zeros(kept.size), np.empty(kept.size)
    columns = max(1, _SWEEP_BLOCK // levels)
    for start in range(0, kept.size, columns):
        part = slice(start, start + columns)
        width = sums[part].size
        mass, logs = np.empty((levels, width)), np.empty((levels, width))
        sweep_loops.level_means(below, occupied, kept[start], mass, logs)
        np.log(logs, out=logs)
        sweep_loops.add_products(mass, logs, sums[part])
        at_end_level[part] = logs[end[part] * levels // kept[part], np.arange(width)]
    return sums, at_end_level


def mse_curve(
    x: Doubles,
    share: Doubles,
    step: Doubles,
    first: Doubles,
    levels: int,
) -> Doubles:
    """Twin of `reference.mse_curve`; a table of bins replaces the search among the points."""
    return sweeps.grid_errors(x, share, step, first, levels, _cut_sums)


def _cut_sums(
    x: Doubles, below: Doubles, above: Doubles, step: Doubles, first: Doubles, pivot: Doubles, levels: int
) -> Doubles:
    bins = int(np.floor(x[-1]) - np.floor(x[0])) + 1 if x.size else 0
    if bins > 2**24:
        return sweeps.cut_sums(x, below, above, step, first, pivot, levels)
    result = np.empty(step.size)
    sweep_loops.cut_sums(x, below, above, bins, step, first, pivot, levels, result)
    return result


def _doubt(edges: Floats, width: np.float64, factor: np.floating[Any]) -> float:
    """Bound the error of a guessed bin, in bins; one or more sends every element to the exact rule.

    With unit roundoff u, in units of u * bins: the difference, the factor and the product err by 1 each at most; an
    edge and the lower bound are rounded, which is max|edge| / width each. A quarter more covers the terms of second
    order and the float64 arithmetic of the edges; float64 data gets it twice, as its edges are no more precise.
    """
    info = np.finfo(edges.dtype)
    largest = float(max(abs(edges[0]), abs(edges[-1])))
    # Roundoff is relative only among normal numbers.
    if not math.isfinite(factor) or min(float(width) / edges.size, float(factor)) < 2**20 * float(info.tiny):
        return 1.0
    safety = 2.5 if edges.dtype == np.float64 else 1.25
    return safety * float(info.epsneg) * edges.size * (3.0 + 2.0 * largest / float(width))


def fake_quant(
    x: Floats, scale: float | np.floating[Any], zero_point: int, qmin: int, qmax: int, *, out: Floats | None = None
) -> Floats:
    """Twin of `reference.fake_quant`."""
    checks.require_grid(x, qmin, qmax)
    if _by_table(x, scale):
        table = reference.fake_quant(_ALL_HALVES, scale, zero_point, qmin, qmax)
        return checks.converted(table[np.ascontiguousarray(x).view(np.uint16)], x.dtype, out)
    if checks.scale_dtype(scale) == np.float16:
        return reference.fake_quant(x, scale, zero_point, qmin, qmax, out=out)
    return _fake_quant(x, (1, 1, x.size), np.asarray([scale], np.float32), np.asarray([zero_point]), qmin, qmax, out)


def fake_quant_axis(
    x: Floats, scale: Floats, zero_point: ArrayLike, axis: int, qmin: int, qmax: int, *, out: Floats | None = None
) -> Floats:
    """Twin of `reference.fake_quant_axis`; a float16 scale is left to the definition."""
    checks.require_grid(x, qmin, qmax)
    step, zero, axis = checks.channels(x, scale, zero_point, axis)
    if step.dtype == np.float16:
        return reference.fake_quant_axis(x, scale, zero_point, axis, qmin, qmax, out=out)
    return _fake_quant(x, _channel_shape(x, axis), step, zero, qmin, qmax, out)


def _fake_quant(
    x: Floats,
    shape: tuple[int, int, int],
    scale: Floats,
    zero_point: Integers,
    qmin: int,
    qmax: int,
    out: Floats | None,
) -> Floats:
    made = checks.memory(out if x.dtype == np.float32 else None, x.shape, np.dtype(np.float32))
    values = checks.apart(_contiguous(x, np.dtype(np.float32)), out)
    low, high = np.float32(qmin), np.float32(qmax)
    zero = zero_point.astype(np.float32)
    if _narrow(shape):
        rows, steps, zeros = _columns(shape, scale, zero)
        loops.fake_quant_columns(values.reshape(rows), made.reshape(rows), steps, zeros, low, high)
    else:
        loops.fake_quant_rows(values.reshape(shape), made.reshape(shape), scale, zero, low, high)
    return checks.converted(made, x.dtype, out)


def quantize(
    x: Floats,
    scale: float | np.floating[Any],
    zero_point: int,
    qmin: int,
    qmax: int,
    dtype: DTypeLike,
    *,
    out: Integers | None = None,
) -> Integers:
    """Twin of `reference.quantize`."""
    checks.require_grid(x, qmin, qmax)
    storage = checks.storage_dtype(dtype, qmin, qmax)
    if _by_table(x, scale):
        table = reference.quantize(_ALL_HALVES, scale, zero_point, qmin, qmax, storage)
        return checks.converted(table[np.ascontiguousarray(x).view(np.uint16)], storage, out)
    if checks.scale_dtype(scale) == np.float16 and storage != np.int32:
        return reference.quantize(x, scale, zero_point, qmin, qmax, storage, out=out)
    return _quantize(x, (1, 1, x.size), np.asarray([scale]), np.asarray([zero_point]), qmin, qmax, storage, out)


def quantize_axis(
    x: Floats,
    scale: Floats,
    zero_point: ArrayLike,
    axis: int,
    qmin: int,
    qmax: int,
    dtype: DTypeLike,
    *,
    out: Integers | None = None,
) -> Integers:
    """Twin of `reference.quantize_axis`; a float16 scale is left to the definition."""
    checks.require_grid(x, qmin, qmax)
    storage = checks.storage_dtype(dtype, qmin, qmax)
    step, zero, axis = checks.channels(x, scale, zero_point, axis)
    if step.dtype == np.float16 and storage != np.int32:
        return reference.quantize_axis(x, scale, zero_point, axis, qmin, qmax, storage, out=out)
    return _quantize(x, _channel_shape(x, axis), step, zero, qmin, qmax, storage, out)


def _quantize(
    x: Floats,
    shape: tuple[int, int, int],
    scale: Floats,
    zero_point: Integers,
    qmin: int,
    qmax: int,
    storage: np.dtype[Any],
    out: Integers | None,
) -> Integers:
    working: np.dtype[np.floating[Any]] = np.dtype(np.float64) if storage == np.int32 else np.dtype(np.float32)
    made = checks.memory(out, x.shape, storage)
    values = checks.apart(_contiguous(x, working), out)
    low, high = working.type(qmin), working.type(qmax)
    step, zero = scale.astype(working), zero_point.astype(working)
    if _narrow(shape):
        rows, steps, zeros = _columns(shape, step, zero)
        loops.quantize_columns(values.reshape(rows), made.reshape(rows), steps, zeros, low, high)
    else:
        loops.quantize_rows(values.reshape(shape), made.reshape(shape), step, zero, low, high)
    return made


def dequantize(q: Integers, scale: float | np.floating[Any], zero_point: int, *, out: Floats | None = None) -> Floats:
    """Twin of `reference.dequantize`."""
    checks.require_storage(q.dtype)
    step = np.asarray([scale], checks.scale_dtype(scale))
    return _dequantize(q, (1, 1, q.size), step, np.asarray([zero_point]), out)


def dequantize_axis(
    q: Integers, scale: Floats, zero_point: ArrayLike, axis: int, *, out: Floats | None = None
) -> Floats:
    """Twin of `reference.dequantize_axis`."""
    checks.require_storage(q.dtype)
    step, zero, axis = checks.channels(q, scale, zero_point, axis)
    return _dequantize(q, _channel_shape(q, axis), step, zero, out)


def _dequantize(
    q: Integers, shape: tuple[int, int, int], scale: Floats, zero_point: Integers, out: Floats | None
) -> Floats:
    made = checks.memory(out if scale.dtype == np.float32 else None, q.shape, np.dtype(np.float32))
    values = checks.apart(np.ascontiguousarray(q), out)
    step = np.asarray(scale, np.float32)
    zero = zero_point.astype(np.dtype(np.float64) if q.dtype == np.int32 else np.dtype(np.float32))
    if _narrow(shape):
        rows, steps, zeros = _columns(shape, step, zero)
        loops.dequantize_columns(values.reshape(rows), made.reshape(rows), steps, zeros)
    else:
        loops.dequantize_rows(values.reshape(shape), made.reshape(shape), step, zero)
    return checks.converted(made, scale.dtype, out)


class _Keys:
    """How the bits of one float dtype become integers in the order of the floats, and back.

    Invariants:
        * key(b) = b ^ ((b >> (bits - 1)) & max) is its own inverse and monotone from -inf to +inf.
        * `top` is the key of +inf and `bottom` that of -inf; NaN lies above or below both.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.float = dtype
        self.dtype = np.dtype(f"i{dtype.itemsize}")
        self.shift = self.dtype.type(8 * dtype.itemsize - 1)
        self.mask = self.dtype.type(np.iinfo(self.dtype).max)
        self.top = np.array(np.inf, dtype).view(self.dtype)[()]
        self.bottom = ~self.top
        self.limits = np.array([self.shift, self.mask, self.top, self.bottom])

    def floats(self, keys: NDArray[Any]) -> Floats:
        """Return the floats of keys; adding +0.0 turns -0.0 into +0.0 and changes nothing else."""
        bits = keys ^ ((keys >> self.shift) & self.mask)
        return np.asarray(bits.view(self.float) + self.float.type(0))


@functools.cache
def _keys(dtype: np.dtype[Any]) -> _Keys:
    return _Keys(dtype)


def _by_table(x: Floats, scale: object) -> bool:
    """Say whether looking up each float16 value costs less than computing every element."""
    return x.dtype == np.float16 and checks.scale_dtype(scale) == np.float16 and x.size >= 2**17


def _flat(x: NDArray[Any]) -> NDArray[Any]:
    """View or copy as one dimension, in whatever order costs least: for kernels where order does not matter."""
    return np.ascontiguousarray(x.ravel(order="K"))


def _contiguous(x: Floats, dtype: np.dtype[np.floating[Any]]) -> Floats:
    """View or copy as C-contiguous `dtype`; what overflows becomes an infinity, which saturates as it should."""
    return np.ascontiguousarray(checks.converted(x, dtype))


def _channel_shape(x: NDArray[Any], axis: int) -> tuple[int, int, int]:
    """Return (outer, C, inner): what lies before, along and behind the axis; one channel is one row."""
    if x.shape[axis] == 1:
        return 1, 1, x.size
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


def _narrow(shape: tuple[int, int, int]) -> bool:
    """Say whether rows are so short that they leave no room for vector instructions."""
    return shape[1] > 1 and shape[2] < _NARROW


def _columns(
    shape: tuple[int, int, int], scale: Floats, zero_point: NDArray[Any]
) -> tuple[tuple[int, int], Floats, NDArray[Any]]:
    """Turn short rows into columns: the shape (outer, C * inner) and one scale and zero point for each column."""
    outer, count, inner = shape
    return (outer, count * inner), np.repeat(scale, inner), np.repeat(zero_point, inner)


def _rows_of_counts(x: NDArray[Any], columns: int) -> Integers:
    """Return four rows of zeros for `loops.scatter`, in 32 bits where they suffice: more bins stay in fast cache."""
    return np.zeros((4, columns), np.uint32 if x.size < 2**32 else np.int64)


def _total(counts: Integers, bins: int) -> Counts:
    return np.asarray(counts[:, :bins].sum(axis=0, dtype=np.int64))
