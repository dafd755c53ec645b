"""A sweep scores every clip threshold of a histogram at once; these are the definitions, and `compiled` has the twins.

Sums of counts are exact integers, and sums of floats run in one stated order, so that a twin has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from quantlab_kernels.checks import Counts, Doubles, require_counts, require_points

__all__ = ["kl_divergences", "mse_curve"]

LevelSums: TypeAlias = Callable[[Counts, Counts, Counts, int, Counts], tuple[Doubles, Doubles]]
CutSums: TypeAlias = Callable[[Doubles, Doubles, Doubles, Doubles, Doubles, Doubles, int], Doubles]

# Numbers worked on at a time: few enough to stay in the cache of one core.
_BLOCK = 2**15


def kl_divergences(counts: Counts, levels: int) -> Doubles:
    """Compute the Kullback-Leibler divergence of every clip threshold of a histogram.

    Keeping i of the n bins with counts c lays them on L levels; bin j goes to level floor(j L / i). What lies beyond
    is added to the last kept bin k that is not empty, and the count of a level is spread over its non-empty bins:

        p_j = c_j + t 1[j = k]        q_j = 1[c_j > 0] S / z        D_i = sum_j p_j log(p_j / q_j), both normalized

    with t the clipped count, and S and z the count and the number of non-empty bins of the level of j. Prefix sums
    C, Z, H of c, 1[c > 0] and c log c give it without a loop over bins; * marks the level of bin k, N is the total:

        N D_i = H_i - c_k log c_k + (c_k + t) log(c_k + t) - sum_levels S log(S / z) - t log(S* / z*) + N log(C_i / N)

    The sum over levels runs from the first to the last. Source: Migacz 2017, "8-bit Inference with TensorRT".

    Args:
        counts: Shape (n,), int64, none below 0, not all 0; the first bin begins at zero.
        levels: How many levels the kept bins are laid on, at least 1.

    Returns:
        Divergences in nats, float64 of shape (n - min(levels, n) + 1,); the first is that of keeping `min(levels, n)`
        bins, the last that of keeping all. A threshold that keeps no value at all has an infinite one.

    Raises:
        TypeError: The counts are not int64 of one dimension.
        ValueError: A count is negative, all are 0, or there are no levels.

    Example:
        >>> kl_divergences(np.array([8, 4, 2, 1]), 2).round(4).tolist()
        [0.038, 0.0574, 0.0566]
    """
    return divergences(counts, levels, _level_sums)


def divergences(counts: Counts, levels: int, level_sums: LevelSums) -> Doubles:
    """Compute `kl_divergences` with one way or another to sum over levels.

    Args:
        counts: As for `kl_divergences`.
        levels: As for `kl_divergences`.
        level_sums: Called with C, Z, the numbers of bins kept, L, and the bin k of each: returns for each number of
            bins the sum over levels of S log(S / z), and log(S* / z*).

    Returns:
        As `kl_divergences`.
    """
    require_counts(counts, levels)
    fewest, total = min(levels, counts.size), float(counts.sum())
    below, occupied = _prefix(counts), _prefix((counts > 0).astype(np.int64))
    entropy = np.concatenate([[0.0], np.cumsum(_x_log_x(counts.astype(np.float64)))])
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(counts.size), 0))
    result = np.full(counts.size - fewest + 1, np.inf)
    kept = np.arange(max(fewest, int(np.argmax(below > 0))), counts.size + 1)
    end = last[kept - 1]
    sums, at_end_level = level_sums(below, occupied, kept, levels, end)
    clipped, at_end = total - below[kept], counts[end].astype(np.float64)
    own = entropy[kept] - _x_log_x(at_end) + _x_log_x(at_end + clipped)
    result[kept - fewest] = (own - (sums + clipped * at_end_level)) / total + np.log(below[kept] / total)
    return np.asarray(np.maximum(result, 0.0))


def _level_sums(below: Counts, occupied: Counts, kept: Counts, levels: int, end: Counts) -> tuple[Doubles, Doubles]:
    sums, at_end_level = np.empty(kept.size), np.empty(kept.size)
    steps = np.arange(levels + 1)[:, None]
    columns = max(1, _BLOCK // levels)
    for start in range(0, kept.size, columns):
        part = slice(start, start + columns)
        # Level g holds the bins from ceil(g i / L) on.
        cuts = -(-(steps * kept[part]) // levels)
        mass, filled = np.diff(below[cuts], axis=0).astype(np.float64), np.diff(occupied[cuts], axis=0)
        # Empty levels have mass 0 and add nothing, whatever their logarithm.
        logs = np.log(np.where(filled > 0, mass / np.maximum(filled, 1), 1.0))
        # A cumulative sum keeps to the order; a sum would add in pairs.
        sums[part] = np.cumsum(mass * logs, axis=0)[-1]
        at_end_level[part] = logs[end[part] * levels // kept[part], np.arange(logs.shape[1])]
    return sums, at_end_level


def mse_curve(x: Doubles, share: Doubles, step: Doubles, first: Doubles, levels: int) -> Doubles:
    """Compute the squared error of laying a histogram on each of many grids.

    A grid has the levels v_g = s (f + g), g = 0..L-1, and halfway between neighbours the cuts c_g = s (f + g - 1/2),
    g = 1..L-1. A point x goes to the nearest level. Going up from level g - 1 to level g changes (v - x)**2 by
    2 s (c_g - x), so that the error follows from that of the level v_p nearest to zero and the cuts between:

        E = sum_j w_j (v_p - x_j)**2 - 2 s [sum_(g <= p) F(c_g) + sum_(g > p) G(c_g)]
        F(c) = sum_(x_j < c) w_j (c - x_j) = c W - X            G(c) = sum_(x_j >= c) w_j (x_j - c) = X' - c W'

    with W, X, the sums of w_j and of w_j x_j below a cut, from prefix sums, and W', X', those above it, from sums that
    begin at the last point. No term of either sum is below zero, and on a grid that holds zero none exceeds the first
    term, sum_j w_j x_j**2: rounding leaves an error of about 1e-12 of it for thousands of shares, and of about 1e-15
    for counts, whose sums are exact where the x_j are whole halves. Cuts are added up from the first to the last.
    Symmetric grids have f = -(L - 1) / 2 or -L / 2, grids for |x| have f = 0, asymmetric ones any f.

    Args:
        x: Middles of the bins, shape (n,), in bin widths: ascending, at most one in each bin [k, k + 1).
        share: Weights of the points, such as their counts or their shares of all values, shape (n,).
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
    return grid_errors(x, share, step, first, levels, cut_sums)


def grid_errors(x: Doubles, share: Doubles, step: Doubles, first: Doubles, levels: int, sum_cuts: CutSums) -> Doubles:
    """Compute `mse_curve` with one way or another to sum over cuts.

    Args:
        x: As for `mse_curve`.
        share: As for `mse_curve`.
        step: As for `mse_curve`.
        first: As for `mse_curve`.
        levels: As for `mse_curve`.
        sum_cuts: Called with x, the sums of w and w x over the points below each point and over the others, both of
            shape (2, n + 1), then s, f, p and L: returns for each grid the sum over cuts of F and G.

    Returns:
        As `mse_curve`.
    """
    require_points(x, share, step, first, levels)
    product = share * x
    below, above = np.zeros((2, x.size + 1)), np.zeros((2, x.size + 1))
    for row, values in enumerate((share, product)):
        np.cumsum(values, out=below[row, 1:])
        np.cumsum(values[::-1], out=above[row, -2::-1])
    pivot = np.clip(np.rint(-first), 0, levels - 1)
    nearest = step * (first + pivot)
    at_nearest = float(np.sum(product * x)) + nearest * (nearest * below[0, -1] - 2 * below[1, -1])
    return np.asarray(np.maximum(at_nearest - 2 * step * sum_cuts(x, below, above, step, first, pivot, levels), 0.0))


def cut_sums(
    x: Doubles, below: Doubles, above: Doubles, step: Doubles, first: Doubles, pivot: Doubles, levels: int
) -> Doubles:
    """Sum F and G over the cuts of each grid, for `grid_errors`."""
    result = np.zeros(step.size)
    g = np.arange(1.0, levels)[:, None]
    columns = max(1, _BLOCK // levels)
    for start in range(0, step.size if levels > 1 else 0, columns):
        part = slice(start, start + columns)
        cut = step[part] * (first[part] + (g - 0.5))
        index = np.searchsorted(x, cut)
        under = cut * below[0][index] - below[1][index]
        over = above[1][index] - cut * above[0][index]
        # A cumulative sum keeps to the order; a sum would add in pairs.
        result[part] = np.cumsum(np.where(g <= pivot[part], under, over), axis=0)[-1]
    return result


def _prefix(values: Counts) -> Counts:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])


def _x_log_x(x: Doubles) -> Doubles:
    return x * np.log(np.where(x > 0, x, 1.0))
