"""Nodes in the file in topological order, what subgraphs capture counted as read, as ONNX demands."""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass
from quantlab.graph.prepare.edit import replace_nodes
from quantlab.graph.view import GraphView


def _edit(model: onnx.ModelProto) -> list[str]:
    view = GraphView.of(model)
    listed = list(model.graph.node)
    moved = sum(before is not after for before, after in zip(listed, view.nodes, strict=True))
    if not moved:
        return []
    replace_nodes(model.graph, view.nodes)
    return [f"{moved} nodes moved so that each comes after what it reads"]


SORT_NODES = Pass(name="sort-nodes", edit=_edit)
