"""What the arguments of a kernel must satisfy: checks shared by definitions and twins."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike, DTypeLike, NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]
Counts: TypeAlias = NDArray[np.int64]
Doubles: TypeAlias = NDArray[np.float64]

_FLOATS = frozenset(np.dtype(name) for name in ("float16", "float32", "float64"))


def require_floats(x: Floats) -> None:
    """Refuse what is not a float16, float32 or float64 array in the machine's byte order.

    Args:
        x: Array of any shape.

    Raises:
        TypeError: The dtype is another one.
    """
    if x.dtype not in _FLOATS:
        raise TypeError(f"got an array of {x.dtype}; allowed are float16, float32 and float64: convert it with astype")


def require_lattice(exponent: int, first_bin: int, bins: int) -> None:
    """Refuse a lattice whose bin numbers float64 cannot hold exactly.

    Args:
        exponent: Bins are 2**exponent wide.
        first_bin: Number of the first bin.
        bins: How many bins.

    Raises:
        ValueError: A number is out of range.
    """
    if not -1022 <= exponent <= 1022:
        raise ValueError(f"exponent is {exponent}; a bin width 2**exponent needs an exponent in -1022..1022")
    if not 1 <= bins < 2**31:
        raise ValueError(f"bins is {bins}; allowed are 1..2**31 - 1")
    if first_bin < -(2**53) or first_bin + bins > 2**53:
        raise ValueError(f"bins {first_bin}..{first_bin + bins - 1} leave -2**53..2**53; take a larger exponent")


def counters(into: Counts | None, bins: int) -> Counts:
    """Return counters of shape (bins,) to add to: those given, or zeros.

    Args:
        into: Counters of the caller, or None.
        bins: How many bins.

    Raises:
        ValueError: The given ones cannot be added to.
    """
    if into is None:
        return np.zeros(bins, np.int64)
    _require_memory("into", into, (bins,), np.dtype(np.int64))
    return into


def memory(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return memory for a result: that of the caller, or new.

    Args:
        out: Array of the caller, or None.
        shape: Shape of the result.
        dtype: Type of the result.

    Raises:
        ValueError: The given one cannot hold the result.
    """
    if out is None:
        return np.empty(shape, dtype)
    _require_memory("out", out, shape, dtype)
    return out


def _require_memory(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    contiguous, writeable = array.flags.c_contiguous, array.flags.writeable
    if array.dtype != dtype or array.shape != shape or not contiguous or not writeable:
        raise ValueError(
            f"{name} takes a writeable, contiguous {dtype} array of shape {shape}; got {array.dtype} of shape "
            f"{array.shape}, {'' if contiguous else 'not '}contiguous, {'writeable' if writeable else 'read-only'}"
        )


def apart(source: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    """Return what a loop reads, copied where writing a contiguous result would change what it has not read yet.

    Writing over an element that was just read, `out` being the source itself, changes nothing.

    Args:
        source: Contiguous array that is read.
        out: Memory of the caller that is written, or None.

    Returns:
        `source`, or a copy.
    """
    if out is None or not np.may_share_memory(source, out):
        return source
    in_place = source.itemsize == out.itemsize and source.size == out.size and source.ctypes.data == out.ctypes.data
    return source if in_place else source.copy()


def outside_lattice(exponent: int, first_bin: int, bins: int) -> ValueError:
    """Make the error for finite elements that no bin holds."""
    return ValueError(
        f"finite elements lie outside bins {first_bin}..{first_bin + bins - 1} of width 2**{exponent}; "
        "choose first_bin and bins from min_max"
    )


def require_counts(counts: Counts, levels: int) -> None:
    """Refuse counts and levels that no threshold can be found for.

    Args:
        counts: Counts of the bins.
        levels: Levels the bins are to be laid on.

    Raises:
        TypeError: The counts are not int64 of one dimension.
        ValueError: A count is negative, all are 0, or there are no levels.
    """
    if counts.dtype != np.int64 or counts.ndim != 1:
        raise TypeError(f"got counts of {counts.dtype} and shape {counts.shape}; allowed is int64 of shape (n,)")
    if not counts.any() or counts.min() < 0:
        raise ValueError("a histogram needs counts of at least 0 that are not all 0")
    if not 1 <= levels <= 2**32:
        raise ValueError(f"levels is {levels}; allowed are 1..2**32")


def require_points(x: Floats, share: Floats, step: Floats, first: Floats, levels: int) -> None:
    """Refuse points and grids whose error `mse_curve` cannot compute.

    Args:
        x: Points, in bin widths.
        share: Their weights.
        step: Steps of the grids.
        first: First levels of the grids.
        levels: How many levels each grid has.

    Raises:
        TypeError: An array is not float64 of one dimension.
        ValueError: Shapes differ, there are no levels, a number is not finite, or the points are not as asked for.
    """
    for array in (x, share, step, first):
        if array.dtype != np.float64 or array.ndim != 1:
            raise TypeError(f"got an array of {array.dtype} and shape {array.shape}; allowed is float64 of shape (n,)")
        if not np.isfinite(array).all():
            raise ValueError("points, weights, steps and first levels need to be finite")
    if x.shape != share.shape or step.shape != first.shape:
        raise ValueError(
            f"got {x.size} points with {share.size} weights and {step.size} steps with {first.size} first levels; "
            "each needs its own"
        )
    if not 1 <= levels <= 2**32:
        raise ValueError(f"levels is {levels}; allowed are 1..2**32")
    if step.size and step.min() <= 0:
        raise ValueError(f"the smallest step is {step.min()}; steps are above 0")
    if np.abs(x).max(initial=0.0) >= 2.0**31 or (np.diff(np.floor(x)) < 1).any():
        raise ValueError("points ascend, with at most one in each bin, and lie within -2**31..2**31 bin widths")


def widened(x: Floats, lo: float, hi: float, bins: int) -> Floats:
    """Return `x`, as float64 where `numpy.histogram` cannot count in its own dtype.

    That is where the dtype cannot hold lo, hi or hi - lo, and where it is so coarse that the rounded difference of the
    two edges reaches a bin beyond the last.
    """
    lo, hi = (lo - 0.5, hi + 0.5) if lo == hi else (lo, hi)
    with np.errstate(over="ignore", invalid="ignore"):
        ends = np.array([lo, hi]).astype(x.dtype)
        spread = float(ends[1] - ends[0])
    narrow = np.isfinite(ends).all() and hi > lo and spread / (hi - lo) * bins < bins + 1
    return x if narrow else x.astype(np.float64)


def converted(x: NDArray[Any], dtype: DTypeLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return `x` in another dtype, or itself; what is too large for a float becomes an infinity without a warning.

    Args:
        x: Array of any shape.
        dtype: What it is to become.
        out: Memory for the result, which may be that of `x`, or None.

    Raises:
        ValueError: `out` cannot hold the result.
    """
    with np.errstate(over="ignore", under="ignore"):
        if out is None:
            return x.astype(dtype, copy=False)
        if memory(out, x.shape, np.dtype(dtype)) is not x:
            np.copyto(out, x, casting="unsafe")
        return out


def scale_dtype(scale: object) -> np.dtype[np.floating[Any]]:
    """Return the precision a scale asks for: float16 for a NumPy float16, float32 for everything else."""
    return np.dtype(np.float16 if getattr(scale, "dtype", None) == np.float16 else np.float32)


def require_storage(dtype: np.dtype[Any]) -> None:
    """Refuse an integer dtype that stores no grid.

    Args:
        dtype: The dtype.

    Raises:
        TypeError: It is not one of int8, uint8, int16, uint16 and int32.
    """
    if dtype not in (np.int8, np.uint8, np.int16, np.uint16, np.int32):
        raise TypeError(f"got integers of {dtype}; allowed are int8, uint8, int16, uint16 and int32")


def storage_dtype(dtype: DTypeLike, qmin: int, qmax: int) -> np.dtype[Any]:
    """Return the dtype that stores a grid, after checking that it can.

    Args:
        dtype: What was asked for.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.

    Returns:
        The dtype.

    Raises:
        TypeError: It is not one of int8, uint8, int16, uint16 and int32.
        ValueError: It cannot hold qmin and qmax.
    """
    storage = np.dtype(dtype)
    require_storage(storage)
    info = np.iinfo(storage)
    if qmin < info.min or qmax > info.max:
        raise ValueError(f"the grid {qmin}..{qmax} does not fit {storage} ({info.min}..{info.max})")
    return storage


def require_grid(x: Floats, qmin: int, qmax: int) -> None:
    """Refuse what cannot be quantized.

    Args:
        x: Array to quantize.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.

    Raises:
        TypeError: `x` is not a float array.
        ValueError: qmin is above qmax.
    """
    require_floats(x)
    if qmin > qmax:
        raise ValueError(f"qmin {qmin} is above qmax {qmax}")


def channels(x: NDArray[Any], scale: Floats, zero_point: ArrayLike, axis: int) -> tuple[Floats, NDArray[np.int64], int]:
    """Check scales and zero points against the channels they are for.

    Args:
        x: Array with C entries along `axis`.
        scale: Steps of shape (C,).
        zero_point: Integers of shape (C,).
        axis: The axis; negative counts from the last.

    Returns:
        The steps as float16 or float32, the zero points as int64, and the axis counted from the first.

    Raises:
        ValueError: A shape is not (C,).
        numpy.exceptions.AxisError: `axis` is out of range.
    """
    axis = normalize_axis_index(axis, x.ndim)
    # A result may be written where the caller keeps the scales.
    step = np.array(scale, scale_dtype(scale))
    zero = np.asarray(zero_point, np.int64)
    want = (x.shape[axis],)
    if step.shape != want or zero.shape != want:
        raise ValueError(
            f"axis {axis} of shape {x.shape} needs scale and zero_point of shape {want}; "
            f"got {step.shape} and {zero.shape}"
        )
    return step, zero, axis
