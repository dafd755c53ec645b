"""The kernels quantlab calls: each is one function with a NumPy definition and a Numba twin that gives the same bits.

Which of the two runs is chosen, from the strongest: `using("numpy")` around the call, the environment variable
`QUANTLAB_KERNELS`, and else `auto`, which takes the twin where Numba is installed and the array is large enough to
gain. Numba is imported at the first call that runs a twin.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType, ModuleType
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from quantlab.errors import OptionError, nearest
from quantlab_kernels import reference
from quantlab_kernels.checks import Counts, Doubles, Floats, Integers
from quantlab_kernels.reference import AxisMinMax, ErrorSums, MinMax, MinMaxLattice, Packed4Bit

P = ParamSpec("P")
R = TypeVar("R")
Choice: TypeAlias = Literal["auto", "numpy", "numba"]

VARIABLE = "QUANTLAB_KERNELS"
"""The environment variable that chooses for a whole process."""

CROSSOVER: Mapping[str, int] = MappingProxyType(
    {
        "min_max": 1_000,
        "min_max_axis": 16_000,
        "min_max_lattice": 1_000,
        "lattice_histogram": 1_000,
        "histogram": 1_000,
        "kl_divergences": 256,
        "mse_curve": 64,
        "fake_quant": 1_000,
        "fake_quant_axis": 1_000,
        "quantize": 1_000,
        "quantize_axis": 1_000,
        "dequantize": 2_000,
        "dequantize_axis": 1_000,
        "fake_quant_block": 1_000,
        "quantize_block": 1_000,
        "dequantize_block": 1_000,
        "quantize_pack_4bit": 1_000,
        "error_sums": 1_000,
        "grid_error_sums": 1_000,
    }
)
"""Every kernel and the number of elements from which `auto` prefers its twin.

Below it the two take about the same few microseconds, and a program that only ever meets small arrays never pays for
importing Numba.
"""

__all__ = [
    "CROSSOVER",
    "VARIABLE",
    "AxisMinMax",
    "ErrorSums",
    "MinMax",
    "MinMaxLattice",
    "Packed4Bit",
    "active",
    "choice",
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
    "using",
]

_CHOICES = get_args(Choice)
_chosen: ContextVar[Choice | None] = ContextVar("quantlab_kernels", default=None)


def choice() -> Choice:
    """Return what is asked for here: "auto", "numpy" or "numba".

    Raises:
        OptionError: The environment variable holds something else.

    Example:
        >>> with using("numpy"):
        ...     choice()
        'numpy'
    """
    chosen = _chosen.get()
    return chosen if chosen is not None else _parse(os.environ.get(VARIABLE) or "auto", f"{VARIABLE}=")


@contextmanager
def using(kernels: Choice) -> Iterator[None]:
    """Choose the kernels inside a `with` block, for this thread or task only.

    Args:
        kernels: "numpy" for the definitions, "numba" for the twins whatever the size, "auto" for whichever is faster.

    Raises:
        OptionError: The name is unknown, or "numba" is asked for and cannot be imported.

    Example:
        >>> with using("numpy"):
        ...     active().__name__
        'quantlab_kernels.reference'
    """
    parsed = _parse(kernels, "kernels=")
    if parsed == "numba":
        _require_twins()
    token = _chosen.set(parsed)
    try:
        yield
    finally:
        _chosen.reset(token)


def active() -> ModuleType:
    """Return the module whose functions run on large arrays: `quantlab_kernels.reference` or `.compiled`.

    Raises:
        OptionError: The environment variable is wrong, or "numba" is asked for and cannot be imported.
    """
    asked = choice()
    if asked == "numba":
        return _require_twins()
    return reference if asked == "numpy" or not _has_numba() else (_twins() or reference)


def min_max(x: Floats) -> MinMax:
    """Find the smallest and the largest finite element and count the rest.

    Args:
        x: Array of any shape, float16, float32 or float64.

    Returns:
        `MinMax(lo, hi, nan_count, inf_count)`; without finite elements lo is +inf and hi is -inf.

    Raises:
        TypeError: `x` is not a float array.

    Example:
        >>> lo, hi, nans, infs = min_max(np.array([3.0, np.nan, -1.5, np.inf], np.float32))
        >>> float(lo), float(hi), nans, infs
        (-1.5, 3.0, 1, 1)
    """
    return _pick(reference.min_max, x.size)(x)


def min_max_axis(x: Floats, axis: int) -> AxisMinMax:
    """Find `min_max` of each of the C channels along `axis`.

    Args:
        x: Array of one dimension or more, float16, float32 or float64.
        axis: The axis of the channels; negative counts from the last.

    Returns:
        `AxisMinMax(lo, hi, nan_count, inf_count)`, arrays of shape (C,).

    Raises:
        TypeError: `x` is not a float array.
        numpy.exceptions.AxisError: `axis` is out of range.
    """
    return _pick(reference.min_max_axis, x.size)(x, axis)


def lattice_histogram(x: Floats, exponent: int, first_bin: int, bins: int) -> Counts:
    """Count elements on the absolute lattice of bins [k, k + 1) * 2**exponent, k = first_bin, first_bin + 1, ...

    Args:
        x: Array of any shape, float16, float32 or float64; NaN and infinities are left out.
        exponent: Bins are 2**exponent wide, in units of x; -1022..1022.
        first_bin: Number of the first bin.
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
    return _pick(reference.lattice_histogram, x.size)(x, exponent, first_bin, bins)


def min_max_lattice(x: Floats, exponent: int, first_bin: int, bins: int, into: Counts | None = None) -> MinMaxLattice:
    """Find `min_max`, and count as `lattice_histogram` does if the given bins hold everything finite: in one pass.

    Args:
        x: Array of any shape, float16, float32 or float64.
        exponent: Bins are 2**exponent wide, in units of x; -1022..1022.
        first_bin: Number of the first bin.
        bins: How many bins.
        into: Counters of shape (bins,), writeable contiguous int64, to which the counts are added if they fit; None
            for new ones.

    Returns:
        `MinMaxLattice(ends, counts)`; `counts` has shape (bins,), is `into` where that is given, and is None where a
        finite element lies outside, which leaves `into` as it was.

    Raises:
        TypeError: `x` is not a float array.
        ValueError: The lattice is not representable, or `into` is not as asked for.

    Example:
        >>> min_max_lattice(np.array([0.0, 0.4, 0.5], np.float32), exponent=-1, first_bin=0, bins=2).counts.tolist()
        [2, 1]
    """
    return _pick(reference.min_max_lattice, x.size)(x, exponent, first_bin, bins, into)


def histogram(x: Floats, lo: float, hi: float, bins: int) -> Counts:
    """Count elements in equal bins over [lo, hi], bin for bin as `numpy.histogram` does.

    Args:
        x: Array of any shape, float16, float32 or float64; NaN and what is out of range are left out.
        lo: Lower edge of the first bin, in units of x.
        hi: Upper edge of the last bin, which includes it.
        bins: How many bins.

    Returns:
        Counts of shape (bins,).

    Raises:
        TypeError: `x` is not a float array.
        ValueError: The range is not finite or reversed, or does not suit that many bins.

    Example:
        >>> histogram(np.array([0.0, 0.9, 1.0, 2.0], np.float32), 0.0, 2.0, 2).tolist()
        [2, 2]
    """
    return _pick(reference.histogram, x.size)(x, lo, hi, bins)


def error_sums(x: Floats, other: Floats, grid: Floats, lo: Floats, hi: Floats) -> ErrorSums:
    """Sum up how far `other` and `grid` lie from `x`, in float64 and in one fixed order.

    `quantlab_kernels.sums` has the formulas and the order.

    Args:
        x: Reference array of any shape, float16, float32 or float64.
        other: What it is compared with, of the same shape.
        grid: What a grid makes of it, of the same shape.
        lo: Lower end of the grid, of shape () or that of `x`.
        hi: Upper end of the grid, of shape () or that of `x`.

    Returns:
        Sums of powers and products, of the grid's error inside and outside its ends, largest difference, ends, counts.

    Raises:
        TypeError: An array is not a float array.
        ValueError: The shapes differ.

    Example:
        >>> x, ends = np.array([1.0, 2.0, 9.0]), (np.array(0.0), np.array(8.0))
        >>> found = error_sums(x, x + 1, np.array([1.0, 2.5, 8.0]), *ends)
        >>> found.signal, found.noise, found.rounding, found.clipped_above, found.above
        (86.0, 3.0, 0.25, 1.0, 1)
    """
    return _pick(reference.error_sums, x.size)(x, other, grid, lo, hi)


def grid_error_sums(
    x: Floats, q: Integers, scale: float | np.floating[Any], zero_point: int, qmin: int, qmax: int
) -> ErrorSums:
    """Sum up how far integers lie from `x`, and how far their own grid takes `x` itself, as `error_sums` does.

    Args:
        x: Reference array of any shape, float16, float32 or float64.
        q: What it is compared with, of the same shape: int8, uint8, int16, uint16 or int32.
        scale: Step of the grid in units of x; a `numpy.float16` selects the float16 rule of `quantize`.
        zero_point: Integer that stands for 0.0.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.

    Returns:
        The sums of `error_sums`. Elements count as outside the grid where they would be rounded to a level beyond it.

    Raises:
        TypeError: `x` is not a float array, or `q` not one of these integers.
        ValueError: The shapes differ, or qmin is above qmax.

    Example:
        >>> x, q = np.array([0.3, 0.7, 9.0], np.float32), np.array([1, 1, 7], np.int8)
        >>> found = grid_error_sums(x, q, 0.5, 0, -8, 7)
        >>> round(found.noise, 2), round(found.rounding, 2), found.clipped_above, found.above
        (30.33, 0.08, 30.25, 1)
    """
    return _pick(reference.grid_error_sums, x.size)(x, q, scale, zero_point, qmin, qmax)


def kl_divergences(counts: Counts, levels: int) -> Doubles:
    """Compute the Kullback-Leibler divergence of every clip threshold of a histogram.

    `quantlab_kernels.sweeps.kl_divergences` has the formula.

    Args:
        counts: Shape (n,), int64, none below 0, not all 0; the first bin begins at zero.
        levels: How many levels the kept bins are laid on, at least 1.

    Returns:
        Divergences in nats, of shape (n - min(levels, n) + 1,); the first is that of keeping `min(levels, n)` bins,
        the last that of keeping all. A threshold that keeps no value at all has an infinite one.

    Raises:
        TypeError: The counts are not int64 of one dimension.
        ValueError: A count is negative, all are 0, or there are no levels.

    Example:
        >>> kl_divergences(np.array([8, 4, 2, 1]), 2).round(4).tolist()
        [0.038, 0.0574, 0.0566]
    """
    return _pick(reference.kl_divergences, counts.size)(counts, levels)


def mse_curve(
    x: Doubles,
    share: Doubles,
    step: Doubles,
    first: Doubles,
    levels: int,
) -> Doubles:
    """Compute the squared error of laying a histogram on each of many grids step * (first + g), g = 0..levels-1.

    `quantlab_kernels.sweeps.mse_curve` has the formula.

    Args:
        x: Middles of the bins, shape (n,), in bin widths: ascending, at most one in each bin [k, k + 1).
        share: Weights of the points, for instance their shares of all values, shape (n,).
        step: Steps of the grids in bin widths, above 0, shape (T,).
        first: First levels of the grids, in steps, shape (T,).
        levels: How many levels each grid has, at least 1.

    Returns:
        Weighted squared errors in squared bin widths, shape (T,).

    Raises:
        TypeError: An array is not float64 of one dimension.
        ValueError: Shapes differ, there are no levels, a number is not finite, or the points are not as asked for.

    Example:
        >>> x, share = np.array([0.5, 1.5, 2.5, 9.5]), np.array([0.4, 0.3, 0.2, 0.1])
        >>> mse_curve(x, share, np.array([1.0, 3.0]), np.zeros(2), levels=4).round(3).tolist()
        [4.45, 0.85]
    """
    return _pick(reference.mse_curve, x.size)(x, share, step, first, levels)


def fake_quant(
    x: Floats, scale: float | np.floating[Any], zero_point: int, qmin: int, qmax: int, *, out: Floats | None = None
) -> Floats:
    """Quantize and dequantize at once: (clip(rint(x / s) + z, qmin, qmax) - z) * s, half to even.

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
    return _pick(reference.fake_quant, x.size)(x, scale, zero_point, qmin, qmax, out=out)


def fake_quant_axis(
    x: Floats, scale: Floats, zero_point: ArrayLike, axis: int, qmin: int, qmax: int, *, out: Floats | None = None
) -> Floats:
    """Fake-quantize with one scale and zero point for each of the C channels along `axis`.

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
    return _pick(reference.fake_quant_axis, x.size)(x, scale, zero_point, axis, qmin, qmax, out=out)


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
    """Quantize, clip(rint(x / s) + z, qmin, qmax), bit-equal to onnxruntime's QuantizeLinear.

    NaN gives qmin and infinities saturate, except under the float16 rule; `quantlab_kernels.reference.quantize` says
    what becomes of special values there.

    Args:
        x: Array of any shape, float16, float32 or float64 (rounded to float32 first, except for int32 storage).
        scale: Step of the grid in units of x; a `numpy.float16` selects the float16 rule.
        zero_point: Integer that stands for 0.0.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.
        dtype: Storage: int8, uint8, int16, uint16 or int32 (which divides in float64).
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
    return _pick(reference.quantize, x.size)(x, scale, zero_point, qmin, qmax, dtype, out=out)


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
    """Quantize with one scale and zero point for each of the C channels along `axis`.

    Args:
        x: Array of one dimension or more, float16, float32 or float64.
        scale: Steps of shape (C,), float32, or float16 for the float16 rule of `quantize`.
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
    return _pick(reference.quantize_axis, x.size)(x, scale, zero_point, axis, qmin, qmax, dtype, out=out)


def dequantize(q: Integers, scale: float | np.floating[Any], zero_point: int, *, out: Floats | None = None) -> Floats:
    """Turn integers back into values, (q - z) * s, bit-equal to onnxruntime's DequantizeLinear.

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
    return _pick(reference.dequantize, q.size)(q, scale, zero_point, out=out)


def dequantize_axis(
    q: Integers, scale: Floats, zero_point: ArrayLike, axis: int, *, out: Floats | None = None
) -> Floats:
    """Turn integers back into values with one scale and zero point for each of the C channels along `axis`.

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
    return _pick(reference.dequantize_axis, q.size)(q, scale, zero_point, axis, out=out)


def fake_quant_block(
    x: Floats,
    scale: Floats,
    zero_point: ArrayLike,
    axis: int,
    block_size: int,
    qmin: int,
    qmax: int,
    *,
    out: Floats | None = None,
) -> Floats:
    """Fake-quantize with one scale and zero point for each block of neighbours along `axis`.

    Args:
        x: Array of one dimension or more, float16, float32 or float64 (rounded to float32 first).
        scale: Steps, float32 or float16: shape of x with ceil(C / block_size) in place of the length C of the axis.
        zero_point: Integers of the shape of scale.
        axis: The axis that is cut into blocks; negative counts from the last.
        block_size: Neighbours that share a scale, 1 or more; the last block may be shorter.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.
        out: Memory for the result: writeable, contiguous, of the shape and dtype of x; None for new memory. It may
            be x itself.

    Returns:
        Array of the shape and dtype of x.

    Raises:
        TypeError: `x` is not a float array.
        ValueError: A shape does not fit, block_size is below 1, qmin is above qmax, or `out` is not as asked for.
        numpy.exceptions.AxisError: `axis` is out of range.
    """
    return _pick(reference.fake_quant_block, x.size)(x, scale, zero_point, axis, block_size, qmin, qmax, out=out)


def quantize_block(
    x: Floats,
    scale: Floats,
    zero_point: ArrayLike,
    axis: int,
    block_size: int,
    qmin: int,
    qmax: int,
    dtype: DTypeLike,
    *,
    out: Integers | None = None,
) -> Integers:
    """Quantize with one scale and zero point for each block of neighbours along `axis`.

    Args:
        x: Array of one dimension or more, float16, float32 or float64.
        scale: Steps, float32 or float16: shape of x with ceil(C / block_size) in place of the length C of the axis.
        zero_point: Integers of the shape of scale.
        axis: The axis that is cut into blocks; negative counts from the last.
        block_size: Neighbours that share a scale, 1 or more; the last block may be shorter.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.
        dtype: Storage: int8, uint8, int16, uint16 or int32.
        out: Memory for the result: writeable, contiguous, of the shape of x and the given dtype; None for new memory.

    Returns:
        Array of the shape of x and the given dtype.

    Raises:
        TypeError: `x` is not a float array, or `dtype` is not one of the five.
        ValueError: A shape does not fit, block_size is below 1, qmin is above qmax, the dtype cannot store both, or
            `out` is not as asked for.
        numpy.exceptions.AxisError: `axis` is out of range.

    Example:
        >>> x = np.array([1.0, 2.0, 30.0, 40.0, 500.0], np.float32)
        >>> scale = np.array([1.0, 10.0, 100.0], np.float32)
        >>> quantize_block(x, scale, np.zeros(3, int), 0, 2, -8, 7, np.int8).tolist()
        [1, 2, 3, 4, 5]
    """
    return _pick(reference.quantize_block, x.size)(x, scale, zero_point, axis, block_size, qmin, qmax, dtype, out=out)


def dequantize_block(
    q: Integers, scale: Floats, zero_point: ArrayLike, axis: int, block_size: int, *, out: Floats | None = None
) -> Floats:
    """Turn integers back into values with one scale and zero point for each block of neighbours along `axis`.

    Args:
        q: Array of one dimension or more, int8, uint8, int16, uint16 or int32.
        scale: Steps, float32 or float16: shape of q with ceil(C / block_size) in place of the length C of the axis.
        zero_point: Integers of the shape of scale.
        axis: The axis that is cut into blocks; negative counts from the last.
        block_size: Neighbours that share a scale, 1 or more; the last block may be shorter.
        out: Memory for the result: writeable, contiguous, of the shape of q and the dtype of the result; None for new
            memory.

    Returns:
        Array of the shape of q and the dtype of scale.

    Raises:
        TypeError: `q` is not of one of the five dtypes.
        ValueError: A shape does not fit, block_size is below 1, or `out` is not as asked for.
        numpy.exceptions.AxisError: `axis` is out of range.
    """
    return _pick(reference.dequantize_block, q.size)(q, scale, zero_point, axis, block_size, out=out)


def quantize_pack_4bit(weight: Floats, block_size: int, symmetric: bool) -> Packed4Bit:
    """Round a weight to 4 bits in blocks along its rows and pack it: the bytes of onnxruntime's quantize_matmul_4bits.

    `quantlab_kernels.blocks.quantize_pack_4bit` has the formulas. The twin packs large weights on all cores.

    Args:
        weight: Shape (K, N), float32 or float16.
        block_size: Rows that share a scale: 16, 32, 64, 128 or 256.
        symmetric: Whether the zero point is 8 everywhere; scales may be negative then.

    Returns:
        `Packed4Bit(packed, scale, zero_point)` of shapes (N, blocks, block_size / 2), (N, blocks) and
        (N, ceil(blocks / 2)), as the operator MatMulNBits reads them; `zero_point` is None for symmetric blocks.

    Raises:
        TypeError: The weight is not float32 or float16.
        ValueError: The weight does not have two dimensions, or the block size is not one of the five.

    Example:
        >>> made = quantize_pack_4bit(np.array([[-0.5], [0.0], [1.0]], np.float32), 16, symmetric=False)
        >>> made.packed.shape, round(float(made.scale[0, 0]), 4), made.zero_point.tolist()
        ((1, 1, 8), 0.1, [[133]])
    """
    return _pick(reference.quantize_pack_4bit, weight.size)(weight, block_size, symmetric)


def _pick(kernel: Callable[P, R], size: int) -> Callable[P, R]:
    """Return the definition or its twin, as chosen, for an array of `size` elements."""
    asked = choice()
    if asked == "numpy" or (asked == "auto" and (size < CROSSOVER[kernel.__name__] or not _has_numba())):
        return kernel
    module = _require_twins() if asked == "numba" else _twins()
    return kernel if module is None else cast("Callable[P, R]", getattr(module, kernel.__name__))


def _parse(name: str, what: str) -> Choice:
    if name not in _CHOICES:
        raise OptionError(f"{what}{name!r} is unknown{nearest(name, _CHOICES)} (allowed: {', '.join(_CHOICES)})")
    return cast(Choice, name)


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _twins() -> ModuleType | None:
    """Import the twins; None where Numba is missing or does not work with the installed NumPy."""
    try:
        return importlib.import_module("quantlab_kernels.compiled")
    except ImportError:
        return None


def _require_twins() -> ModuleType:
    module = _twins()
    if module is None:
        raise OptionError(
            "the Numba kernels are asked for but Numba cannot be imported; install it with "
            f"pip install 'quantlab-onnx[numba]', or choose {VARIABLE}=auto or numpy"
        )
    return module
