"""Arrays on grids of eight-bit floating-point numbers: the levels lie densely near zero and far apart at the ends.

    code of y = the level nearest to y, of two equally near ones that with the even code; beyond the ends, the end
    quantize(x) = code of x / scale            dequantize(q) = level of q * scale

computed in float32 for float16 and float32 arrays, and rounded to the type of the scale at the end. There is no zero
point. Infinities saturate, NaN stays NaN.

Source: the ONNX operators QuantizeLinear and DequantizeLinear with `saturate=1`; bit-equal to onnxruntime 1.31.1's.
The formats are those of Micikevicius et al. 2022, "FP8 Formats for Deep Learning", and, for those with a single zero
(FNUZ), of Noune et al. 2022, "8-bit Numerical Formats for Deep Neural Networks".
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays.dtypes import DType, Float8
from quantlab.errors import OptionError

Floats = npt.NDArray[np.floating[Any]]
SIGN = np.uint8(0x80)


def _format(dtype: DType) -> Float8:
    if dtype.float8 is None:
        raise OptionError(f"{dtype} has integer levels: take a float8 type")
    return dtype.float8


@cache
def _magnitudes(layout: Float8) -> npt.NDArray[np.float32]:
    """Return the levels from 0 up, in the order of their codes."""
    exponent, fraction = np.divmod(np.arange(layout.largest + 1), 1 << layout.mantissa)
    ones = np.where(exponent > 0, 1 << layout.mantissa, 0)
    # The numbers with exponent 0 continue those with exponent 1 towards zero in equal steps.
    shift = np.maximum(exponent, 1) - layout.bias - layout.mantissa
    return np.asarray(np.ldexp((ones + fraction).astype(np.float32), shift))


@cache
def _decoded(layout: Float8) -> npt.NDArray[np.float32]:
    """Return the number behind each of the 256 codes; what is no finite level is NaN or, past the largest, infinite."""
    half = np.full(128, np.nan, np.float32)
    half[: layout.largest + 1] = _magnitudes(layout)
    if layout.infinite is not None:
        half[layout.infinite] = np.inf
    whole = np.concatenate([half, -half])
    if layout.nan == SIGN:
        whole[layout.nan] = np.nan
    return whole


def float8_levels(dtype: DType) -> npt.NDArray[np.float32]:
    """Return the finite levels of a float8 type, in the order of their codes.

    Args:
        dtype: A float8 type.

    Returns:
        Shape (n,); both zeros where there are two.

    Raises:
        OptionError: The type is one of integers.

    Example:
        >>> from quantlab.arrays import FLOAT8E4M3FN
        >>> levels = float8_levels(FLOAT8E4M3FN)
        >>> levels.size, float(levels.max()), float(levels[1])
        (254, 448.0, 0.001953125)
    """
    values = _decoded(_format(dtype))
    return values[np.isfinite(values)]


def encode(y: Floats, dtype: DType) -> npt.NDArray[np.uint8]:
    """Round numbers to codes of a float8 type.

    Args:
        y: Float array of any shape.
        dtype: A float8 type.

    Returns:
        Codes of the same shape.

    Raises:
        OptionError: The type is one of integers.

    Example:
        >>> from quantlab.arrays import FLOAT8E4M3FN
        >>> [hex(code) for code in encode(np.array([1.0, 1.0625, 1.1875, -1e9, np.nan]), FLOAT8E4M3FN)]
        ['0x38', '0x38', '0x3a', '0xfe', '0x7f']
    """
    layout = _format(dtype)
    levels = _magnitudes(layout)
    middles = (levels[:-1] + levels[1:]) / 2
    size, missing = np.abs(y), np.isnan(y)
    code = np.searchsorted(middles, size)
    # Halfway between two levels, the search gives the lower one: go on where its code is odd.
    code += (size == middles[np.minimum(code, middles.size - 1)]) & (code % 2 == 1)
    code = np.where(missing, layout.nan, code).astype(np.uint8)
    one_zero = layout.nan == SIGN
    signed = np.signbit(y) & ~((code == 0) & one_zero)
    return np.where(signed, code | SIGN, code)


def decode(codes: npt.NDArray[np.uint8], dtype: DType) -> npt.NDArray[np.float32]:
    """Return the numbers behind codes of a float8 type.

    Args:
        codes: Unsigned bytes of any shape.
        dtype: A float8 type.

    Returns:
        Float32 array of the same shape.

    Raises:
        OptionError: The type is one of integers.
    """
    return np.asarray(_decoded(_format(dtype))[codes])


def quantize_float8(x: Floats, scale: Floats, dtype: DType) -> npt.NDArray[np.uint8]:
    """Round an array onto a float8 grid.

    Args:
        x: Float array.
        scale: Float array that broadcasts with it.
        dtype: A float8 type.

    Returns:
        Codes of `x`'s shape.
    """
    kind = np.result_type(x, scale, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return encode(x.astype(kind) / scale.astype(kind), dtype)


def dequantize_float8(codes: npt.NDArray[np.uint8], scale: Floats, dtype: DType) -> Floats:
    """Turn float8 codes into real numbers.

    Args:
        codes: Unsigned bytes.
        scale: Float array that broadcasts with them.
        dtype: A float8 type.

    Returns:
        Array of the codes' shape in the scale's type.
    """
    kind = np.result_type(scale, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((decode(codes, dtype).astype(kind) * scale.astype(kind)).astype(scale.dtype))
