"""Nodes in the file in topological order, what subgraphs capture counted as read, as ONNX demands."""

from __future__ import annotations

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import replace_nodes


def _edit(piece: Workpiece) -> list[str]:
    view = piece.view
    listed = list(piece.model.graph.node)
    moved = sum(before is not after for before, after in zip(listed, view.nodes, strict=True))
    if not moved:
        return []
    replace_nodes(piece.model.graph, view.nodes)
    return [f"{moved} nodes moved so that each comes after what it reads"]


SORT_NODES = Pass(name="sort-nodes", edit=_edit)
