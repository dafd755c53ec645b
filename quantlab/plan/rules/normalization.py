"""Normalizations, y = (x - mean) / std * scale + bias: scale is a weight, and a constant bias becomes int32."""

from __future__ import annotations

import onnx

from quantlab.graph import GraphView
from quantlab.plan.recipe import Settings
from quantlab.plan.wishes import Refuse, Wish, activation, bias, float_data, op_rules, unlisted, weight


@op_rules.register("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
def normalization(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Give data, scale and every output a grid; a constant bias lies on the product of the first two scales.

    onnxruntime computes normalizations in float, so they are quantized on request only.
    """
    if (refusal := unlisted(node, settings) or float_data(node, view)) is not None:
        return refusal
    x, scale = node.input[:2]
    wishes = [activation(x, settings)]
    wishes.append(weight(scale, settings, None) if scale in view.constants else activation(scale, settings))
    if len(node.input) > 2 and node.input[2]:
        wishes += _bias(node.input[2], x, scale, view, settings)
    return [*wishes, *(activation(name, settings) for name in node.output if view.float_type(name) is not None)]


def _bias(name: str, x: str, scale: str, view: GraphView, settings: Settings) -> list[Wish]:
    if name not in view.constants or not settings.bias:
        return []
    if name in settings.overrides:
        return [weight(name, settings, None)]
    return [bias(name, x, scale, None)]
