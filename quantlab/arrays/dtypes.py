"""The table of number types that a grid can have: one row a type, everything else is read from the row.

Eight-bit floating-point numbers are kept as their bits, in uint8; `quantlab.arrays.float8` reads and makes them.
Integers narrower than a byte are kept one to an element while quantlab works with them (`storage`), and are packed only
when they are written into a model. ONNX codes are the values of `onnx.TensorProto.DataType`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quantlab.errors import OptionError, nearest


@dataclass(frozen=True, kw_only=True)
class Float8:
    """How eight bits are read as a number: from the highest down a sign, an exponent e, and M bits of mantissa m.

        value = 2**(e - bias) * (1 + m / 2**M)      and for e = 0      2**(1 - bias) * m / 2**M

    Attributes:
        mantissa: M.
        bias: Of the exponent.
        largest: Code of the largest finite number; those of the smaller ones lie below it without gaps.
        nan: Code of NaN. 0x80 stands where a negative zero would, so that there is a single zero.
        infinite: Code of infinity, or None where there is none.
    """

    mantissa: int
    bias: int
    largest: int
    nan: int
    infinite: int | None = None


@dataclass(frozen=True, kw_only=True)
class DType:
    """One row of the table of types.

    Invariants:
        * `qmin <= 0 <= qmax` and, for integers, `qmax - qmin == 2**bits - 1`.
        * Every value of the type fits into one element of `storage`.

    Attributes:
        name: Lower-case name, such as `"int8"`.
        bits: Width in bits.
        signed: Whether negative values exist.
        qmin: Smallest value.
        qmax: Largest value.
        storage: NumPy type of one unpacked element; that of the bits for float8.
        onnx_code: `onnx.TensorProto.DataType` value.
        min_opset: First ONNX opset whose QuantizeLinear and DequantizeLinear know the type.
        float8: How the bits are read, or None for integers.
    """

    name: str
    bits: int
    signed: bool
    qmin: int
    qmax: int
    storage: np.dtype[Any]
    onnx_code: int
    min_opset: int
    float8: Float8 | None = None

    @property
    def is_float(self) -> bool:
        """Whether the levels are floating-point numbers, which lie at unequal distances."""
        return self.float8 is not None

    @property
    def per_byte(self) -> int:
        """How many values share one byte in a model file (1 for types of 8 bits and more)."""
        return max(1, 8 // self.bits)

    def __str__(self) -> str:
        return self.name


def _integer(bits: int, signed: bool, onnx_code: int, min_opset: int) -> DType:
    qmin, qmax = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    prefix = "int" if signed else "uint"
    return DType(
        name=f"{prefix}{bits}",
        bits=bits,
        signed=signed,
        qmin=qmin,
        qmax=qmax,
        storage=np.dtype(f"{prefix}{max(bits, 8)}"),
        onnx_code=onnx_code,
        min_opset=min_opset,
    )


INT4 = _integer(4, True, 22, 21)
UINT4 = _integer(4, False, 21, 21)
INT8 = _integer(8, True, 3, 10)
UINT8 = _integer(8, False, 2, 10)
INT16 = _integer(16, True, 5, 21)
UINT16 = _integer(16, False, 4, 21)
INT32 = _integer(32, True, 6, 10)


def _float8(name: str, largest: int, onnx_code: int, layout: Float8) -> DType:
    return DType(
        name=name,
        bits=8,
        signed=True,
        qmin=-largest,
        qmax=largest,
        storage=np.dtype(np.uint8),
        onnx_code=onnx_code,
        min_opset=19,
        float8=layout,
    )


FLOAT8E4M3FN = _float8("float8e4m3fn", 448, 17, Float8(mantissa=3, bias=7, largest=0x7E, nan=0x7F))
FLOAT8E4M3FNUZ = _float8("float8e4m3fnuz", 240, 18, Float8(mantissa=3, bias=8, largest=0x7F, nan=0x80))
FLOAT8E5M2 = _float8("float8e5m2", 57344, 19, Float8(mantissa=2, bias=15, largest=0x7B, nan=0x7F, infinite=0x7C))
FLOAT8E5M2FNUZ = _float8("float8e5m2fnuz", 57344, 20, Float8(mantissa=2, bias=16, largest=0x7F, nan=0x80))

_INTEGERS = (INT4, UINT4, INT8, UINT8, INT16, UINT16, INT32)
_FLOATS = (FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ)

DTYPES: dict[str, DType] = {row.name: row for row in (*_INTEGERS, *_FLOATS)}

BY_ONNX_CODE: dict[int, DType] = {row.onnx_code: row for row in DTYPES.values()}
"""`onnx.TensorProto.DataType` value to row."""


def dtype(name: str | DType) -> DType:
    """Look a type up by name, in the spelling of NumPy or of onnxruntime's `QuantType`.

    Args:
        name: `"int8"`, `"Int8"`, `"QInt8"`, `"QuantType.QInt8"`, or a row of the table, which is handed back.

    Returns:
        The row.

    Raises:
        OptionError: No such type; the text names the nearest.

    Example:
        >>> dtype("QUInt8").qmax
        255
        >>> str(dtype("int4"))
        'int4'
    """
    if isinstance(name, DType):
        return name
    plain = name.rsplit(".", 1)[-1].lower()
    plain = plain[1:] if plain.startswith("q") else plain
    if plain not in DTYPES:
        raise OptionError(f"unknown type {name!r}{nearest(plain, DTYPES)} (allowed: {', '.join(DTYPES)})")
    return DTYPES[plain]
