"""The drawing of a model's graph: a box for each node, input and output, and where they stand.

Constants are no boxes: a weight belongs to the node that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantlab.graph import GraphView
from quantlab.graph.layout import Edge, Vertex, layered
from quantlab.plan import NodePlan

_FIRST = {"input": 0, "node": 1, "output": 2}

_DIGITS = 3
"""Decimals of a position: a thousandth of a box is not seen."""


def drawing(view: GraphView, decisions: Mapping[str, NodePlan]) -> dict[str, Any]:
    """Draw a graph.

    Args:
        view: The float graph.
        decisions: Node name to what the plan says of it; empty where there is no plan.

    Returns:
        `nodes`, inputs first, then topologically, outputs last: name; op, or `"input"` or `"output"`; `makes`, the
        tensors it makes; x, 1 apart at least; y, the number of the row; status and reason where they are known.
        `edges`: the numbers of two nodes, then x and y of each bend. `rows`: how many there are.
    """
    layout = layered(view)
    order = sorted(range(len(layout.vertices)), key=lambda index: _FIRST[layout.vertices[index].kind])
    number = {index: place for place, index in enumerate(order)}
    lines = {(number[edge.source], number[edge.target]): edge for edge in layout.edges}
    return {
        "nodes": [_box(layout.vertices[index], view, decisions) for index in order],
        "edges": [[*ends, *_bends(edge)] for ends, edge in lines.items()],
        "rows": layout.layers,
    }


def _box(vertex: Vertex, view: GraphView, decisions: Mapping[str, NodePlan]) -> dict[str, Any]:
    box = {"name": vertex.name, "op": vertex.kind, "makes": [vertex.name] if vertex.kind == "input" else []}
    if vertex.index is not None:
        node = view.nodes[vertex.index]
        box |= {"op": node.op_type, "makes": [name for name in node.output if name]}
        if (decision := decisions.get(node.name)) is not None:
            box |= {"status": decision.status, "reason": decision.reason}
    return box | {"x": round(vertex.position, _DIGITS), "y": vertex.layer}


def _bends(edge: Edge) -> list[float]:
    return [number for row, position in edge.bends for number in (round(position, _DIGITS), row)]
