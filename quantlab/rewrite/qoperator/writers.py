"""The table from operator types to the functions that write their integer forms."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from quantlab.registry import Registry
from quantlab.rewrite.qoperator.writing import Writing

IntegerWriter = Callable[[Writing, onnx.NodeProto], None]

integer_writers: Registry[IntegerWriter] = Registry("integer operator", "quantlab.rewrite.qoperator.operators")
"""Operator type to writer; filled from the modules of `quantlab.rewrite.qoperator.operators`."""
