"""The loops of `sums` for machine code: a few short passes over each row of lanes, which vectorize where one does not.

The compiler checks at run time that what a pass writes does not overlap with what it reads, and gives up where there is
too much to check. So each pass has one or two inputs, and all that it adds to lies in one array, a row after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quantlab_kernels.loops import Array, level, machine_code

LANES = 256
"""As in `sums`; a constant of the machine code."""
SIGNAL, OTHER, NOISE, DOT, INSIDE, BELOW, ABOVE, LARGEST = (row * LANES for row in range(8))
"""Where each row of `totals` begins."""


@machine_code
def started() -> Array:
    """Return the totals of nothing."""
    return np.zeros(8 * LANES)


@machine_code
def error_sums(x: Array, other: Array, grid: Array, lo: Array, hi: Array) -> tuple[Array, int, int]:
    """Return what `folded` does, and how many elements lie below and above the grid.

    `lo` and `hi` have the size of `x`, or hold one row of equal numbers.
    """
    totals, ends = started(), empty_ends(x.dtype)
    below, above = 0, 0
    whole = lo.size == x.size
    for start in range(0, x.size, LANES):
        end = min(start + LANES, x.size)
        v, g = x[start:end], grid[start:end]
        a = lo[start:end] if whole else lo[: end - start]
        b = hi[start:end] if whole else hi[: end - start]
        powers(v, other[start:end], totals)
        extremes(v, ends)
        if outside(v, a, b):
            below += smaller(v, a)
            above += larger(v, b)
            clipped(v, g, a, b, totals)
        else:
            unclipped(v, g, totals)
    return folded(totals, ends), below, above


@machine_code
def grid_error_sums(
    x: Array, q: Array, scale: Any, zero: Any, qmin: Any, qmax: Any, lo: Array, hi: Array
) -> tuple[Array, int, int]:
    """The same, where `other` is made of integers, and `grid` of `x`, by one scale and zero point."""
    totals, ends = started(), empty_ends(x.dtype)
    below, above = 0, 0
    other, grid = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for start in range(0, x.size, LANES):
        v, integers = x[start : start + LANES], q[start : start + LANES]
        for i in range(v.size):
            other[i] = (np.float32(integers[i]) - zero) * scale
        for i in range(v.size):
            grid[i] = (level(v[i], scale, zero, qmin, qmax) - zero) * scale
        powers(v, other, totals)
        extremes(v, ends)
        if outside(v, lo, hi):
            below += smaller(v, lo)
            above += larger(v, hi)
            clipped(v, grid, lo, hi, totals)
        else:
            unclipped(v, grid, totals)
    return folded(totals, ends), below, above


@machine_code
def folded(totals: Array, ends: Array) -> Array:
    """Add up the lanes in their order: seven sums, and the largest, least and most of all."""
    found = np.empty(10)
    for row in range(7):
        total = totals[row * LANES]
        for lane in range(1, LANES):
            total += totals[row * LANES + lane]
        found[row] = total
    found[7] = totals[LARGEST:].max()
    found[8] = ends[:LANES].min()
    found[9] = ends[LANES:].max()
    return found


@machine_code
def powers(x: Array, y: Array, totals: Array) -> None:
    """Add x^2, y^2, (x - y)^2 and xy, and raise the largest |x - y|; a comparison with NaN is false."""
    for i in range(x.size):
        v, w = np.float64(x[i]), np.float64(y[i])
        error = v - w
        distance = abs(error)
        totals[SIGNAL + i] += v * v
        totals[OTHER + i] += w * w
        totals[NOISE + i] += error * error
        totals[DOT + i] += v * w
        totals[LARGEST + i] = distance if distance > totals[LARGEST + i] else totals[LARGEST + i]


@machine_code
def unclipped(x: Array, g: Array, totals: Array) -> None:
    """Add (x - g)^2, where no element lies outside the grid; the other sums would get zeros."""
    for i in range(x.size):
        error = np.float64(x[i]) - np.float64(g[i])
        totals[INSIDE + i] += error * error


@machine_code
def clipped(x: Array, g: Array, lo: Array, hi: Array, totals: Array) -> None:
    """Add (x - g)^2 where it belongs."""
    for i in range(x.size):
        v = x[i]
        error = np.float64(v) - np.float64(g[i])
        power = error * error
        if v < lo[i]:
            totals[BELOW + i] += power
        elif v > hi[i]:
            totals[ABOVE + i] += power
        else:
            totals[INSIDE + i] += power


@machine_code
def empty_ends(dtype: Any) -> Array:
    """Return the ends of the lanes of nothing: the least of each, and the most of each."""
    ends = np.empty(2 * LANES, dtype)
    ends[:LANES] = np.inf
    ends[LANES:] = -np.inf
    return ends


@machine_code
def extremes(x: Array, ends: Array) -> None:
    """Widen the ends of each lane by x."""
    for i in range(x.size):
        v = x[i]
        ends[i] = v if v < ends[i] else ends[i]
        ends[LANES + i] = v if v > ends[LANES + i] else ends[LANES + i]


@machine_code
def outside(x: Array, lo: Array, hi: Array) -> bool:
    """Say whether an element lies outside its ends, which have the precision of x."""
    count = 0
    for i in range(x.size):
        count += (x[i] < lo[i]) | (x[i] > hi[i])
    return count > 0


@machine_code
def smaller(x: Array, y: Array) -> int:
    """Count where x < y."""
    count = 0
    for i in range(x.size):
        count += x[i] < y[i]
    return count


@machine_code
def larger(x: Array, y: Array) -> int:
    """Count where x > y."""
    count = 0
    for i in range(x.size):
        count += x[i] > y[i]
    return count
