"""Relu and Clip: superfluous wherever the grid behind them saturates at the same bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import onnx

from quantlab.graph import GraphView
from quantlab.plan.recipe import Settings
from quantlab.plan.wishes import Refuse, Wish, activation, float_data, op_rules


@op_rules.register("Relu", "Clip")
def clipping(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Ask that the output takes over from the input."""
    if (refusal := float_data(node, view)) is not None:
        return refusal
    bounds = (0.0, math.inf) if node.op_type == "Relu" else _bounds(node, view)
    if bounds is None:
        return Refuse("its bounds are computed while the model runs")
    return [replace(activation(node.output[0], settings), absorbs=node.input[0], within=bounds)]


def _bounds(node: onnx.NodeProto, view: GraphView) -> tuple[float, float] | None:
    ends = [-math.inf, math.inf]
    for index in (1, 2):
        if len(node.input) > index and node.input[index]:
            value = view.constant(node.input[index])
            if value is None or value.size != 1:
                return None
            ends[index - 1] = float(value.item())
    return ends[0], ends[1]
