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

from quantlab_kernels.prefetch import prefetch

F = TypeVar("F", bound=Callable[..., object])
Array = NDArray[Any]

BLOCK = 1024
"""Elements whose bin numbers are computed at a time: few enough to leave the first-level cache to the counters."""
FLUSH = 2**17
"""Elements after which 16-bit counters are emptied: each of four rows has then counted a quarter of them."""
MOST_BINS = 2**16 - 1
"""So many bins have numbers of 16 bits, and there is one left for what is in no bin."""
EDGE_BLOCK = 256
"""The same as `BLOCK` where rare elements need a second look: small enough that most blocks have none."""
LINE = 64
"""Bytes that come into the cache at a time."""


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
def bounds(bits: Array, limits: Array, lo: Any, hi: Any, found: Array) -> tuple[int, int]:
    """Write the finite extremes of float bits into `found`, as bits without the sign of a zero; count NaN, infinities.

    `limits` holds (shift, mask, top, bottom) of the keys; [lo, hi] are the keys of the extremes of all elements, which
    are finite in clean data and then need no second pass.
    """
    shift, mask, top, bottom = limits[0], limits[1], limits[2], limits[3]
    rest = np.array([lo, hi, 0, 0], np.int64)
    if lo <= bottom or hi >= top:
        rest[0], rest[1] = top, bottom
        finite_key_extremes(bits, shift, mask, top, bottom, rest)
    for i in range(2):
        word = rest[i] ^ ((rest[i] >> shift) & mask)
        found[i] = 0 if word == ~mask else word
    return rest[2], rest[3]


@machine_code
def min_max(bits: Array, limits: Array) -> tuple[Array, int, int]:
    """Return the bits of the finite extremes, and how many elements are NaN and infinite; for `limits` see `bounds`."""
    found = np.empty(2, limits.dtype)
    lo, hi = key_extremes(bits, limits[0], limits[1], limits[2], limits[3])
    nans, infs = bounds(bits, limits, lo, hi, found)
    return found, nans, infs


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
def counters(elements: int, columns: int) -> Array:
    """Return counters for `tally`: four rows, or none for so few elements that making them would cost more."""
    return np.zeros((4, columns if elements >= 2 * columns else 0), np.uint16)


@machine_code
def tally(bin_of: Array, counts: Array, x: Array, ahead: int) -> None:
    """Add one to the count of every bin number, in four rows; meanwhile ask for as many elements of x from `ahead` on.

    Equal neighbours, such as the zeros of a Relu, would wait for each other's store; four private rows let them pass,
    and 16 bits keep the rows of 4,096 bins in the first-level cache. Four bin numbers are loaded as one 64-bit word.
    """
    first, second, third, fourth = counts[0], counts[1], counts[2], counts[3]
    whole = bin_of.size // 4
    words, mask = bin_of[: 4 * whole].view(np.uint64), np.uint64(0xFFFF)
    rest_of_line = LINE // (4 * x.itemsize) - 1
    for i in range(whole):
        if i & rest_of_line == 0:
            prefetch(x, np.uint64(ahead + 4 * i))
        word = words[np.uint64(i)]
        first[word & mask] += 1
        second[(word >> np.uint64(16)) & mask] += 1
        third[(word >> np.uint64(32)) & mask] += 1
        fourth[word >> np.uint64(48)] += 1
    for i in range(4 * whole, bin_of.size):
        first[np.uint64(bin_of[i])] += 1


@machine_code
def tally_few(bin_of: Array, total: Array) -> None:
    """Add one to the count of every bin number; what is in no bin has one behind the last and is left out."""
    for i in range(bin_of.size):
        number = np.uint64(bin_of[np.uint64(i)])
        if number < np.uint64(total.size):
            total[number] += 1


@machine_code
def scatter(bin_of: Array, counts: Array, x: Array, ahead: int) -> None:
    """Add one to the count of every bin number; rows and `ahead` are those of `tally`.

    Blocks of few elements, and data that comes as codes, gain nothing from 16-bit counters.
    """
    first, second, third, fourth = counts[0], counts[1], counts[2], counts[3]
    whole = bin_of.size // 4
    rest_of_line = LINE // (4 * x.itemsize) - 1
    for i in range(whole):
        if i & rest_of_line == 0:
            prefetch(x, np.uint64(ahead + 4 * i))
        j = np.uint64(4 * i)
        first[np.uint64(bin_of[j])] += 1
        second[np.uint64(bin_of[j + np.uint64(1)])] += 1
        third[np.uint64(bin_of[j + np.uint64(2)])] += 1
        fourth[np.uint64(bin_of[j + np.uint64(3)])] += 1
    for i in range(4 * whole, bin_of.size):
        first[np.uint64(bin_of[i])] += 1


@machine_code
def empty(counts: Array, total: Array) -> None:
    """Move the counts of all rows into `total`; a last column for what is in no bin may be missing there."""
    for row in range(counts.shape[0]):
        for i in range(min(counts.shape[1], total.size)):
            total[i] += counts[row, i]
        counts[row, :] = 0


@machine_code
def lattice_counts(x: Array, factor: Any, first: Any, end: Any, total: Array) -> None:
    """Count floor(x * factor) - first into `total` (bins + 1), the last for what is in no bin.

    `factor`, `first` and `end` have the dtype in which the products are exact.
    """
    counts, bin_of = counters(x.size, total.size), np.empty(BLOCK, np.uint16)
    left_out = np.int32(total.size - 1)
    for start in range(0, x.size, BLOCK):
        if start % FLUSH == 0:
            empty(counts, total)
        block = x[start : start + BLOCK]
        for i in range(block.size):
            number = np.floor(type(factor)(block[i]) * factor)
            inside = (number >= first) & (number < end)
            bin_of[i] = np.uint16(np.int32(number - first) if inside else left_out)
        if counts.size > 0:
            tally(bin_of[: block.size], counts, x, start + BLOCK)
        else:
            tally_few(bin_of[: block.size], total)
    empty(counts, total)


@machine_code
def min_max_lattice(
    x: Array, bits: Array, limits: Array, factor: Any, first: Any, end: Any, total: Array
) -> tuple[Array, int, int, bool]:
    """Return what `min_max` does and whether the lattice holds everything finite; if so, `total` (bins) grows by it.

    `factor`, `first` and `end` are those of `lattice_counts`. Bin numbers of a few elements are all kept until it is
    known that they count, which spares work for every bin. Of many, as soon as a finite element is known to lie
    outside, the counts are given up and the rest of the pass looks for extremes alone.
    """
    shift, mask, top, bottom = limits[0], limits[1], limits[2], limits[3]
    lo, hi = top, bottom
    bins = total.size
    counts = counters(x.size, bins + 1)
    few = counts.size == 0
    flushed = np.zeros(bins if x.size > FLUSH and not few else 0, np.int64)
    size = max(x.size, 1) if few else BLOCK
    bin_of = np.empty(size, np.uint16)
    left_out = np.int32(bins)
    for start in range(0, x.size, size):
        if start % FLUSH == 0 and start > 0:
            empty(counts, flushed)
        block = x[start : start + size]
        words = bits[start : start + size]
        for i in range(block.size):
            key = np.bitwise_xor(words[i], np.bitwise_and(np.right_shift(words[i], shift), mask))
            lo = np.minimum(lo, key)
            hi = np.maximum(hi, key)
            number = np.floor(type(factor)(block[i]) * factor)
            inside = (number >= first) & (number < end)
            bin_of[i] = np.uint16(np.int32(number - first) if inside else left_out)
        if not few:
            tally(bin_of[: block.size], counts, x, start + size)
            if counts[:, bins].any() and lo > bottom and hi < top:
                lo, hi = key_extremes(bits[start + block.size :], shift, mask, lo, hi)
                break
    found = np.empty(2, limits.dtype)
    nans, infs = bounds(bits, limits, lo, hi, found)
    whole = nans + infs == x.size or lattice_holds(found.view(x.dtype), factor, first, end)
    if whole and few:
        tally_few(bin_of[: x.size], total)
    elif whole:
        empty(counts, total)
        for i in range(flushed.size):
            total[i] += flushed[i]
    return found, nans, infs, whole


@machine_code
def lattice_holds(ends: Array, factor: Any, first: Any, end: Any) -> Any:
    """Say whether the bins of both ends, and so of all between, are on the lattice."""
    lo, hi = np.floor(type(factor)(ends[0]) * factor), np.floor(type(factor)(ends[1]) * factor)
    return (lo >= first) & (hi < end)


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
        scatter(bin_of[: block.size], counts, x, start + EDGE_BLOCK)


@machine_code
def code_counts(codes: Array, counts: Array) -> None:
    """Count 16-bit codes into `counts` (4, 65536)."""
    scatter(codes, counts, codes, 0)


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
