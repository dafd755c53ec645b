"""QEmbedLayerNormalization: tables and factors of 8 bits, an output that stays float.

The operator is onnxruntime's own, as its optimizer writes it. Its inputs are

    input_ids, segment_ids, word_embedding, position_embedding, segment_embedding, gamma, beta, mask, position_ids
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from quantlab.graph import GraphView
from quantlab.plan.forms import Grids, integer_needs, integer_rules
from quantlab.plan.integer.pointwise import lacks_one_type
from quantlab.plan.recipe import Settings
from quantlab.plan.wishes import Refuse, Wish, activation

NAME = "com.microsoft.EmbedLayerNormalization"
TABLES = slice(2, 7)
POSITION_IDS = 8


@integer_rules.register(NAME)
def embed_layer_normalization(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Iterable[Wish] | Refuse:
    """Each table gets a grid of its own; the output stays float."""
    tables = [name for name in node.input[TABLES] if name]
    if computed := [name for name in tables if name not in view.constants]:
        return Refuse(f"{computed[0]!r} is computed, and QEmbedLayerNormalization takes constant tables")
    if any(node.output[2:]):
        return Refuse("QEmbedLayerNormalization does not give out the sum of the embeddings")
    if any(node.input[POSITION_IDS:]):
        return Refuse("QEmbedLayerNormalization takes no position_ids")
    if view.attribute(node, "mask_index_type", 0):
        return Refuse("QEmbedLayerNormalization knows no mask_index_type")
    return [activation(name, settings) for name in dict.fromkeys(tables)]


@integer_needs.register(NAME)
def tables_of_one_type(node: onnx.NodeProto, grids: Grids) -> str | None:
    """All tables are of one type."""
    return lacks_one_type(node, grids, (name for name in node.input[TABLES] if name), outputs=())
