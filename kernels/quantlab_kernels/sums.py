"""Sums over pairs of arrays: how far one lies from the other, and how much of it a grid's rounding and clipping make.

    signal = sum x^2    other = sum y^2    dot = sum x y    noise = sum (x - y)^2
    rounding + clipped_below + clipped_above = sum (x - g)^2      over lo <= x <= hi, x < lo and x > hi

where y is what is compared with x, and g is x laid on a grid from lo to hi.

Everything is summed in float64, and in one order that vector instructions can follow: element i belongs to lane
i % LANES, each lane adds up its own elements in their order, and at the end the lanes are added up in theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantlab_kernels.checks import (
    Doubles,
    Floats,
    Integers,
    converted,
    require_floats,
    require_grid,
    require_storage,
    scale_dtype,
)
from quantlab_kernels.rounding import levels, values

LANES = 256
"""How many sums are made side by side: rows of 2 KiB, so that all that one row takes stays in the first-level cache."""
_ROWS = 2**8
"""Rows worked on at a time, so that temporary arrays stay in cache."""


class ErrorSums(NamedTuple):
    """Sums of a pair of arrays; the module has the formulas.

    Invariants:
        * Sums are float64; one that meets NaN, or infinities that cancel, is NaN.
        * `largest`, `least`, `most` and the counts pass over NaN; without other elements they are 0, +inf and -inf.

    `below` and `above` count elements outside the grid, `largest` is max |x - y|, `least` and `most` are the ends of x.
    """

    signal: float
    other: float
    noise: float
    dot: float
    rounding: float
    clipped_below: float
    clipped_above: float
    largest: float
    least: float
    most: float
    below: int
    above: int
    size: int


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
        `ErrorSums`: sums of powers and products, of the grid's error inside and outside its ends, the largest
        difference, the ends of x, and counts.

    Raises:
        TypeError: An array is not a float array.
        ValueError: The shapes differ.

    Example:
        >>> x, ends = np.array([1.0, 2.0, 9.0]), (np.array(0.0), np.array(8.0))
        >>> found = error_sums(x, x + 1, np.array([1.0, 2.5, 8.0]), *ends)
        >>> found.signal, found.noise, found.rounding, found.clipped_above, found.above
        (86.0, 3.0, 0.25, 1.0, 1)
    """
    require_pairs(x, other, grid, lo, hi)
    arrays = [np.ravel(array).astype(np.float64, copy=False) for array in (x, other, grid, lo, hi)]
    totals = np.zeros((7, LANES))
    largest, least, most, below, above = 0.0, math.inf, -math.inf, 0, 0
    step = _ROWS * LANES
    for start in range(0, x.size, step):
        v, y, g, a, b = (array if array.size == 1 else array[start : start + step] for array in arrays)
        with np.errstate(all="ignore"):
            under, over, error = v < a, v > b, np.square(v - g)
            inside = ~(under | over)
            parts = [np.square(v), np.square(y), np.square(v - y), v * y]
            parts += [np.where(where, error, 0.0) for where in (inside, under, over)]
            totals = np.stack([_laned(part, total) for part, total in zip(parts, totals, strict=True)])
            largest = float(np.fmax.reduce(np.abs(v - y), initial=largest))
        least, most = float(np.fmin.reduce(v, initial=least)), float(np.fmax.reduce(v, initial=most))
        below, above = below + int(np.count_nonzero(under)), above + int(np.count_nonzero(over))
    with np.errstate(all="ignore"):
        lanes = np.cumsum(totals, axis=1)[:, -1]  # added up in their order
    return finished(lanes.tolist(), (largest, least, most), (below, above, x.size))


def grid_error_sums(
    x: Floats, q: Integers, scale: float | np.floating[Any], zero_point: int, qmin: int, qmax: int
) -> ErrorSums:
    """Sum up how far integers lie from `x`, and how far their own grid takes `x` itself.

    This is `error_sums` of `dequantize(q, scale, zero_point)` and `fake_quant(x, scale, zero_point, qmin, qmax)`. An
    element lies outside the grid where it would be rounded to a level beyond qmin or qmax.

    Args:
        x: Reference array of any shape, float16, float32 or float64.
        q: What it is compared with, of the same shape: int8, uint8, int16, uint16 or int32.
        scale: Step of the grid in units of x; a `numpy.float16` selects the float16 rule of `quantize`.
        zero_point: Integer that stands for 0.0.
        qmin: Smallest integer of the grid.
        qmax: Largest integer of the grid.

    Returns:
        The `ErrorSums` that `error_sums` would give.

    Raises:
        TypeError: `x` is not a float array, or `q` not one of these integers.
        ValueError: The shapes differ, or qmin is above qmax.

    Example:
        >>> x, q = np.array([0.3, 0.7, 9.0], np.float32), np.array([1, 1, 7], np.int8)
        >>> found = grid_error_sums(x, q, 0.5, 0, -8, 7)
        >>> round(found.noise, 2), round(found.rounding, 2), found.clipped_above, found.above
        (30.33, 0.08, 30.25, 1)
    """
    require_integers(x, q, qmin, qmax)
    step, zero = np.asarray(scale, scale_dtype(scale)), np.asarray(zero_point, np.int64)
    grid = converted(values(levels(x, step, zero, qmin, qmax), step, zero), x.dtype)
    return error_sums(x, values(q, step, zero), grid, *grid_ends(scale, zero_point, qmin, qmax))


def grid_ends(
    scale: float | np.floating[Any], zero_point: int, qmin: int, qmax: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far elements may lie from zero to be rounded to a level of the grid: half a step beyond its ends."""
    step = float(np.asarray(scale, scale_dtype(scale)))
    return np.asarray((qmin - 0.5 - zero_point) * step), np.asarray((qmax + 0.5 - zero_point) * step)


def require_integers(x: Floats, q: Integers, qmin: int, qmax: int) -> None:
    """Refuse integers that do not belong to an array, and a grid that is none."""
    require_grid(x, qmin, qmax)
    require_storage(q.dtype)
    if q.shape != x.shape:
        raise ValueError(f"got floats of shape {x.shape} and integers of shape {q.shape}: they need one shape")


def require_pairs(x: Floats, other: Floats, grid: Floats, lo: Floats, hi: Floats) -> None:
    """Refuse arrays that are no floats or do not belong together."""
    for array in (x, other, grid, lo, hi):
        require_floats(array)
    if other.shape != x.shape or grid.shape != x.shape or any(end.shape not in ((), x.shape) for end in (lo, hi)):
        raise ValueError(
            f"got arrays of shapes {x.shape}, {other.shape} and {grid.shape} with ends of shapes {lo.shape} and "
            f"{hi.shape}: the arrays need one shape, and the ends that or ()"
        )


def _laned(values: Doubles, total: Doubles) -> Doubles:
    """Add values to the sums of the lanes, one row of lanes after the other; the last row may be short."""
    rows = np.zeros((1 + -(-values.size // LANES), LANES))
    rows[0] = total
    rows.reshape(-1)[LANES : LANES + values.size] = values
    return np.asarray(np.add.reduce(rows, axis=0, initial=0.0))


def finished(sums: Sequence[float], ends: Sequence[float], counts: tuple[int, int, int]) -> ErrorSums:
    """Return sums in which NaN of any bits is that of Python, and zeros have no sign."""
    clean = (math.nan if math.isnan(value) else value + 0.0 for value in sums)
    signal, other, noise, dot, rounding, below, above = clean
    largest, least, most = (end + 0.0 for end in ends)
    return ErrorSums(signal, other, noise, dot, rounding, below, above, largest, least, most, *counts)
