"""Blocks: runs of `block_size` neighbours along one axis that share a scale and a zero point; the NumPy definitions.

Along an axis of length C there are ceil(C / block_size) blocks, and the last may be shorter. Scales and zero points
have the shape of the array with C replaced by that number (ONNX QuantizeLinear, opset 21, `block_size`). The twins are
in `compiled_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike, DTypeLike, NDArray

from quantlab_kernels.checks import Floats, Integers, converted, require_storage, scale_dtype, storage_dtype
from quantlab_kernels.rounding import levels, values

__all__ = ["Packed4Bit", "dequantize_block", "fake_quant_block", "quantize_block", "quantize_pack_4bit"]

_SIZES = (16, 32, 64, 128, 256)
LARGEST = np.finfo(np.float32).max
"""Where the search for the smaller end of a block begins, and, negated, for the larger."""
_MIDDLE, _TOP = np.float32(8), np.float32(15)


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
    """Fake-quantize with one scale and zero point per block of neighbours along `axis`, by the rules of `quantize`.

    Args:
        x: Array of one dimension or more, float16, float32 or float64 (rounded to float32 first).
        scale: Steps, one for each block, float32 or float16: shape of x with ceil(C / block_size) in place of C.
        zero_point: Integers of the shape of scale.
        axis: The axis of length C that is cut into blocks; negative counts from the last.
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
    step, zero, axis = checked(x, scale, zero_point, axis, block_size)

    def act(part: Floats, s: Floats, z: NDArray[np.int64]) -> Floats:
        return converted(values(levels(part, s, z, qmin, qmax), s, z), x.dtype)

    return _blockwise(act, x, step, zero, axis, block_size, x.dtype, out)


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
    """Quantize with one scale and zero point per block of neighbours along `axis`, by the rules of `quantize`.

    Equal to onnxruntime 1.31.1's QuantizeLinear with `block_size`, but for one deviation: with a float32 scale and an
    axis that is not the last, onnxruntime follows the float16 rule, which shows on NaN, infinities and quotients of
    2**31 and more. Here the rule does not depend on the axis.

    Args:
        x: Array of one dimension or more, float16, float32 or float64.
        scale: Steps, one for each block, float32 or float16: shape of x with ceil(C / block_size) in place of C.
        zero_point: Integers of the shape of scale.
        axis: The axis of length C that is cut into blocks; negative counts from the last.
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
    storage = storage_dtype(dtype, qmin, qmax)
    step, zero, axis = checked(x, scale, zero_point, axis, block_size)
    step = step.astype(np.float64) if storage == np.int32 else step

    def act(part: Floats, s: Floats, z: NDArray[np.int64]) -> Integers:
        return levels(part, s, z, qmin, qmax).astype(storage)

    return _blockwise(act, x, step, zero, axis, block_size, storage, out)


def dequantize_block(
    q: Integers, scale: Floats, zero_point: ArrayLike, axis: int, block_size: int, *, out: Floats | None = None
) -> Floats:
    """Turn integers back with one scale and zero point per block of neighbours along `axis`, as `dequantize` does.

    Args:
        q: Array of one dimension or more, int8, uint8, int16, uint16 or int32.
        scale: Steps, one for each block, float32 or float16: shape of q with ceil(C / block_size) in place of C.
        zero_point: Integers of the shape of scale.
        axis: The axis of length C that is cut into blocks; negative counts from the last.
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
    require_storage(q.dtype)
    step, zero, axis = checked(q, scale, zero_point, axis, block_size)
    return _blockwise(values, q, step, zero, axis, block_size, step.dtype, out)


def checked(
    x: NDArray[Any], scale: Floats, zero_point: ArrayLike, axis: int, block_size: int
) -> tuple[Floats, NDArray[np.int64], int]:
    """Check scales and zero points against the blocks they are for.

    Args:
        x: Array with C entries along `axis`.
        scale: Steps.
        zero_point: Integers.
        axis: The axis; negative counts from the last.
        block_size: Neighbours that share a scale.

    Returns:
        The steps as float16 or float32, the zero points as int64, and the axis counted from the first.

    Raises:
        ValueError: A shape does not fit, or block_size is below 1.
        numpy.exceptions.AxisError: `axis` is out of range.
    """
    axis = normalize_axis_index(axis, x.ndim)
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}; a block has 1 element or more")
    step = np.asarray(scale, scale_dtype(scale))
    zero = np.asarray(zero_point, np.int64)
    want = (*x.shape[:axis], -(-x.shape[axis] // block_size), *x.shape[axis + 1 :])
    if step.shape != want or zero.shape != want:
        raise ValueError(
            f"blocks of {block_size} along axis {axis} of shape {x.shape} need scale and zero_point of shape {want}; "
            f"got {step.shape} and {zero.shape}"
        )
    return step, zero, axis


def _blockwise(
    act: Callable[..., NDArray[Any]],
    x: NDArray[Any],
    scale: Floats,
    zero_point: NDArray[np.int64],
    axis: int,
    block_size: int,
    dtype: DTypeLike,
    out: NDArray[Any] | None,
) -> NDArray[Any]:
    """Apply `act` to the whole blocks and to the shorter last one, with an axis of length 1 in scale and zero point."""
    made = np.empty(x.shape, dtype)
    parts = zip(_parts(x, axis, block_size), _parts(made, axis, block_size), strict=True)
    for (source, number), (target, _) in parts:
        target[...] = act(source, np.expand_dims(scale[number], axis + 1), np.expand_dims(zero_point[number], axis + 1))
    return converted(made, dtype, out)


def _parts(x: NDArray[Any], axis: int, block_size: int) -> Iterator[tuple[NDArray[Any], tuple[slice, ...]]]:
    """Yield views (..., blocks, elements, ...) with the index of their blocks; cutting one axis in two never copies."""
    whole, rest = divmod(x.shape[axis], block_size)
    for start, blocks, size in ((0, whole, block_size), (whole, 1, rest)):
        if blocks and size:
            first = start * block_size
            part = x[(*[slice(None)] * axis, slice(first, first + blocks * size))]
            shape = (*x.shape[:axis], blocks, size, *x.shape[axis + 1 :])
            yield part.reshape(shape), (*[slice(None)] * axis, slice(start, start + blocks))


class Packed4Bit(NamedTuple):
    """A weight (K, N) in blocks of B rows, as onnxruntime's MatMulNBits reads it.

    Attributes:
        packed: uint8 of shape (N, ceil(K / B), B / 2): the values of a column one after the other, two to a byte, the
            first in the low bits. Bytes behind the last row are 0.
        scale: Shape (N, ceil(K / B)), in the dtype of the weight; negative ones are allowed.
        zero_point: uint8 of shape (N, ceil(ceil(K / B) / 2)), packed in the same way with 8 where no block is left;
            None for symmetric blocks, where it is 8.
    """

    packed: NDArray[np.uint8]
    scale: Floats
    zero_point: NDArray[np.uint8] | None


def quantize_pack_4bit(weight: Floats, block_size: int, symmetric: bool) -> Packed4Bit:
    """Round a weight to 4 bits in blocks along its rows and pack it: the bytes of onnxruntime's quantize_matmul_4bits.

    In float32, with [lo, hi] the ends of a block, widened to hold 0:

        asymmetric   s = (hi - lo) / 15      z = clip(round(-lo / s), 0, 15), and 0 where s is 0
        symmetric    s = m / -8              z = 8, with m the end that is farther from 0, and lo of two equal ones

    The scale is s rounded to the dtype of the weight, and with r = 1 / scale, or 0 where the scale is 0,

        q = clip(round(x * r + z), 0, 15)

    `round` takes halves away from zero. A symmetric scale is negative where the farther end is positive: this end
    becomes -8 steps, which is the end of the grid that reaches farther.

    NaN is left out of lo and hi, and becomes 0, as does every value whose product is NaN; an infinity gives its block
    an infinite scale, and a symmetric block of nothing but NaN has that of the largest float32. Where K is odd, one
    half byte has no value: it repeats the value two rows before, or is 0 where the last row is the first of a block
    with an even number. The sign of a zero scale is that of -lo / 8, where lo is the first zero of the block. Found by
    experiment with onnxruntime 1.31.1. The twin packs large weights on all cores.

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
        >>> weight = np.array([[-0.5], [0.0], [1.0]], np.float32)
        >>> packed, scale, zero_point = quantize_pack_4bit(weight, 16, symmetric=False)
        >>> packed[0, 0, :2].tobytes().hex(), round(float(scale[0, 0]), 4), zero_point.tobytes().hex()
        ('505f', 0.1, '85')
    """
    require_weight(weight, block_size)
    rows, columns = weight.shape
    blocks = -(-rows // block_size)
    # NaN counts for no end and becomes 0: what stands behind the last row.
    x = np.full((blocks * block_size, columns), np.nan, np.float32)
    x[:rows] = weight
    x = x.reshape(blocks, block_size, columns)
    lo, hi = np.full((blocks, columns), LARGEST), np.full((blocks, columns), -LARGEST)
    for i in range(block_size):
        np.copyto(lo, x[:, i], where=x[:, i] < lo)
        np.copyto(hi, x[:, i], where=x[:, i] > hi)
    scale, factor, zero = grid_4bit(lo, hi, symmetric, weight.dtype)
    with np.errstate(all="ignore"):
        q = _round_4bit(x * factor[:, None] + zero[:, None])
    packed = np.ascontiguousarray(pairs(q.reshape(blocks * block_size, columns)).T)
    fill_last(packed, rows, block_size)
    packed = packed.reshape(columns, blocks, block_size // 2)
    return Packed4Bit(packed, np.ascontiguousarray(scale.T), None if symmetric else zeros_4bit(zero.astype(np.uint8)))


def require_weight(weight: Floats, block_size: int) -> None:
    """Refuse what cannot be packed.

    Args:
        weight: The weight.
        block_size: Rows that share a scale.

    Raises:
        TypeError: The weight is not float32 or float16.
        ValueError: The weight does not have two dimensions, or the block size is not allowed.
    """
    if weight.dtype not in (np.float16, np.float32):
        raise TypeError(f"got a weight of {weight.dtype}; allowed are float16 and float32: convert it with astype")
    if weight.ndim != 2:
        raise ValueError(f"got a weight of shape {weight.shape}; allowed is (K, N), with blocks along K")
    if block_size not in _SIZES:
        raise ValueError(f"block_size is {block_size}; allowed are {', '.join(map(str, _SIZES))}")


def grid_4bit(lo: Floats, hi: Floats, symmetric: bool, dtype: np.dtype[Any]) -> tuple[Floats, Floats, Floats]:
    """Return the scale in `dtype`, its reciprocal and the zero point, both float32, of blocks with ends [lo, hi]."""
    with np.errstate(all="ignore"):
        if symmetric:
            step = np.where(np.abs(hi) > np.abs(lo), hi, lo) / -_MIDDLE
            zero = np.full_like(step, _MIDDLE)
        else:
            lo, hi = np.minimum(lo, np.float32(0)), np.maximum(hi, np.float32(0))
            step = (hi - lo) / _TOP
            zero = np.where(step == 0, np.float32(0), _round_4bit(-lo / step))
        scale = step.astype(dtype, copy=False)
        single = scale.astype(np.float32, copy=False)
        return scale, np.where(single == 0, np.float32(0), 1 / single), zero


def _round_4bit(x: Floats) -> Floats:
    """Round halves away from zero into 0..15, in place; NaN becomes 0."""
    np.clip(x, 0, _TOP, out=x)
    np.copyto(x, 0, where=np.isnan(x))
    whole = np.floor(x)
    whole += x - whole >= 0.5
    return whole


def pairs(q: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack rows two by two, the first into the low bits: (2 n, N) to (n, N)."""
    nibbles = q.astype(np.uint8, copy=False)
    return np.asarray(nibbles[0::2] | (nibbles[1::2] << 4))


def zeros_4bit(zero: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack the zero points of blocks (blocks, N) to (N, ceil(blocks / 2)), with 8 for a missing partner."""
    odd = np.full((zero.shape[0] % 2, zero.shape[1]), 8, np.uint8)
    return np.ascontiguousarray(pairs(np.concatenate([zero, odd])).T)


def fill_last(packed: NDArray[np.uint8], rows: int, block_size: int) -> None:
    """Fill the half byte behind an odd number of rows as onnxruntime does; `packed` has shape (N, bytes)."""
    if rows % 2 and (rows - 1) % (2 * block_size):
        last = (rows - 1) // 2
        packed[:, last] |= packed[:, last - 1] & 0xF0
