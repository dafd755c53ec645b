"""Two or more integers to a byte: the layout in which ONNX stores types narrower than eight bits.

The first value takes the lowest bits of its byte; what is left of the last byte is zero. Source: ONNX IR
specification, "TensorProto", sub-byte types.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays.dtypes import DType
from quantlab.errors import ShapeError


def pack(values: npt.NDArray[Any], dtype: DType) -> npt.NDArray[np.uint8]:
    """Pack integers of a type that is narrower than a byte.

    Args:
        values: Integers within the type's limits, any shape; taken in row-major order.
        dtype: A type of 2 or 4 bits.

    Returns:
        Bytes of shape (ceil(values.size / per_byte),).

    Raises:
        ShapeError: The type fills whole bytes and needs no packing.

    Example:
        >>> from quantlab.arrays import INT4
        >>> [hex(byte) for byte in pack(np.array([1, -1, 7], np.int8), INT4)]
        ['0xf1', '0x7']
    """
    if dtype.bits >= 8:
        raise ShapeError(f"{dtype} needs no packing: each value fills {dtype.bits // 8} byte(s)")
    count, mask = dtype.per_byte, (1 << dtype.bits) - 1
    flat = np.ravel(values).astype(np.uint8) & np.uint8(mask)
    padded = np.zeros(-(-flat.size // count) * count, np.uint8)
    padded[: flat.size] = flat
    packed = np.zeros(padded.size // count, np.uint8)
    for lane in range(count):
        packed |= padded[lane::count] << np.uint8(lane * dtype.bits)
    return packed


def unpack(packed: npt.NDArray[np.uint8], size: int, dtype: DType) -> npt.NDArray[Any]:
    """Undo `pack`.

    Args:
        packed: Bytes of shape (ceil(size / per_byte),).
        size: How many values there are.
        dtype: The type that was packed.

    Returns:
        Values of shape (size,) in the type's storage type.

    Raises:
        ShapeError: There are not enough bytes for `size` values.
    """
    count = dtype.per_byte
    if packed.size * count < size:
        raise ShapeError(f"{packed.size} bytes hold {packed.size * count} values of {dtype}, not {size}")
    lanes = [(packed >> np.uint8(lane * dtype.bits)) & np.uint8((1 << dtype.bits) - 1) for lane in range(count)]
    values = np.stack(lanes, axis=-1).reshape(-1)[:size].astype(dtype.storage)
    if not dtype.signed:
        return values
    half = np.int8(1 << (dtype.bits - 1))
    return (values ^ half) - half
