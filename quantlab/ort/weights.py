"""Constants on grids under the peer's names: arrays and initializers quantized, packed and named as it does.

The integers are those of onnxruntime.quantization 1.31.1 (`quant_utils.py`) to the bit, computed by our kernels. NaN is
refused, where the peer leaves it to the processor which integer it becomes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantlab import kernels
from quantlab.arrays import UINT4, DType, QParams, QuantSpec, pack, quantize
from quantlab.arrays.qparams import Array
from quantlab.errors import DataError, OptionError, ShapeError
from quantlab.ort.kinds import numpy_type, row_of
from quantlab.ort.names import TENSOR_NAME_QUANT_SUFFIX
from quantlab.ort.scales import compute_data_quant_params

Floats = npt.NDArray[np.floating[Any]]


def _refuse_nan(values: Floats, what: str) -> None:
    if np.isnan(values).any():
        raise DataError(f"{what} has {np.isnan(values).sum()} NaN among {values.size} values: no integer stands for it")


def _widened(values: npt.ArrayLike) -> Floats:
    """Return values in float32 where they are float16: the peer divides in float32, and float16 has kernels of its own.

    A single number without a type is taken for float32, as NumPy takes it beside a float32 array.
    """
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 or isinstance(values, int | float) else array


def _in_double(x: Floats, grid: QParams, bottom: int, top: int) -> Array:
    """Round beside float64 scales, with which the peer divides in float64; one number each for all, axis or block."""
    scale, zero, axis = grid.scale, grid.zero_point, grid.spec.axis
    if grid.spec.block_size is not None and axis is not None:
        scale, zero = (np.repeat(one, grid.spec.block_size, axis) for one in (scale, zero))
        scale, zero = (np.take(one, np.arange(x.shape[axis]), axis) for one in (scale, zero))
    elif axis is not None:
        dims = [-1 if index == axis % x.ndim else 1 for index in range(x.ndim)]
        scale, zero = scale.reshape(dims), zero.reshape(dims)
    codes: Array = np.clip(np.rint(x.astype(np.float64) / scale) + zero, bottom, top)
    return codes.astype(grid.spec.dtype.storage)


def _in_type(values: Array, row: DType) -> Array:
    """Return codes in the type in which the peer hands them out."""
    kind = numpy_type(row.onnx_code)
    return values.view(kind) if row.is_float else values.astype(kind)


def quantize_nparray(
    qType: int,  # the peer's spelling
    arr: Floats,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    low: int | None = None,
    high: int | None = None,
) -> Array:
    """Round an array onto a grid.

    Args:
        qType: `onnx.TensorProto.DataType`.
        arr: Float array of any shape.
        scale: One scale.
        zero_point: One zero point; 0 for float8.
        low: Smallest integer to give, if above the type's.
        high: Largest integer to give, if below the type's.

    Returns:
        Array of `arr`'s shape in the type itself; `int4`, `uint4` and `float8_e4m3fn` are those of ml_dtypes.

    Raises:
        OptionError: The type is unknown.
        DataError: The array has NaN.
        RangeError: The scale is not positive and finite, or the zero point is outside of the type.
        ShapeError: There are several scales or zero points.

    Example:
        >>> quantize_nparray(TensorProto.INT8, np.float32([-1, 0.3, 99]), np.float32(0.5), np.int8(1)).tolist()
        [-1, 2, 127]
    """
    row, array = row_of(qType), np.asarray(arr)
    _refuse_nan(array, "the array")
    step, zero = _widened(scale), np.asarray(zero_point)
    if step.size != 1 or zero.size != 1:
        raise ShapeError(
            f"quantize_nparray takes one scale and one zero point, got {step.size} and {zero.size}: "
            "quantize_onnx_initializer takes one for each channel"
        )
    grid = QParams(
        scale=step.reshape(()), zero_point=zero.reshape(()).astype(np.int64), spec=QuantSpec(dtype=row, symmetric=True)
    )
    x = array.astype(np.float32)
    if row.is_float:
        return _in_type(quantize(x, grid), row)
    bottom = row.qmin if low is None else max(row.qmin, int(low))
    top = row.qmax if high is None else min(row.qmax, int(high))
    if step.dtype == np.float64:
        return _in_type(_in_double(x, grid, bottom, top), row)
    return _in_type(kernels.quantize(x, grid.scale.flat[0], int(grid.zero_point), bottom, top, row.storage), row)


def quantize_data(
    data: Floats,
    qType: int,  # the peer's spelling
    symmetric: bool,
    reduce_range: bool = False,
    min_real_range: float | None = None,
    rmin_override: float | None = None,
    rmax_override: float | None = None,
) -> tuple[Array, Array, Array]:
    """Compute the grid of a constant and round it onto that.

    Args:
        data: Float array of any shape.
        qType: `onnx.TensorProto.DataType`.
        symmetric: Spread the range evenly around zero.
        reduce_range: Give one bit away.
        min_real_range: Least width of the range.
        rmin_override: Lower end to take in place of the smallest value.
        rmax_override: Upper end to take in place of the largest value.

    Returns:
        Zero point and scale of shape (), and the array in the type itself.

    Raises:
        TypeError: `data` is no array.
        OptionError: The type is unknown, or is float8 and shall have a reduced range.
        RangeError: The data has NaN or infinity.
    """
    zero_point, scale = compute_data_quant_params(
        data, qType, symmetric, reduce_range, min_real_range, rmin_override, rmax_override
    )
    return zero_point, scale, quantize_nparray(qType, data, scale, zero_point)


def tensor_proto_to_array(initializer: onnx.TensorProto) -> Floats:
    """Return the values of a float32 or float16 initializer.

    Args:
        initializer: The initializer, its data in memory.

    Raises:
        OptionError: It is of another type; it is a ValueError too.
    """
    if initializer.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        found = TensorProto.DataType.Name(initializer.data_type)
        raise OptionError(f"weight {initializer.name!r} is of type {found}: only FLOAT and FLOAT16 can be quantized")
    return numpy_helper.to_array(initializer)


def quantize_onnx_initializer(
    weight: onnx.TensorProto,
    quant_type: int,
    zero_point: Array,
    scale: Array,
    axis: int | None = None,
    quant_weight_name: str | None = None,
    block_size: int = 0,
) -> onnx.TensorProto:
    """Round an initializer onto a grid.

    Args:
        weight: A float32 or float16 initializer; it is not changed.
        quant_type: `onnx.TensorProto.DataType`.
        zero_point: Shape (), (C,) with an axis, or that of the blocks.
        scale: Of the same shape.
        axis: Channel axis, or the axis that is cut into blocks; None for one scale.
        quant_weight_name: Name of the new initializer; the old one with `_quantized` behind it by default.
        block_size: Neighbours along `axis` that share a scale; 0 for whole channels.

    Returns:
        The quantized initializer, values narrower than a byte packed.

    Raises:
        OptionError: A type is unknown.
        DataError: The weight has NaN.
        RangeError: A scale or zero point cannot be used; the text names the channel or block.
        ShapeError: The scales do not fit the weight.
    """
    row, values = row_of(quant_type), tensor_proto_to_array(weight)
    _refuse_nan(values, f"weight {weight.name!r}")
    spec = QuantSpec(dtype=row, symmetric=True, axis=axis, block_size=block_size or None if axis is not None else None)
    step, zero = _widened(scale), np.asarray(zero_point).astype(np.int64)
    if axis is None:
        step, zero = step.reshape(()), zero.reshape(())
    x, grid = values.astype(np.float32), QParams(scale=step, zero_point=zero, spec=spec)
    double = step.dtype == np.float64 and not row.is_float
    made = _in_double(x, grid, row.qmin, row.qmax) if double else quantize(x, grid)
    raw = (pack(made, row) if row.bits < 8 else made).tobytes()
    name = quant_weight_name or f"{weight.name}{TENSOR_NAME_QUANT_SUFFIX}"
    return helper.make_tensor(name, row.onnx_code, list(weight.dims), raw, raw=True)


def normalize_axis(axis: int, rank: int) -> tuple[bool, int]:
    """Return whether an axis exists, and its number from the first.

    Example:
        >>> normalize_axis(-1, 4), normalize_axis(4, 4)
        ((True, 3), (False, 4))
    """
    found = axis + rank if axis < 0 else axis
    return 0 <= found < rank, found


def pack_bytes_to_4bit(src_8bit: bytes) -> bytearray:
    """Pack bytes in pairs into their lower halves, the first in the lower bits.

    Args:
        src_8bit: One value a byte.

    Returns:
        Half as many bytes, rounded up.

    Example:
        >>> pack_bytes_to_4bit(bytes([1, 255, 7])).hex()
        'f107'
    """
    return bytearray(pack(np.frombuffer(src_8bit, np.uint8), UINT4).tobytes())
