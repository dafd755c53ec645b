"""Operators that stay in float in static models although somebody might expect otherwise, and why."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx

from quantlab.plan.forms import form_of

_STATE = "its state is float from step to step, and onnxruntime has"
_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "LSTM": f"{_STATE} integers only for models whose activations get their grids while they run",
        "GRU": f"{_STATE} none on integers",
        "RNN": f"{_STATE} none on integers",
        "com.microsoft.Attention": (
            "what it multiplies inside has no tensors to give grids to; MatMul and Softmax, before they are fused, have"
        ),
    }
)


def no_rule(node: onnx.NodeProto) -> str:
    """Say why an operator without a rule stays in float.

    Args:
        node: The node.

    Returns:
        Words for `explain`.
    """
    where = f" of domain {node.domain!r}" if node.domain else ""
    why = _REASONS.get(form_of(node))
    return f"there is no rule for operator {node.op_type}{where}{'' if why is None else f': {why}'}"
