"""Quantize, dequantize and fake-quantize arrays on a grid.

    q = clip(rint(x / scale) + zero_point, qmin, qmax)          rint rounds halves to even
    x = scale * (q - zero_point)

Grids of float8 types have unequal steps and no zero point: `quantlab.arrays.float8` has their formulas.

Source: the ONNX operators QuantizeLinear and DequantizeLinear; bit-equal to onnxruntime 1.31.1's kernels for them. The
work is done by the kernels room; here the grid's nouns are turned into its plain arrays and shapes are checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab import kernels
from quantlab.arrays.blocks import block_shape, spread
from quantlab.arrays.float8 import dequantize_float8, quantize_float8
from quantlab.arrays.qparams import Array, QParams
from quantlab.errors import QuantlabError, ShapeError
from quantlab_kernels.checks import converted


def _axis(shape: tuple[int, ...], grid: QParams) -> int | None:
    axis = grid.spec.axis
    if axis is None:
        return None
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"axis {axis} is out of range for shape {shape} (allowed: 0..{len(shape) - 1})")
    axis %= len(shape)
    if (size := grid.spec.block_size) is not None:
        if (want := block_shape(shape, axis, size)) != grid.scale.shape:
            raise ShapeError(
                f"shape {shape} in blocks of {size} along axis {axis} needs scales of shape {want}, "
                f"the grid has {grid.scale.shape}"
            )
        return axis
    if shape[axis] != grid.scale.size:
        raise ShapeError(f"shape {shape} has {shape[axis]} channels along axis {axis}, the grid has {grid.scale.size}")
    return axis


def _numbers(grid: QParams) -> tuple[Any, int]:
    """Return scale (a NumPy scalar, for its type matters) and zero point of a grid per tensor."""
    return grid.scale[()], int(grid.zero_point)


def _spread(grid: QParams, shape: tuple[int, ...], axis: int | None) -> Array:
    """Return the scale in a shape that broadcasts with arrays of this shape."""
    if axis is None:
        return grid.scale
    if grid.spec.block_size is not None:
        return spread(grid.scale, axis, grid.spec.block_size, shape[axis])
    return grid.scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])


@contextmanager
def _errors_of_ours() -> Iterator[None]:
    """Hand on what a kernel says of memory that it cannot write to as an error of this library."""
    try:
        yield
    except QuantlabError:
        raise
    except ValueError as error:
        raise ShapeError(str(error)) from error


def quantize(x: npt.NDArray[np.floating[Any]], grid: QParams, *, out: Array | None = None) -> Array:
    """Round an array onto a grid.

    Args:
        x: Float array of any shape; with a grid per channel, `x.shape[axis]` is the number of scales, and with
            blocks `block_shape` gives their shape.
        grid: Scale, zero point and type.
        out: Memory to write the result to, contiguous, of `x`'s shape and the grid's storage type; None for new memory.

    Returns:
        Integers, or the bits of float8, of `x`'s shape in the grid's storage type. Values outside the grid saturate,
        infinities included.

    Raises:
        ShapeError: The axis, the number of channels, the shape of the blocks or `out` does not fit.

    Example:
        >>> from quantlab.arrays import INT8, QParams, QuantSpec
        >>> grid = QParams(scale=np.float32(0.5), zero_point=np.int8(1), spec=QuantSpec(dtype=INT8))
        >>> quantize(np.array([-0.5, 0.0, 0.25, 0.75, 1e9], np.float32), grid).tolist()
        [0, 1, 1, 3, 127]
    """
    with _errors_of_ours():
        return _quantize(x, grid, out)


def _quantize(x: npt.NDArray[np.floating[Any]], grid: QParams, out: Array | None) -> Array:
    kind, axis = grid.spec.dtype, _axis(x.shape, grid)
    if kind.is_float:
        return converted(quantize_float8(x, _spread(grid, x.shape, axis), kind), kind.storage, out)
    if axis is None:
        return kernels.quantize(x, *_numbers(grid), kind.qmin, kind.qmax, kind.storage, out=out)
    if (size := grid.spec.block_size) is not None:
        return kernels.quantize_block(
            x, grid.scale, grid.zero_point, axis, size, kind.qmin, kind.qmax, kind.storage, out=out
        )
    return kernels.quantize_axis(x, grid.scale, grid.zero_point, axis, kind.qmin, kind.qmax, kind.storage, out=out)


def dequantize(q: Array, grid: QParams, *, out: Array | None = None) -> Array:
    """Turn integers back into real numbers.

    Args:
        q: Integers in the grid's storage type, any shape.
        grid: Scale, zero point and type.
        out: Memory to write the result to, contiguous, of `q`'s shape and the scale's type; None for new memory.

    Returns:
        Array of `q`'s shape in the scale's type; the subtraction is done in int32.

    Raises:
        ShapeError: The axis, the number of channels, the shape of the blocks or `out` does not fit.

    Example:
        >>> from quantlab.arrays import INT8, QParams, QuantSpec
        >>> grid = QParams(scale=np.float32(0.5), zero_point=np.int8(1), spec=QuantSpec(dtype=INT8))
        >>> dequantize(np.array([0, 1, 127], np.int8), grid).tolist()
        [-0.5, 0.0, 63.0]
    """
    with _errors_of_ours():
        return _dequantize(q, grid, out)


def _dequantize(q: Array, grid: QParams, out: Array | None) -> Array:
    axis = _axis(q.shape, grid)
    if grid.spec.dtype.is_float:
        values = dequantize_float8(q, _spread(grid, q.shape, axis), grid.spec.dtype)
        return converted(values, values.dtype, out)
    if axis is None:
        return kernels.dequantize(q, *_numbers(grid), out=out)
    if (size := grid.spec.block_size) is not None:
        return kernels.dequantize_block(q, grid.scale, grid.zero_point, axis, size, out=out)
    return kernels.dequantize_axis(q, grid.scale, grid.zero_point, axis, out=out)


def fake_quant(x: npt.NDArray[np.floating[Any]], grid: QParams, *, out: Array | None = None) -> Array:
    """Quantize and dequantize in one step: what a network sees of a tensor behind a QDQ pair.

    Args:
        x: Float array of any shape.
        grid: Scale, zero point and type.
        out: Memory to write the result to, contiguous, of `x`'s shape and type, such as `x` itself; None for new
            memory.

    Returns:
        `dequantize(quantize(x, grid), grid)`, to the bit.

    Raises:
        ShapeError: The axis, the number of channels, the shape of the blocks or `out` does not fit.

    Example:
        >>> from quantlab.arrays import INT8, QParams, QuantSpec
        >>> grid = QParams(scale=np.float32(0.5), zero_point=np.int8(1), spec=QuantSpec(dtype=INT8))
        >>> x = np.array([0.3, -0.25, 1e9], np.float32)
        >>> fake_quant(x, grid, out=x) is x, x.tolist()
        (True, [0.5, 0.0, 63.0])
    """
    with _errors_of_ours():
        return _fake_quant(x, grid, out)


def _fake_quant(x: npt.NDArray[np.floating[Any]], grid: QParams, out: Array | None) -> Array:
    kind, axis = grid.spec.dtype, _axis(x.shape, grid)
    if kind.is_float:
        return _dequantize(_quantize(x, grid, None), grid, out)
    if axis is None:
        return kernels.fake_quant(x, *_numbers(grid), kind.qmin, kind.qmax, out=out)
    if (size := grid.spec.block_size) is not None:
        return kernels.fake_quant_block(x, grid.scale, grid.zero_point, axis, size, kind.qmin, kind.qmax, out=out)
    return kernels.fake_quant_axis(x, grid.scale, grid.zero_point, axis, kind.qmin, kind.qmax, out=out)
