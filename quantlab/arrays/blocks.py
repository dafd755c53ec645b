"""A block is a run of neighbours along one axis that shares a scale and a zero point; the last one may be shorter.

An axis of length C has ceil(C / block_size) blocks, and what there is one of for each block (a range, a scale, a zero
point) has the shape of the array with that number in place of C. Source: ONNX QuantizeLinear, opset 21.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays.qparams import Array, Range
from quantlab.errors import ShapeError


def block_shape(shape: tuple[int, ...], axis: int, block_size: int) -> tuple[int, ...]:
    """Return the shape of what there is one of for each block.

    Args:
        shape: Shape of the array.
        axis: The axis that is cut into blocks; negative counts from the last.
        block_size: Neighbours that share a scale, 1 or more.

    Returns:
        The shape with ceil(C / block_size) in place of the length C of the axis.

    Raises:
        ShapeError: The axis is out of range, or the block size is below 1.

    Example:
        >>> block_shape((64, 100), axis=1, block_size=32)
        (64, 4)
    """
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"axis {axis} is out of range for shape {shape} (allowed: 0..{len(shape) - 1})")
    if block_size < 1:
        raise ShapeError(f"block_size is {block_size}: a block has 1 element or more")
    axis %= len(shape)
    return (*shape[:axis], -(-shape[axis] // block_size), *shape[axis + 1 :])


def block_range(values: npt.NDArray[np.floating[Any]], axis: int, block_size: int) -> Range:
    """Return the ends of each block of a constant.

    Args:
        values: Float array of one dimension or more.
        axis: The axis that is cut into blocks; negative counts from the last.
        block_size: Neighbours that share a range, 1 or more.

    Returns:
        Range of the shape `block_shape` gives, in the array's type.

    Raises:
        RangeError: The array contains NaN or infinity.
        ShapeError: The axis is out of range, or the block size is below 1.

    Example:
        >>> found = block_range(np.array([1.0, -2.0, 30.0], np.float32), axis=0, block_size=2)
        >>> found.lo.tolist(), found.hi.tolist()
        ([-2.0, 30.0], [1.0, 30.0])
    """
    lo = np.empty(block_shape(values.shape, axis, block_size), values.dtype)
    hi = np.empty_like(lo)
    axis %= values.ndim
    whole = values.shape[axis] // block_size
    before = (slice(None),) * axis
    # Cutting one axis in two makes a view, and minima over the new one are fast along either axis.
    shape = (*values.shape[:axis], whole, block_size, *values.shape[axis + 1 :])
    cut = values[(*before, slice(whole * block_size))].reshape(shape)
    first = (*before, slice(whole))
    cut.min(axis=axis + 1, out=lo[first])
    cut.max(axis=axis + 1, out=hi[first])
    if whole < lo.shape[axis]:
        rest, last = values[(*before, slice(whole * block_size, None))], (*before, slice(whole, None))
        rest.min(axis=axis, out=lo[last], keepdims=True)
        rest.max(axis=axis, out=hi[last], keepdims=True)
    return Range(lo, hi)


def spread(values: Array, axis: int, block_size: int, length: int) -> Array:
    """Repeat what there is one of for each block, so that there is one for each of `length` entries of the axis."""
    return np.take(np.repeat(values, block_size, axis=axis), np.arange(length), axis=axis)
