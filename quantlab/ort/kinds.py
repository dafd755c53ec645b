"""Types, formats and modes in the peer's spelling and numbering, and what our table of types says about each.

Source of names and numbers: onnxruntime.quantization 1.31.1, `quant_utils.py`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Self

import numpy as np
from onnx import TensorProto, helper

from quantlab.arrays import BY_ONNX_CODE, DType, dtype
from quantlab.errors import OptionError, nearest


class _Named(Enum):
    """Members that print and are found by their bare names."""

    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_string(cls, name: str) -> Self:
        """Return the member of a name.

        Args:
            name: The name, such as `"QInt8"`.

        Raises:
            OptionError: There is no such member; it is a ValueError too.
        """
        if name not in cls.__members__:
            allowed = ", ".join(cls.__members__)
            raise OptionError(f"unknown {cls.__name__} {name!r}{nearest(name, cls.__members__)} (allowed: {allowed})")
        return cls[name]


class QuantizationMode(_Named):
    """Which operators a QOperator model is made of."""

    IntegerOps = 0
    QLinearOps = 1


class QuantizedValueType(_Named):
    """What a quantized value was: a tensor that is computed, or a constant."""

    Input = 0
    Initializer = 1


class QuantFormat(_Named):
    """How a quantized graph is written: integer operators, or QuantizeLinear and DequantizeLinear pairs."""

    QOperator = 0
    QDQ = 1


class QuantType(_Named):
    """Types of quantized values.

    Example:
        >>> QuantType.QInt8.tensor_type == TensorProto.INT8, str(QuantType.from_string("QUInt4"))
        (True, 'QUInt4')
    """

    QInt8 = 0
    QUInt8 = 1
    QFLOAT8E4M3FN = 2
    QInt16 = 3
    QUInt16 = 4
    QInt4 = 5
    QUInt4 = 6

    @property
    def tensor_type(self) -> int:
        """The `onnx.TensorProto.DataType` value."""
        return dtype(self.name).onnx_code


CODES: tuple[int, ...] = tuple(kind.tensor_type for kind in QuantType)
"""`onnx.TensorProto.DataType` of every type that there is a QuantType for."""


def row_of(code: int) -> DType:
    """Return the row of our table of types.

    Args:
        code: An `onnx.TensorProto.DataType` that a QuantType stands for, or a QuantType.

    Raises:
        OptionError: No QuantType stands for it.
    """
    number = code.tensor_type if isinstance(code, QuantType) else code
    if number not in CODES:
        names = ", ".join(TensorProto.DataType.Name(known) for known in sorted(CODES))
        given = TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else repr(number)
        raise OptionError(f"values cannot be quantized to {given} here (allowed: {names})")
    return BY_ONNX_CODE[number]


def numpy_type(code: int) -> np.dtype[Any]:
    """Return the NumPy type in which the peer hands out values: `int4`, `uint4` and `float8` are those of ml_dtypes.

    Args:
        code: An `onnx.TensorProto.DataType`.
    """
    return helper.tensor_dtype_to_np_dtype(row_of(code).onnx_code)
