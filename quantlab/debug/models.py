"""Two models as they come, matched: which form of the float model it was that was quantized is found out."""

from __future__ import annotations

import onnx

from quantlab.debug.matching import Matching, match
from quantlab.errors import ModelError
from quantlab.graph import GraphView
from quantlab.plan import Recipe
from quantlab.workflow.quantize import prepare_for

UNCHANGED = Recipe(optimize=False)
"""Prepares types and names alone: what is computed, and by which nodes, stays."""


def matched(float_model: onnx.ModelProto, quantized_model: onnx.ModelProto) -> tuple[onnx.ModelProto, Matching]:
    """Match a quantized model with its float model, prepared as for quantization, or unchanged if that fits better.

    Args:
        float_model: The float model; it is not changed.
        quantized_model: Its quantized version.

    Returns:
        The float model in the form that fits, and the matching.

    Raises:
        ModelError: The float model is broken or quantized already, or nothing in the other one is.
    """
    prepared = prepare_for(float_model).model
    view = GraphView.of(quantized_model)
    found = match(GraphView.of(prepared), view)
    if not found.tensors:
        raise ModelError(
            "nothing in the second model is quantized: give the float model first, the quantized one second"
        )
    if found.found == len(found.tensors) and found.outputs == len(view.outputs):
        return prepared, found
    plain = prepare_for(float_model, UNCHANGED).model
    bare = match(GraphView.of(plain), view)
    better = (bare.outputs, bare.found) > (found.outputs, found.found)
    return (plain, bare) if better else (prepared, found)


def common_outputs(exact: onnx.ModelProto, quantized: onnx.ModelProto) -> list[str]:
    """Return the outputs of two models that are run side by side.

    Args:
        exact: The float model.
        quantized: Its quantized version.

    Returns:
        Their names, in order.

    Raises:
        ModelError: The models do not have the same.
    """
    wanted, got = ([value.name for value in model.graph.output] for model in (exact, quantized))
    if wanted != got:
        raise ModelError(f"the two models have different outputs: {wanted} and {got}")
    return wanted
