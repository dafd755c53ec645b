"""The definition of every kernel in NumPy; `compiled` holds a twin of each public function with the same bits.

With scale s and zero point z, in float32, rounding half to even (ONNX QuantizeLinear and DequantizeLinear, opset 21):

    q = clip(rint(x / s) + z, qmin, qmax)        dq = (q - z) * s
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike, DTypeLike, NDArray

from quantlab_kernels.blocks import (
    Packed4Bit,
    dequantize_block,
    fake_quant_block,
    quantize_block,
    quantize_pack_4bit,
)
from quantlab_kernels.checks import (
    Counts,
    Floats,
    Integers,
    channels,
    converted,
    counters,
    outside_lattice,
    require_floats,
    require_lattice,
    require_storage,
    scale_dtype,
    storage_dtype,
    widened,
)
from quantlab_kernels.rounding import levels, values
from quantlab_kernels.sums import ErrorSums, error_sums, grid_error_sums
from quantlab_kernels.sweeps import kl_divergences, mse_curve

_BLOCK = 2**16
"""Elements counted at a time, so that the temporary arrays stay in cache."""

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


class MinMax(NamedTuple):
    """Smallest and largest finite element, as scalars of the array's dtype, and how many elements were not finite.

    Invariants:
        * Nothing finite was seen: `lo` is +inf and `hi` is -inf, the neutral element of merging by min and max.
        * A zero bound is +0.0, whichever zeros the array holds, so that any split of the data gives the same bits.
    """

    lo: np.floating[Any]
    hi: np.floating[Any]
    nan_count: int
    inf_count: int


class AxisMinMax(NamedTuple):
    """One `MinMax` per channel: four arrays of shape (C,), the bounds in the array's dtype, the counts in int64."""

    lo: Floats
    hi: Floats
    nan_count: Counts
    inf_count: Counts


class MinMaxLattice(NamedTuple):
    """What one pass for a stream tells: the ends, and the counts of shape (bins,), or None where they do not fit."""

    ends: MinMax
    counts: Counts | None


def min_max(x: Floats) -> MinMax:
    """Find the smallest and the largest finite element and count the rest.

    Args:
        x: Array of any shape, float16, float32 or float64.

    Returns:
        `MinMax(lo, hi, nan_count, inf_count)`; infinities are counted and are not part of the bounds. Without finite
        elements lo is +inf and hi is -inf.

    Raises:
        TypeError: `x` is not a float array.

    Example:
        >>> lo, hi, nans, infs = min_max(np.array([3.0, np.nan, -1.5, np.inf], np.float32))
        >>> float(lo), float(hi), nans, infs
        (-1.5, 3.0, 1, 1)
    """
    require_floats(x)
    found = min_max_axis(x.reshape(1, -1), 0)
    return MinMax(found.lo[0], found.hi[0], int(found.nan_count[0]), int(found.inf_count[0]))


def min_max_axis(x: Floats, axis: int) -> AxisMinMax:
    """Find `min_max` of each of the C channels along one axis.

    Args:
        x: Array of one dimension or more, float16, float32 or float64.
        axis: The axis of the channels; negative counts from the last.

    Returns:
        `AxisMinMax(lo, hi, nan_count, inf_count)`, arrays of shape (C,).

    Raises:
        TypeError: `x` is not a float array.
        numpy.exceptions.AxisError: `axis` is out of range.

    Example:
        >>> found = min_max_axis(np.array([[1.0, -2.0], [np.inf, 4.0]], np.float32), axis=0)
        >>> found.lo.tolist(), found.hi.tolist(), found.inf_count.tolist()
        ([-2.0, 4.0], [1.0, 4.0], [0, 1])
    """
    require_floats(x)
    axis = normalize_axis_index(axis, x.ndim)
    others = tuple(i for i in range(x.ndim) if i != axis)
    zero = x.dtype.type(0)
    with np.errstate(invalid="ignore"):
        lo = np.min(x, axis=others, initial=np.inf)
        hi = np.max(x, axis=others, initial=-np.inf)
    nan_count = np.zeros(lo.shape, np.int64)
    inf_count = np.zeros(lo.shape, np.int64)
    # A NaN or an infinity always shows in the bounds, so clean data is read twice and nothing is allocated.
    if np.isfinite(lo).all() and np.isfinite(hi).all():
        return AxisMinMax(lo + zero, hi + zero, nan_count, inf_count)
    finite = np.isfinite(x)
    lo = np.min(x, axis=others, initial=np.inf, where=finite)
    hi = np.max(x, axis=others, initial=-np.inf, where=finite)
    nan_count += np.count_nonzero(np.isnan(x), axis=others)
    inf_count += np.count_nonzero(np.isinf(x), axis=others)
    return AxisMinMax(lo + zero, hi + zero, nan_count, inf_count)


def lattice_histogram(x: Floats, exponent: int, first_bin: int, bins: int) -> Counts:
    """Count elements on the absolute lattice of bins [k, k + 1) * 2**exponent, k = first_bin, first_bin + 1, ...

    The bin of v is floor(v * 2**-exponent) - first_bin. Scaling by a power of two is exact, so every split of the data
    gives the same counts, and `x * 2**k` counted with `exponent + k` gives those of `x`. NaN and infinities are left
    out.

    Args:
        x: Array of any shape, float16, float32 or float64.
        exponent: Bins are 2**exponent wide, in units of x; -1022..1022.
        first_bin: Number of the first bin: it begins at first_bin * 2**exponent.
        bins: How many bins.

    Returns:
        Counts of shape (bins,).

    Raises:
        TypeError: `x` is not a float array.
        ValueError: A finite element lies outside the bins, or the lattice is not representable.

    Example:
        >>> lattice_histogram(np.array([-0.1, 0.0, 0.4, 0.5], np.float32), exponent=-1, first_bin=-1, bins=3).tolist()
        [1, 2, 1]
    """
    require_floats(x)
    require_lattice(exponent, first_bin, bins)
    counts = np.zeros(bins, np.int64)
    values = x.reshape(-1)
    for start in range(0, values.size, _BLOCK):
        number = _lattice_numbers(values[start : start + _BLOCK], exponent)
        if number.size and not (number.min() >= first_bin and number.max() < first_bin + bins):
            raise outside_lattice(exponent, first_bin, bins)
        counts += np.bincount((number - first_bin).astype(np.intp), minlength=bins)
    return counts


def min_max_lattice(x: Floats, exponent: int, first_bin: int, bins: int, into: Counts | None = None) -> MinMaxLattice:
    """Find `min_max`, and count as `lattice_histogram` does if the given bins hold everything finite.

    A stream wants both of every batch: the twin finds them in one pass.

    Args:
        x: Array of any shape, float16, float32 or float64.
        exponent: Bins are 2**exponent wide, in units of x; -1022..1022.
        first_bin: Number of the first bin.
        bins: How many bins.
        into: Counters of shape (bins,), writeable contiguous int64, to which the counts are added if they fit; None
            for new ones.

    Returns:
        `MinMaxLattice(ends, counts)`; `counts` has shape (bins,), is `into` where that is given, and is None where a
        finite element lies outside the bins, which leaves `into` as it was.

    Raises:
        TypeError: `x` is not a float array.
        ValueError: The lattice is not representable, or `into` is not as asked for.

    Example:
        >>> x = np.array([0.0, 0.4, 0.5], np.float32)
        >>> min_max_lattice(x, exponent=-1, first_bin=0, bins=2).counts.tolist()
        [2, 1]
        >>> min_max_lattice(x, exponent=-1, first_bin=0, bins=1).counts is None
        True
    """
    require_floats(x)
    require_lattice(exponent, first_bin, bins)
    counts = counters(into, bins)
    ends = min_max(x)
    # A bin number grows with its element: the ends tell of all.
    number = _lattice_numbers(np.array([ends.lo, ends.hi]), exponent)
    if number.size and not (number[0] >= first_bin and number[1] < first_bin + bins):
        return MinMaxLattice(ends, None)
    counts += lattice_histogram(x, exponent, first_bin, bins)
    return MinMaxLattice(ends, counts)


def _lattice_numbers(x: Floats, exponent: int) -> NDArray[np.float64]:
    """Return floor(v * 2**-exponent) of the finite elements."""
    finite = np.isfinite(x)
    values = (x if finite.all() else x[finite]).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        scaled = values * 2.0**-exponent
    number = np.floor(scaled)
    # What vanishes on scaling is still not zero: a negative number belongs below it.
    number -= (scaled == 0) & (values < 0)
    return number


def histogram(x: Floats, lo: float, hi: float, bins: int) -> Counts:
    """Count elements in equal bins over the closed range [lo, hi], exactly as `numpy.histogram` places them.

    Elements outside the range, NaN and infinities are left out. The bounds are taken as Python floats, so that edges
    have the precision of x; a range too wide or too narrow for that dtype, where `numpy.histogram` fails, is counted in
    float64.

    Args:
        x: Array of any shape, float16, float32 or float64.
        lo: Lower edge of the first bin, in units of x; equal to `hi` stands for lo - 0.5 .. hi + 0.5.
        hi: Upper edge of the last bin, which includes it.
        bins: How many bins.

    Returns:
        Counts of shape (bins,).

    Raises:
        TypeError: `x` is not a float array.
        ValueError: The range is not finite or reversed, or is too narrow or too wide for that many bins.

    Example:
        >>> histogram(np.array([0.0, 0.9, 1.0, 2.0], np.float32), 0.0, 2.0, 2).tolist()
        [2, 2]
    """
    require_floats(x)
    lo, hi = float(lo), float(hi)
    counts, _ = np.histogram(widened(x, lo, hi, bins), bins, range=(lo, hi))
    return counts.astype(np.int64, copy=False)


def fake_quant(
    x: Floats, scale: float | np.floating[Any], zero_point: int, qmin: int, qmax: int, *, out: Floats | None = None
) -> Floats:
    """Quantize and dequantize at once: (clip(rint(x / s) + z, qmin, qmax) - z) * s, rounding half to even.

    Special values follow `quantize`, and so does every grid of up to 24 bits; a wider one is rounded to float32.

    Args:
        x: Array of any shape, float16, float32 or float64 (rounded to float32 first).
        scale: Step of the grid in units of x; a `numpy.float16` selects the float16 rule of `quantize`.
        zero_point: Integer that stands for 0.0.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.
        out: Memory for the result: writeable, contiguous, of the shape and dtype of x; None for new memory. It may
            be x itself.

    Returns:
        Array of the shape and dtype of x.

    Raises:
        TypeError: `x` is not a float array.
        ValueError: qmin is above qmax, or `out` is not as asked for.

    Example:
        >>> fake_quant(np.array([0.3, 0.25, 9.0], np.float32), 0.5, 0, -8, 7).tolist()
        [0.5, 0.0, 3.5]
    """
    step = np.asarray(scale, scale_dtype(scale))
    zero = np.asarray(zero_point, np.int64)
    return converted(values(levels(x, step, zero, qmin, qmax), step, zero), x.dtype, out)


def fake_quant_axis(
    x: Floats, scale: Floats, zero_point: ArrayLike, axis: int, qmin: int, qmax: int, *, out: Floats | None = None
) -> Floats:
    """Fake-quantize with one scale and zero point for each of the C channels along `axis`, as `fake_quant` does.

    Args:
        x: Array of one dimension or more, float16, float32 or float64 (rounded to float32 first).
        scale: Steps of shape (C,), float32, or float16 for the float16 rule of `quantize`.
        zero_point: Integers of shape (C,).
        axis: The axis of the channels; negative counts from the last.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.
        out: Memory for the result: writeable, contiguous, of the shape and dtype of x; None for new memory. It may
            be x itself.

    Returns:
        Array of the shape and dtype of x.

    Raises:
        TypeError: `x` is not a float array.
        ValueError: `scale` or `zero_point` does not have shape (C,), qmin is above qmax, or `out` is not as asked for.
        numpy.exceptions.AxisError: `axis` is out of range.
    """
    step, zero = _along(x, scale, zero_point, axis)
    return converted(values(levels(x, step, zero, qmin, qmax), step, zero), x.dtype, out)


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
    """Quantize one tensor: clip(rint(x / s) + z, qmin, qmax), bit-equal to onnxruntime 1.31.1's QuantizeLinear.

    float32 rule (any scale but a float16 one): +inf gives qmax, -inf gives qmin, NaN gives qmin, whatever the length of
    the array and the integer type. There is one deviation: onnxruntime packs 4-bit integers in pairs, and one without a
    partner (the last of an odd number, or any in rows of odd length per axis) follows the float16 rule there, which
    shows on NaN, infinities and quotients of 2**31 and more.

    float16 rule (scale is a `numpy.float16`): x / s is a float32 quotient, rounded and then converted to int32 as x86
    does, where NaN, both infinities and everything outside int32 become -2**31; the zero point is added modulo 2**32
    before clipping. So +inf gives qmin for z >= 0, and all of these give qmax for z < 0. That is what onnxruntime
    computes on x86-64, and a reason to look for infinities before quantizing float16.

    int32 rule (dtype is int32, used for biases; onnxruntime has no such QuantizeLinear): the same in float64.

    Args:
        x: Array of any shape, float16, float32 or float64 (rounded to float32 first, except in the int32 rule).
        scale: Step of the grid in units of x; a `numpy.float16` selects the float16 rule.
        zero_point: Integer that stands for 0.0.
        qmin: Smallest integer of the grid; 4-bit grids are narrower than their storage.
        qmax: Largest integer of the grid.
        dtype: Storage: int8, uint8, int16, uint16 or int32 (which selects the int32 rule).
        out: Memory for the result: writeable, contiguous, of the shape of x and the given dtype; None for new memory.

    Returns:
        Array of the shape of x and the given dtype.

    Raises:
        TypeError: `x` is not a float array, or `dtype` is not one of the five.
        ValueError: qmin is above qmax, the dtype cannot store both, or `out` is not as asked for.

    Example:
        >>> quantize(np.array([0.25, 0.75, -9.0], np.float32), 0.5, 0, -8, 7, np.int8).tolist()
        [0, 2, -8]
    """
    storage = storage_dtype(dtype, qmin, qmax)
    step = np.asarray(scale, np.dtype(np.float64) if storage == np.int32 else scale_dtype(scale))
    return converted(levels(x, step, np.asarray(zero_point, np.int64), qmin, qmax), storage, out)


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
    """Quantize with one scale and zero point for each of the C channels along `axis`, by the rules of `quantize`.

    Args:
        x: Array of one dimension or more, float16, float32 or float64 (rounded to float32 first, except in the int32
            rule).
        scale: Steps of shape (C,), float32, or float16 for the float16 rule.
        zero_point: Integers of shape (C,).
        axis: The axis of the channels; negative counts from the last.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.
        dtype: Storage: int8, uint8, int16, uint16 or int32.
        out: Memory for the result: writeable, contiguous, of the shape of x and the given dtype; None for new memory.

    Returns:
        Array of the shape of x and the given dtype.

    Raises:
        TypeError: `x` is not a float array, or `dtype` is not one of the five.
        ValueError: A shape is not (C,), qmin is above qmax, the dtype cannot store both, or `out` is not as asked for.
        numpy.exceptions.AxisError: `axis` is out of range.
    """
    storage = storage_dtype(dtype, qmin, qmax)
    step, zero = _along(x, scale, zero_point, axis)
    step = step.astype(np.float64) if storage == np.int32 else step
    return converted(levels(x, step, zero, qmin, qmax), storage, out)


def dequantize(q: Integers, scale: float | np.floating[Any], zero_point: int, *, out: Floats | None = None) -> Floats:
    """Turn integers back into values, (q - z) * s, bit-equal to onnxruntime 1.31.1's DequantizeLinear.

    The difference is exact, becomes float32, and is multiplied in float32; a float16 result is rounded once more.

    Args:
        q: Array of any shape, int8, uint8, int16, uint16 or int32.
        scale: Step of the grid.
        zero_point: Integer that stands for 0.0.
        out: Memory for the result: writeable, contiguous, of the shape of q and the dtype of the result; None for new
            memory.

    Returns:
        Array of the shape of q: float16 where scale is a `numpy.float16`, else float32.

    Raises:
        TypeError: `q` is not of one of the five dtypes.
        ValueError: `out` is not as asked for.

    Example:
        >>> dequantize(np.array([-8, 1], np.int8), 0.5, 0).tolist()
        [-4.0, 0.5]
    """
    require_storage(q.dtype)
    step = np.asarray(scale, scale_dtype(scale))
    return converted(values(q, step, np.asarray(zero_point, np.int64)), step.dtype, out)


def dequantize_axis(
    q: Integers, scale: Floats, zero_point: ArrayLike, axis: int, *, out: Floats | None = None
) -> Floats:
    """Turn integers back with one scale and zero point for each of the C channels along `axis`, as `dequantize` does.

    Args:
        q: Array of one dimension or more, int8, uint8, int16, uint16 or int32.
        scale: Steps of shape (C,), float32 or float16.
        zero_point: Integers of shape (C,).
        axis: The axis of the channels; negative counts from the last.
        out: Memory for the result: writeable, contiguous, of the shape of q and the dtype of the result; None for new
            memory.

    Returns:
        Array of the shape of q and the dtype of scale.

    Raises:
        TypeError: `q` is not of one of the five dtypes.
        ValueError: `scale` or `zero_point` does not have shape (C,), or `out` is not as asked for.
        numpy.exceptions.AxisError: `axis` is out of range.
    """
    require_storage(q.dtype)
    step, zero = _along(q, scale, zero_point, axis)
    return converted(values(q, step, zero), step.dtype, out)


def _along(x: NDArray[Any], scale: Floats, zero_point: ArrayLike, axis: int) -> tuple[Floats, NDArray[np.int64]]:
    step, zero, axis = channels(x, scale, zero_point, axis)
    shape = [1] * x.ndim
    shape[axis] = -1
    return step.reshape(shape), zero.reshape(shape)
