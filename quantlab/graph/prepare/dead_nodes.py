"""Nodes from which no path leads to an output of the graph are removed: nothing that they make is ever seen."""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import label, remove_nodes
from quantlab.graph.view import captured, subgraphs


def _edit(piece: Workpiece) -> list[str]:
    view = piece.view
    wanted = set(view.outputs)
    dead: list[onnx.NodeProto] = []
    for node in reversed(view.nodes):
        if wanted.isdisjoint(node.output):
            dead.append(node)
            continue
        wanted.update(node.input)
        for graph in subgraphs(node):
            wanted.update(captured(graph))
    if not dead:
        return []
    remove_nodes(piece.model.graph, {id(node) for node in dead})
    shown = ", ".join(map(label, reversed(dead[-3:]))) + (", ..." if len(dead) > 3 else "")
    return [f"{len(dead)} nodes that lead to no output are gone: {shown}"]


DROP_DEAD_NODES = Pass(name="drop-dead-nodes", edit=_edit)
