"""The loops that `compiled` turns into machine code: plain passes over contiguous arrays that vectorize.

Every function is single-threaded and releases the interpreter lock; `fastmath` stays off, so no sum, product or
comparison is reordered. Division never raises (`error_model="numpy"`), which keeps branches out of the loops.
"""
# Numba types the arguments at the first call: the annotations name what the callers pass.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., object])
Array = NDArray[Any]

BLOCK = 4096
"""Elements whose bin numbers are computed at a time: 16 KiB of int32, which stays in the first-level cache."""
EDGE_BLOCK = 256
"""The same where rare elements need a second look: small enough that most blocks have none."""


def machine_code(function: F) -> F:
    """Compile at first call and keep the machine code on disk, or in memory alone where no folder is writable."""
    try:
        return cast(F, numba.njit(nogil=True, error_model="numpy", cache=True)(function))
    except RuntimeError:
        return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


@machine_code
def key_extremes(bits: Array, shift: Any, mask: Any, lo: Any, hi: Any) -> tuple[Any, Any]:
    """Widen [lo, hi] by the order-preserving keys of float bits: b ^ ((b >> shift) & mask).

    Minima of floats do not vectorize because of NaN; those of integers do. The ufuncs keep the integers at the width
    of the float, where operators would widen them to 64 bits.
    """
    for i in range(bits.size):
        key = np.bitwise_xor(bits[i], np.bitwise_and(np.right_shift(bits[i], shift), mask))
        lo = np.minimum(lo, key)
        hi = np.maximum(hi, key)
    return lo, hi


@machine_code
def finite_key_extremes(bits: Array, shift: Any, mask: Any, lo: Any, hi: Any, found: Array) -> None:
    """Write into `found` (lo, hi, NaN, infinities) of keys; infinity is key `lo`, and `hi` is that of -infinity."""
    top, bottom = lo, hi
    nans = 0
    infs = 0
    for i in range(bits.size):
        key = np.bitwise_xor(bits[i], np.bitwise_and(np.right_shift(bits[i], shift), mask))
        finite = (key < top) & (key > bottom)
        infinite = (key == top) | (key == bottom)
        lo = np.minimum(lo, key if finite else top)
        hi = np.maximum(hi, key if finite else bottom)
        infs += infinite
        nans += not (finite | infinite)
    found[0] = min(found[0], lo)
    found[1] = max(found[1], hi)
    found[2] += nans
    found[3] += infs


@machine_code
def key_extremes_rows(bits: Array, shift: Any, mask: Any, lo: Array, hi: Array) -> None:
    """Widen one [lo, hi] per channel; `bits` has shape (outer, C, inner)."""
    for o in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            lo[c], hi[c] = key_extremes(bits[o, c], shift, mask, lo[c], hi[c])


@machine_code
def finite_key_extremes_rows(bits: Array, shift: Any, mask: Any, lo: Any, hi: Any, found: Array) -> None:
    """Fill `found`, one row (lo, hi, NaN, infinities) per channel; `bits` has shape (outer, C, inner)."""
    for o in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            finite_key_extremes(bits[o, c], shift, mask, lo, hi, found[c])


@machine_code
def key_extremes_columns(bits: Array, shift: Any, mask: Any, lo: Array, hi: Array) -> None:
    """Widen one [lo, hi] per column; `bits` has shape (rows, columns)."""
    for r in range(bits.shape[0]):
        row = bits[r]
        for i in range(row.size):
            key = np.bitwise_xor(row[i], np.bitwise_and(np.right_shift(row[i], shift), mask))
            lo[i] = np.minimum(lo[i], key)
            hi[i] = np.maximum(hi[i], key)


@machine_code
def scatter(bin_of: Array, counts: Array) -> None:
    """Add one to the count of every bin number; `counts` has four rows.

    Equal neighbours, such as the zeros of a Relu, would wait for each other's store; four private rows let them pass.
    Unsigned indices spare the test for a negative one.
    """
    first, second, third, fourth = counts[0], counts[1], counts[2], counts[3]
    whole = bin_of.size // 4
    for i in range(whole):
        j = np.uint64(4 * i)
        first[np.uint64(bin_of[j])] += 1
        second[np.uint64(bin_of[j + np.uint64(1)])] += 1
        third[np.uint64(bin_of[j + np.uint64(2)])] += 1
        fourth[np.uint64(bin_of[j + np.uint64(3)])] += 1
    for i in range(4 * whole, bin_of.size):
        first[np.uint64(bin_of[i])] += 1


@machine_code
def lattice_counts(x: Array, factor: Any, first: Any, end: Any, counts: Array) -> None:
    """Count floor(x * factor) - first into `counts` (4, bins + 1), the last column for what is in no bin.

    `factor`, `first` and `end` have the dtype in which the products are exact.
    """
    bin_of = np.empty(BLOCK, np.int32)
    left_out = np.int32(counts.shape[1] - 1)
    for start in range(0, x.size, BLOCK):
        block = x[start : start + BLOCK]
        for i in range(block.size):
            number = np.floor(type(factor)(block[i]) * factor)
            inside = (number >= first) & (number < end)
            bin_of[i] = np.int32(number - first) if inside else left_out
        scatter(bin_of[: block.size], counts)


@machine_code
def exact_bin(v: Any, edges: Array, width: Any) -> int:
    """Place one element of the range as numpy.histogram does: guess by division, correct by the edges."""
    last = edges.size - 2
    k = int((np.float64(v - edges[0]) / width) * np.float64(last + 1))
    k = min(k, last)
    if v < edges[k]:
        k -= 1
    if k != last and v >= edges[k + 1]:
        k += 1
    return k


@machine_code
def edge_counts(
    x: Array, edges: Array, lower: Array, upper: Array, width: Any, factor: Any, doubt: Any, counts: Array
) -> None:
    """Count into the bins between `edges`; `counts` is (4, bins + 1), the last column for what is out of range.

    A product by `factor` = bins / width guesses the bin. Where its fraction is farther than `doubt` from a whole
    number, no rounding error can change the bin. The others are placed by `exact_bin`, or, where a block has many
    (zeros on an edge), by comparing with both edges of a guess that is wrong by one bin at most; `lower` and `upper`
    hold those edges, and NaN where no bin follows.
    """
    bin_of = np.empty(EDGE_BLOCK, np.int32)
    left_out = np.int32(edges.size - 1)
    last = np.int32(edges.size - 2)
    unsure = np.int32(-1)
    lo, hi = edges[0], edges[edges.size - 1]
    half = type(doubt)(0.5)
    for start in range(0, x.size, EDGE_BLOCK):
        block = x[start : start + EDGE_BLOCK]
        negatives = np.int32(0)
        for i in range(block.size):
            v = block[i]
            guess = (v - lo) * factor
            whole = np.floor(guess)
            k = np.int32(whole) if (np.abs(guess - whole - half) < half - doubt) | (v == lo) else unsure
            k = k if (v >= lo) & (v <= hi) else left_out
            negatives = np.int32(negatives + np.int32(k >> np.int32(31)))
            bin_of[i] = k
        if -negatives > EDGE_BLOCK // 16 and doubt < half * half:
            for i in range(block.size):
                k = min(np.int32(np.floor((block[i] - lo) * factor)), last)
                bin_of[i] = k if (block[i] >= lo) & (block[i] <= hi) else left_out
            for i in range(block.size):
                guessed = np.uint64(bin_of[np.uint64(i)])
                below = np.int32(block[np.uint64(i)] < lower[guessed])
                above = np.int32(block[np.uint64(i)] >= upper[guessed])
                bin_of[np.uint64(i)] += np.int32(above - below)
        elif negatives < 0:
            for i in range(block.size):
                if bin_of[i] < 0:
                    bin_of[i] = exact_bin(block[i], edges, width)
        scatter(bin_of[: block.size], counts)


@machine_code
def code_counts(codes: Array, counts: Array) -> None:
    """Count 16-bit codes into `counts` (4, 65536)."""
    scatter(codes, counts)


@machine_code
def level(v: Any, scale: Any, zero_point: Any, qmin: Any, qmax: Any) -> Any:
    """Round to the grid, all in the dtype of the scale; the comparisons are false for NaN, which leaves qmin."""
    rounded = np.rint(v / scale) + zero_point
    rounded = rounded if rounded > qmin else qmin
    return rounded if rounded < qmax else qmax


@machine_code
def fake_quant_rows(x: Array, out: Array, scale: Array, zero_point: Array, qmin: Any, qmax: Any) -> None:
    """Fake-quantize (outer, C, inner) with one scale per channel."""
    for o in range(x.shape[0]):
        for c in range(x.shape[1]):
            step, zero, row, made = scale[c], zero_point[c], x[o, c], out[o, c]
            for i in range(row.size):
                made[i] = (level(row[i], step, zero, qmin, qmax) - zero) * step


@machine_code
def fake_quant_columns(x: Array, out: Array, scale: Array, zero_point: Array, qmin: Any, qmax: Any) -> None:
    """Fake-quantize (rows, columns) with one scale per column."""
    for r in range(x.shape[0]):
        row, made = x[r], out[r]
        for i in range(row.size):
            made[i] = (level(row[i], scale[i], zero_point[i], qmin, qmax) - zero_point[i]) * scale[i]


@machine_code
def quantize_rows(x: Array, out: Array, scale: Array, zero_point: Array, qmin: Any, qmax: Any) -> None:
    """Quantize (outer, C, inner) with one scale per channel."""
    for o in range(x.shape[0]):
        for c in range(x.shape[1]):
            step, zero, row, made = scale[c], zero_point[c], x[o, c], out[o, c]
            for i in range(row.size):
                made[i] = np.int32(level(row[i], step, zero, qmin, qmax))


@machine_code
def quantize_columns(x: Array, out: Array, scale: Array, zero_point: Array, qmin: Any, qmax: Any) -> None:
    """Quantize (rows, columns) with one scale per column."""
    for r in range(x.shape[0]):
        row, made = x[r], out[r]
        for i in range(row.size):
            made[i] = np.int32(level(row[i], scale[i], zero_point[i], qmin, qmax))


@machine_code
def dequantize_rows(q: Array, out: Array, scale: Array, zero_point: Array) -> None:
    """Dequantize (outer, C, inner) with one scale per channel; the difference is exact in the dtype of zero_point."""
    for o in range(q.shape[0]):
        for c in range(q.shape[1]):
            step, zero, row, made = scale[c], zero_point[c], q[o, c], out[o, c]
            for i in range(row.size):
                made[i] = np.float32(type(zero)(row[i]) - zero) * step


@machine_code
def dequantize_columns(q: Array, out: Array, scale: Array, zero_point: Array) -> None:
    """Dequantize (rows, columns) with one scale per column; the difference is exact in the dtype of zero_point."""
    for r in range(q.shape[0]):
        row, made = q[r], out[r]
        for i in range(row.size):
            zero = zero_point[i]
            made[i] = np.float32(type(zero)(row[i]) - zero) * scale[i]
