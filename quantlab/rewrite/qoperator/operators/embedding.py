"""QEmbedLayerNormalization: the tables, then their scales, then their zero points."""

from __future__ import annotations

import onnx

from quantlab.plan.integer.embedding import NAME, TABLES
from quantlab.rewrite.qoperator.writers import integer_writers
from quantlab.rewrite.qoperator.writing import Writing

MASK = 7


@integer_writers.register(NAME)
def embed_layer_normalization(work: Writing, node: onnx.NodeProto) -> None:
    """Ids and mask stay what they are; tables that are left out stay out."""
    tables = [work.read(name) if name else ["", "", ""] for name in node.input[TABLES]]
    mask = node.input[MASK] if len(node.input) > MASK else ""
    integers, scales, zero_points = (list(column) for column in zip(*tables, strict=True))
    inputs = [*node.input[:2], *integers, mask, *scales, *zero_points]
    work.write(node, "QEmbedLayerNormalization", inputs, without=("mask_index_type",))
