"""EmbedLayerNormalization, onnxruntime's own operator: tables of 8 bits in the file, a sum in float."""

from __future__ import annotations

import onnx

from quantlab.graph import GraphView
from quantlab.plan.recipe import Settings
from quantlab.plan.wishes import Refuse, Wish, activation, op_rules


@op_rules.register("com.microsoft.EmbedLayerNormalization")
def embed_layer_normalization(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Give tables, factors and every float output a grid; identifiers and masks are integers already.

    onnxruntime computes the operator in float: what is gained is a file a quarter of the size.
    """
    tensors = [name for name in (*node.input, *node.output) if name and view.float_type(name) is not None]
    if not tensors:
        return Refuse("none of its tensors is of a known floating-point type")
    return [activation(name, settings) for name in dict.fromkeys(tensors)]
