"""Operators that compute each element from one or two others: every float input and output gets a grid of its own."""

from __future__ import annotations

from dataclasses import replace

import onnx

from quantlab.graph import GraphView
from quantlab.plan.recipe import Settings
from quantlab.plan.wishes import Refuse, Wish, activation, float_data, op_rules, unlisted


@op_rules.register("Add", "Mul", "LeakyRelu", "Sigmoid", "GlobalAveragePool", "Concat")
def pointwise(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Give each float input and output a grid of its own; constants among the inputs get an activation grid too."""
    if (refusal := float_data(node, view)) is not None:
        return refusal
    tensors = [name for name in (*node.input, *node.output) if name and view.float_type(name) is not None]
    return [activation(name, settings) for name in dict.fromkeys(tensors)]


@op_rules.register("Sub", "Div", "HardSwish", "HardSigmoid", "ReduceMean", "ReduceSum", "CumSum")
def on_request(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """As `pointwise`, but only where asked for: onnxruntime computes these in float even between grids."""
    return unlisted(node, settings) or pointwise(node, view, settings)


@op_rules.register("Softmax")
def softmax(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """The output lies in 0..1 whatever the data, so its range needs no calibration."""
    if (refusal := float_data(node, view)) is not None:
        return refusal
    out = replace(activation(node.output[0], settings), fixed=(0.0, 1.0))
    return [activation(node.input[0], settings), out]
