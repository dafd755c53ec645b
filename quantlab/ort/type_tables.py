"""The peer's tables of types and limits, made from ours, and its constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from quantlab.ort.kinds import CODES, numpy_type, row_of
from quantlab.ort.scales import get_qmin_qmax_for_qType

Limits = dict[int, tuple[Any, Any]]

onnx_domain = "ai.onnx"
ms_domain = "com.microsoft"
MODEL_SIZE_THRESHOLD = 2**31
"""Bytes of a model from which on its weights have to be in files of their own."""

FLOAT8_TYPES = (
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
)
_INTEGERS = tuple(code for code in CODES if not row_of(code).is_float)
_MIRRORED = (TensorProto.INT8, TensorProto.INT16)

type_to_name: dict[int, str] = {code: name for name, code in TensorProto.DataType.items() if code}
ONNX_TYPE_TO_NP_TYPE: dict[int, np.dtype[Any]] = {code: numpy_type(code) for code in CODES}
ONNX_INT_TYPE_RANGE: Limits = {code: get_qmin_qmax_for_qType(code) for code in _INTEGERS}
ONNX_INT_TYPE_SYMMETRIC_RANGE: Limits = {code: get_qmin_qmax_for_qType(code, symmetric=True) for code in _MIRRORED}
ONNX_INT_TYPE_REDUCED_RANGE: Limits = {code: get_qmin_qmax_for_qType(code, reduce_range=True) for code in _INTEGERS}
