"""The loops of the sweeps, which `compiled` turns into machine code under the rules of `loops`."""

from __future__ import annotations

import numpy as np

from quantlab_kernels.loops import Array, machine_code

CUTS = 256
"""Cuts between levels worked on at a time."""


@machine_code
def level_means(below: Array, occupied: Array, fewest: int, mass: Array, means: Array) -> None:
    """Write the count of each level, and its mean over non-empty bins, or 1 where all are empty.

    Column i of `mass` and `means` (levels, columns) is for fewest + i bins; level g begins at bin ceil(g * bins /
    levels), whose quotient and remainder grow by additions. `below` and `occupied` are prefix sums.
    """
    levels, columns = mass.shape
    quotient, remainder = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    count_before, filled_before = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    step, rest = np.empty(columns, np.int64), np.empty(columns, np.int64)
    for i in range(columns):
        step[i], rest[i] = divmod(fewest + i, levels)
    for g in range(levels):
        row, mean = mass[g], means[g]
        for i in range(columns):
            part = remainder[i] + rest[i]
            carry = part >= levels
            part -= levels * carry
            whole = quotient[i] + step[i] + carry
            quotient[i], remainder[i] = whole, part
            cut = np.uint64(whole + (part > 0))
            count, filled = below[cut], occupied[cut]
            row[i] = np.float64(count - count_before[i])
            inside = filled - filled_before[i]
            mean[i] = row[i] / np.float64(inside) if inside > 0 else 1.0
            count_before[i], filled_before[i] = count, filled


@machine_code
def add_products(left: Array, right: Array, sums: Array) -> None:
    """Add left * right to `sums`, row after row; product and sum are rounded one by one."""
    for g in range(left.shape[0]):
        a, b = left[g], right[g]
        for i in range(sums.size):
            sums[i] += a[i] * b[i]


@machine_code
def cut_table(x: Array, below: Array, above: Array, bins: int) -> Array:
    """Return (2, bins + 1, 4), for F and for G: in row k the first point in bin k or behind it, and X' and W' there.

    Bin 0 is that of the first point. F(c) = c W - X is X' - c W' for X' = -X and W' = -W. The last column is empty: a
    row of four numbers begins at a shifted row number and never lies in two cache lines.
    """
    table = np.zeros((2, bins + 1, 4))
    start = np.floor(x[0]) if x.size else 0.0
    j = 0
    for k in range(bins + 1):
        while j < x.size and x[j] < start + np.float64(k):
            j += 1
        point = x[j] if j < x.size else np.inf
        table[0, k, 0], table[0, k, 1], table[0, k, 2] = point, -below[1, j], -below[0, j]
        table[1, k, 0], table[1, k, 1], table[1, k, 2] = point, above[1, j], above[0, j]
    return table


@machine_code
def cut_sums(
    x: Array,
    below: Array,
    above: Array,
    bins: int,
    step: Array,
    first: Array,
    pivot: Array,
    levels: int,
    out: Array,
) -> None:
    """Write the sum over the cuts of each grid, of F up to cut number `pivot` and of G from there on."""
    tables = cut_table(x, below, above, bins).reshape(2, 4 * (bins + 1))
    start = np.floor(x[0]) if x.size else 0.0
    cuts, bin_of = np.empty(CUTS), np.empty(CUTS, np.int32)
    last = np.float64(bins)
    for t in range(step.size):
        total = 0.0
        begin, turn = 1, int(pivot[t]) + 1
        while begin < levels:
            table, end = (tables[0], turn) if begin < turn else (tables[1], levels)
            size = min(end - begin, CUTS)
            for i in range(size):
                cuts[i] = step[t] * (first[t] + (np.float64(begin + i) - 0.5))
                bin_of[i] = np.int32(min(max(np.floor(cuts[i]) - start, 0.0), last))
            for i in range(size):
                cut = cuts[np.uint64(i)]
                k = np.uint64(bin_of[np.uint64(i)]) << np.uint64(2)
                # The point of this bin, if it has one, may lie below the cut.
                k += np.uint64(table[k] < cut) << np.uint64(2)
                total += table[k + np.uint64(1)] - cut * table[k + np.uint64(2)]
            begin += size
        out[t] = total
