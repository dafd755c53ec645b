"""Numbers without ONNX: types, grids, ranges, and arrays rounded onto grids. Pure NumPy."""

from quantlab.arrays.affine import dequantize, fake_quant, quantize
from quantlab.arrays.blocks import block_range, block_shape
from quantlab.arrays.dtypes import (
    BY_ONNX_CODE,
    DTYPES,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    INT4,
    INT8,
    INT16,
    INT32,
    UINT4,
    UINT8,
    UINT16,
    DType,
    dtype,
)
from quantlab.arrays.float8 import float8_levels
from quantlab.arrays.metrics import cosine, mse, ratio_from_db, sqnr, sqnr_from_powers
from quantlab.arrays.packing import pack, unpack
from quantlab.arrays.qparams import Degenerate, QParams, Range, include_zero, qparams_from_range, stack_ranges
from quantlab.arrays.restricted import restricted_qparams
from quantlab.arrays.spec import QuantSpec

__all__ = [
    "BY_ONNX_CODE",
    "DTYPES",
    "FLOAT8E4M3FN",
    "FLOAT8E4M3FNUZ",
    "FLOAT8E5M2",
    "FLOAT8E5M2FNUZ",
    "INT4",
    "INT8",
    "INT16",
    "INT32",
    "UINT4",
    "UINT8",
    "UINT16",
    "DType",
    "Degenerate",
    "QParams",
    "QuantSpec",
    "Range",
    "block_range",
    "block_shape",
    "cosine",
    "dequantize",
    "dtype",
    "fake_quant",
    "float8_levels",
    "include_zero",
    "mse",
    "pack",
    "qparams_from_range",
    "quantize",
    "ratio_from_db",
    "restricted_qparams",
    "sqnr",
    "sqnr_from_powers",
    "stack_ranges",
    "unpack",
]
