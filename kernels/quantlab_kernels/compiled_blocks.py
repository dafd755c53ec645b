"""The Numba twins of the definitions in `blocks`: the same names, signatures and bits.

Packing is the one kernel that runs on several cores: its columns are shared out over a thread pool around
single-threaded loops, since Numba's own threads and those of onnxruntime would wait for each other.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from quantlab_kernels import block_loops, blocks, checks
from quantlab_kernels.blocks import Packed4Bit
from quantlab_kernels.checks import Floats, Integers

__all__ = ["Packed4Bit", "dequantize_block", "fake_quant_block", "quantize_block", "quantize_pack_4bit"]

_SHARED = 2**20
"""Weights of this many elements are worth starting threads for."""
_TILE = 2048
"""Columns packed at a time: long rows read fast, and what is read twice stays in cache."""
_SLAB = 256
"""Rows packed at a time, if blocks are not larger."""


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
    """Twin of `blocks.fake_quant_block`; a float16 scale is left to the definition."""
    step, zero, axis = blocks.checked(x, scale, zero_point, axis, block_size)
    checks.require_grid(x, qmin, qmax)
    if step.dtype == np.float16:
        return blocks.fake_quant_block(x, scale, zero_point, axis, block_size, qmin, qmax, out=out)
    made = checks.memory(out if x.dtype == np.float32 else None, x.shape, np.dtype(np.float32))
    source = checks.apart(np.ascontiguousarray(checks.converted(x, np.float32)), out)
    rows, grid = _shapes(x.shape, step.shape, axis, block_size)
    steps, zeros = step.reshape(grid).copy(), zero.astype(np.float32).reshape(grid)
    loop = block_loops.fake_quant_lanes if len(rows) == 3 else block_loops.fake_quant_blocks
    loop(source.reshape(rows), made.reshape(rows), steps, zeros, block_size, np.float32(qmin), np.float32(qmax))
    return checks.converted(made, x.dtype, out)


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
    """Twin of `blocks.quantize_block`; a float16 scale is left to the definition."""
    storage = checks.storage_dtype(dtype, qmin, qmax)
    step, zero, axis = blocks.checked(x, scale, zero_point, axis, block_size)
    checks.require_grid(x, qmin, qmax)
    if step.dtype == np.float16 and storage != np.int32:
        return blocks.quantize_block(x, scale, zero_point, axis, block_size, qmin, qmax, dtype, out=out)
    working: np.dtype[np.floating[Any]] = np.dtype(np.float64 if storage == np.int32 else np.float32)
    made = checks.memory(out, x.shape, storage)
    source = checks.apart(np.ascontiguousarray(checks.converted(x, working)), out)
    rows, grid = _shapes(x.shape, step.shape, axis, block_size)
    steps, zeros = step.astype(working).reshape(grid), zero.astype(working).reshape(grid)
    loop = block_loops.quantize_lanes if len(rows) == 3 else block_loops.quantize_blocks
    loop(source.reshape(rows), made.reshape(rows), steps, zeros, block_size, working.type(qmin), working.type(qmax))
    return made


def dequantize_block(
    q: Integers, scale: Floats, zero_point: ArrayLike, axis: int, block_size: int, *, out: Floats | None = None
) -> Floats:
    """Twin of `blocks.dequantize_block`."""
    checks.require_storage(q.dtype)
    step, zero, axis = blocks.checked(q, scale, zero_point, axis, block_size)
    made = checks.memory(out if step.dtype == np.float32 else None, q.shape, np.dtype(np.float32))
    rows, grid = _shapes(q.shape, step.shape, axis, block_size)
    steps = step.astype(np.float32).reshape(grid)
    zeros = zero.astype(np.float64 if q.dtype == np.int32 else np.float32).reshape(grid)
    source = checks.apart(np.ascontiguousarray(q), out).reshape(rows)
    loop = block_loops.dequantize_lanes if len(rows) == 3 else block_loops.dequantize_blocks
    loop(source, made.reshape(rows), steps, zeros, block_size)
    return checks.converted(made, step.dtype, out)


def _shapes(
    shape: tuple[int, ...], scale_shape: tuple[int, ...], axis: int, block_size: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes for the loops over blocks, (outer, C * inner) and (outer, blocks, inner) for the scales.

    Where every block is a row of whole lanes, those for the loops over lanes: (outer, C / LANES, LANES) and (outer,
    blocks). An empty array has no outer.
    """
    outer, inner = 0 if 0 in shape else math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    count, lanes = shape[axis], block_loops.LANES
    if inner == 1 and count % lanes == 0 and block_size % lanes == 0:
        return (outer, count // lanes, lanes), (outer, scale_shape[axis])
    return (outer, count * inner), (outer, scale_shape[axis], inner)


def quantize_pack_4bit(weight: Floats, block_size: int, symmetric: bool) -> Packed4Bit:
    """Twin of `blocks.quantize_pack_4bit`, on all cores where the weight is large."""
    blocks.require_weight(weight, block_size)
    if sys.byteorder != "little":  # the loops lay out words of eight values
        return blocks.quantize_pack_4bit(weight, block_size, symmetric)
    rows, columns = weight.shape
    count = -(-rows // block_size)
    packed = np.empty((columns, count, block_size // 2), np.uint8)
    zero = None if symmetric else np.empty((columns, -(-count // 2)), np.uint8)
    made = Packed4Bit(packed, np.empty((columns, count), weight.dtype), zero)
    source = np.ascontiguousarray(weight)
    workers = _cores() if weight.size >= _SHARED else 1
    if workers == 1:
        _pack_columns(source, block_size, made, 0, columns)
    else:
        cuts = [columns * part // workers for part in range(workers + 1)]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(functools.partial(_pack_columns, source, block_size, made), cuts[:-1], cuts[1:]))
    blocks.fill_last(packed.reshape(columns, count * block_size // 2), rows, block_size)
    return made


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pack_columns(weight: Floats, block_size: int, made: Packed4Bit, first: int, last: int) -> None:
    """Pack columns first..last - 1 into `made`."""
    columns, count = made.scale.shape
    words = made.packed.reshape(columns, count * block_size // 2).view(np.int32)
    scale, zero = np.empty((count, last - first), weight.dtype), np.empty((count, last - first), np.uint8)
    blocks_a_slab = max(1, _SLAB // block_size)
    room = np.empty((block_size // 8, min(_TILE, last - first)), np.int32)
    for start in range(first, last, _TILE):
        stop = min(start + _TILE, last)
        here = slice(start - first, stop - first)
        for block in range(0, count, blocks_a_slab):
            some = slice(block, min(block + blocks_a_slab, count))
            x, row, column = _slab(weight, block * block_size, some.stop * block_size, start, stop)
            lo = np.full((some.stop - block, stop - start), blocks.LARGEST)
            hi = -lo
            block_loops.block_extremes(x, row, column, block_size, lo, hi)
            scale[some, here], factor, zeros = blocks.grid_4bit(lo, hi, made.zero_point is None, weight.dtype)
            zero[some, here] = zeros
            place = block * block_size // 8
            block_loops.pack_blocks(x, row, column, block_size, factor, zeros, room, words[start:stop], place)
    made.scale[first:last] = scale.T
    if made.zero_point is not None:
        made.zero_point[first:last] = blocks.zeros_4bit(zero)


def _slab(weight: Floats, first: int, last: int, start: int, stop: int) -> tuple[Floats, int, int]:
    """Return a float32 array with rows first..last - 1 of columns start..stop - 1, and the row and column they are at.

    Behind the last row stands NaN, as in the definition.
    """
    if weight.dtype == np.float32 and last <= weight.shape[0]:
        return weight, first, start
    part = weight[first:last, start:stop]
    copy = np.empty((last - first, stop - start), np.float32)
    if weight.dtype == np.float16:
        block_loops.widen_halves(part.view(np.uint16), copy.view(np.int32), copy)
    else:
        copy[: part.shape[0]] = part
    copy[part.shape[0] :] = np.nan
    return copy, 0, 0
