"""The loops of blocked kernels that `compiled_blocks` turns into machine code, by the rules of `loops`."""
# Numba types the arguments at the first call: the annotations name what the callers pass.

from __future__ import annotations

from typing import Any

import numpy as np

from quantlab_kernels.loops import Array, level, machine_code

NARROW = 32
"""Rows shorter than this share a scale row that is repeated over a block, so that loops stay long."""
STRETCH = 1024
"""So many elements of short blocks of narrow rows are worked on in one loop."""
LANES = 32
"""Elements of one block that are worked on in one loop where every block is made of so many."""

_ZERO, _TOP = np.float32(0), np.float32(15)
_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))
_SIGN, _REST, _SIXTEEN, _THIRTEEN = np.int32(0x8000), np.int32(0x7FFF), np.int32(16), np.int32(13)
_SHIFT, _LARGE, _INFINITY, _NAN = np.float32(2.0**112), np.float32(2.0**16), np.float32(np.inf), np.float32(np.nan)
_1, _2, _3, _4, _5, _6, _7 = (np.int32(4 * place) for place in range(1, 8))


@machine_code
def room(size: int, inner: int) -> tuple[int, int]:
    """Return the shape of the scales laid out for one loop: of a few blocks of narrow rows, or of one wide row."""
    length = size * inner if inner < NARROW else inner
    return (max(1, STRETCH // length) if inner < NARROW else 1), length


@machine_code
def lay_out(values: Array, first: int, rows: Array) -> None:
    """Repeat the values (blocks, inner) of each block from number `first` on over a row of its own."""
    inner = values.shape[1]
    for b in range(min(rows.shape[0], values.shape[0] - first)):
        if inner == 1:
            value = values[first + b, 0]
            for i in range(rows.shape[1]):
                rows[b, i] = value
        else:
            for start in range(0, rows.shape[1], inner):
                rows[b, start : start + inner] = values[first + b]


@machine_code
def quantize_blocks(x: Array, out: Array, scale: Array, zero_point: Array, size: int, qmin: Any, qmax: Any) -> None:
    """Quantize (outer, C * inner) in blocks of `size` entries of C; scale and zero point are (outer, blocks, inner)."""
    inner = scale.shape[2]
    many, length = room(size, inner)
    steps, zeros = np.empty((many, length), scale.dtype), np.empty((many, length), zero_point.dtype)
    step, zero = steps.reshape(many * length), zeros.reshape(many * length)
    for o in range(x.shape[0]):
        for b in range(0, scale.shape[1], many):
            lay_out(scale[o], b, steps)
            lay_out(zero_point[o], b, zeros)
            end = min((b + many) * size * inner, x.shape[1])
            for start in range(b * size * inner, end, step.size):
                row, made = x[o][start : min(start + step.size, end)], out[o][start : min(start + step.size, end)]
                for i in range(row.size):
                    made[i] = np.int32(level(row[i], step[i], zero[i], qmin, qmax))


@machine_code
def quantize_lanes(x: Array, out: Array, scale: Array, zero_point: Array, size: int, qmin: Any, qmax: Any) -> None:
    """Quantize (outer, C / LANES, LANES) in blocks of `size` entries, a multiple of LANES; scales are (outer, blocks).

    Loops of so many turns, known beforehand, are a few vector instructions without beginning and end.
    """
    for o in range(x.shape[0]):
        for r in range(x.shape[1]):
            step, zero, row, made = scale[o, r * LANES // size], zero_point[o, r * LANES // size], x[o, r], out[o, r]
            for i in range(LANES):
                made[i] = np.int32(level(row[i], step, zero, qmin, qmax))


@machine_code
def fake_quant_blocks(x: Array, out: Array, scale: Array, zero_point: Array, size: int, qmin: Any, qmax: Any) -> None:
    """Fake-quantize; the arguments are those of `quantize_blocks`."""
    inner = scale.shape[2]
    many, length = room(size, inner)
    steps, zeros = np.empty((many, length), scale.dtype), np.empty((many, length), zero_point.dtype)
    step, zero = steps.reshape(many * length), zeros.reshape(many * length)
    for o in range(x.shape[0]):
        for b in range(0, scale.shape[1], many):
            lay_out(scale[o], b, steps)
            lay_out(zero_point[o], b, zeros)
            end = min((b + many) * size * inner, x.shape[1])
            for start in range(b * size * inner, end, step.size):
                row, made = x[o][start : min(start + step.size, end)], out[o][start : min(start + step.size, end)]
                for i in range(row.size):
                    made[i] = (level(row[i], step[i], zero[i], qmin, qmax) - zero[i]) * step[i]


@machine_code
def fake_quant_lanes(x: Array, out: Array, scale: Array, zero_point: Array, size: int, qmin: Any, qmax: Any) -> None:
    """Fake-quantize; the arguments are those of `quantize_lanes`."""
    for o in range(x.shape[0]):
        for r in range(x.shape[1]):
            step, zero, row, made = scale[o, r * LANES // size], zero_point[o, r * LANES // size], x[o, r], out[o, r]
            for i in range(LANES):
                made[i] = (level(row[i], step, zero, qmin, qmax) - zero) * step


@machine_code
def dequantize_blocks(q: Array, out: Array, scale: Array, zero_point: Array, size: int) -> None:
    """Dequantize; the difference is exact in the dtype of zero_point. The arguments are those of `quantize_blocks`."""
    inner = scale.shape[2]
    many, length = room(size, inner)
    steps, zeros = np.empty((many, length), scale.dtype), np.empty((many, length), zero_point.dtype)
    step, zero = steps.reshape(many * length), zeros.reshape(many * length)
    for o in range(q.shape[0]):
        for b in range(0, scale.shape[1], many):
            lay_out(scale[o], b, steps)
            lay_out(zero_point[o], b, zeros)
            end = min((b + many) * size * inner, q.shape[1])
            for start in range(b * size * inner, end, step.size):
                row, made = q[o][start : min(start + step.size, end)], out[o][start : min(start + step.size, end)]
                for i in range(row.size):
                    made[i] = np.float32(type(zero[i])(row[i]) - zero[i]) * step[i]


@machine_code
def dequantize_lanes(q: Array, out: Array, scale: Array, zero_point: Array, size: int) -> None:
    """Dequantize; the difference is exact in the dtype of zero_point. The arguments are those of `quantize_lanes`.

    With so little to do, a loop whose turns are known beforehand would be unrolled instead of vectorized.
    """
    for o in range(q.shape[0]):
        for r in range(q.shape[1]):
            step, zero, row, made = scale[o, r * LANES // size], zero_point[o, r * LANES // size], q[o, r], out[o, r]
            for i in range(row.size):
                made[i] = np.float32(type(zero)(row[i]) - zero) * step


@machine_code
def widen_halves(halves: Array, bits: Array, floats: Array) -> None:
    """Convert float16, given as bits, to float32; `bits` and `floats` are two views of the result.

    Moved up by 13 bits, a float16 is the float32 of the same value times 2**-112; the product is exact, and from 65536
    on stand infinity and NaN.
    """
    for k in range(halves.shape[0]):
        half, word, made = halves[k], bits[k], floats[k]
        for i in range(word.size):
            code = np.int32(half[i])
            sign = np.left_shift(np.bitwise_and(code, _SIGN), _SIXTEEN)
            word[i] = np.bitwise_or(sign, np.left_shift(np.bitwise_and(code, _REST), _THIRTEEN))
        for i in range(word.size):
            v = made[i] * _SHIFT
            large = v * _INFINITY if np.abs(v) == _LARGE else _NAN
            made[i] = v if np.abs(v) < _LARGE else large


@machine_code
def block_extremes(x: Array, row: int, column: int, size: int, lo: Array, hi: Array) -> None:
    """Widen lo and hi (blocks, columns) by the float32 rows of each block, from `row` and `column` of x on.

    Four rows at a time spare loads and stores. Strict comparisons leave NaN out and keep the first of two zeros.
    """
    columns = lo.shape[1]
    for b in range(lo.shape[0]):
        low, high = lo[b], hi[b]
        for k in range(row + b * size, row + (b + 1) * size, 4):
            first, second = x[k][column : column + columns], x[k + 1][column : column + columns]
            third, fourth = x[k + 2][column : column + columns], x[k + 3][column : column + columns]
            for i in range(columns):
                least, most = low[i], high[i]
                for v in (first[i], second[i], third[i], fourth[i]):
                    least = v if v < least else least
                    most = v if v > most else most
                low[i], high[i] = least, most


@machine_code
def nibble(v: Any, factor: Any, zero: Any) -> Any:
    """Round to 0..15, halves away from zero; the comparisons are false for NaN, which becomes 0.

    Adding the float below 0.5 and cutting off is exact: 0.5 itself would round 0.49999997 up.
    """
    q = v * factor + zero
    q = q if q > _ZERO else _ZERO
    q = q if q < _TOP else _TOP
    return np.int32(q + _BELOW_HALF)


@machine_code
def pack_blocks(
    x: Array, row: int, column: int, size: int, factor: Array, zero: Array, words: Array, out: Array, place: int
) -> None:
    """Pack blocks from `row` and `column` of x on into `out` (columns, words), eight values a word, from `place` on.

    `factor` and `zero` have shape (blocks, columns), and `words` (size / 8, columns) is room to work in: words are made
    along rows, where neighbours share an instruction, and then laid along columns.
    """
    columns, count = factor.shape[1], size // 8
    for b in range(factor.shape[0]):
        for g in range(count):
            k = row + b * size + 8 * g
            a0, a1 = x[k][column : column + columns], x[k + 1][column : column + columns]
            a2, a3 = x[k + 2][column : column + columns], x[k + 3][column : column + columns]
            a4, a5 = x[k + 4][column : column + columns], x[k + 5][column : column + columns]
            a6, a7 = x[k + 6][column : column + columns], x[k + 7][column : column + columns]
            made = words[g]
            for i in range(columns):
                r, z = factor[b, i], zero[b, i]
                word = nibble(a0[i], r, z)
                word = np.bitwise_or(word, np.left_shift(nibble(a1[i], r, z), _1))
                word = np.bitwise_or(word, np.left_shift(nibble(a2[i], r, z), _2))
                word = np.bitwise_or(word, np.left_shift(nibble(a3[i], r, z), _3))
                word = np.bitwise_or(word, np.left_shift(nibble(a4[i], r, z), _4))
                word = np.bitwise_or(word, np.left_shift(nibble(a5[i], r, z), _5))
                word = np.bitwise_or(word, np.left_shift(nibble(a6[i], r, z), _6))
                made[i] = np.bitwise_or(word, np.left_shift(nibble(a7[i], r, z), _7))
        for i in range(columns):
            target = out[i][place + b * count : place + (b + 1) * count]
            for g in range(count):
                target[g] = words[g, i]
