"""Between ONNX's TensorProto and NumPy arrays, integers narrower than a byte included."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from quantlab.arrays import BY_ONNX_CODE, DType, pack, unpack
from quantlab.graph.external import is_external, mapped

FLOATS: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
}
"""ONNX codes of the floating-point types that can be quantized."""

_CODES = {kind: code for code, kind in FLOATS.items()}

_LITTLE_ENDIAN = {code: kind.newbyteorder("<") for code, kind in FLOATS.items()}


def to_array(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    """Read an initializer or constant.

    Args:
        tensor: Any dense tensor, with its data in memory or in a file.

    Returns:
        Read-only array of the tensor's shape; 4-bit values come unpacked in 8-bit integers, float8 as its bits. Of
        external data it is a view through a memory map.

    Raises:
        ModelError: The file that the data lies in has gone or become shorter.
    """
    row = BY_ONNX_CODE.get(tensor.data_type)
    if row is None or row.bits >= 8:
        values = _from_file(tensor) if is_external(tensor) else _from_memory(tensor)
        return values.view(row.storage) if row is not None and row.is_float else values
    raw = mapped(tensor) if is_external(tensor) else _narrow_bytes(tensor)
    size = int(np.prod(tensor.dims, dtype=np.int64))
    return unpack(raw, size, row).reshape(tuple(tensor.dims))


def _from_memory(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    kind = _LITTLE_ENDIAN.get(tensor.data_type)
    if kind is None or not (raw := tensor.raw_data):
        return numpy_helper.to_array(tensor)
    # By far the most constants: onnx's own function, which knows all forms, takes longer.
    array: npt.NDArray[Any] = np.frombuffer(raw, kind).reshape(tensor.dims[:])
    return array if sys.byteorder == "little" else array.astype(kind.newbyteorder("="))


def _narrow_bytes(tensor: onnx.TensorProto) -> npt.NDArray[np.uint8]:
    return np.frombuffer(tensor.raw_data or bytes(byte & 0xFF for byte in tensor.int32_data), np.uint8)


def _from_file(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    array = mapped(tensor).view(kind).reshape(tuple(tensor.dims))
    if sys.byteorder == "big":
        return array.byteswap()
    # Other programs may put data anywhere; compiled loops want whole numbers at whole places.
    return array if array.flags.aligned else array.copy()


def float_tensor(name: str, array: npt.NDArray[Any]) -> onnx.TensorProto:
    """Write a float array as a named tensor of the same type and shape; the type is one of `FLOATS`."""
    raw = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return onnx.TensorProto(name=name, data_type=_CODES[array.dtype], dims=array.shape, raw_data=raw.tobytes())


def integer_tensor(name: str, values: npt.NDArray[Any], dtype: DType) -> onnx.TensorProto:
    """Write integers as a named tensor of a type from the table, packed where the type is narrower than a byte.

    Args:
        name: Name of the tensor.
        values: Integers of any shape, in the type's storage type.
        dtype: The type to write.

    Returns:
        A tensor whose data is in `raw_data`, little-endian.
    """
    raw = pack(values, dtype) if dtype.bits < 8 else values.astype(dtype.storage.newbyteorder("<"))
    return onnx.TensorProto(name=name, data_type=dtype.onnx_code, dims=values.shape, raw_data=raw.tobytes())
