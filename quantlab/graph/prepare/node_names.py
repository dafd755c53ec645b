"""Every node of the main graph gets a name of its own: plans, patterns and reports speak of nodes by name.

A node without a name, or with one that an earlier node has, is called `OPERATOR_POSITION`, such as `Conv_3` for the
fourth node; the same model always gets the same names. A graph without a name, which ONNX demands, is called `main`.
"""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass, Workpiece


def _edit(piece: Workpiece) -> list[str]:
    seen: set[str] = set()
    unnamed = 0
    notes = []
    for position, node in enumerate(piece.model.graph.node):
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        fresh = piece.names.fresh(f"{node.op_type}_{position}")
        seen.add(fresh)
        if node.name:
            notes.append(f"{node.op_type} {node.name!r} has the name of an earlier node and became {fresh!r}")
        else:
            unnamed += 1
        node.name = fresh
    if not piece.model.graph.name:
        piece.model.graph.name = "main"
        notes.append("the graph had no name and became 'main'")
    return [*([f"{unnamed} nodes without a name got one"] if unnamed else []), *notes]


def _broken(model: onnx.ModelProto) -> str | None:
    names = [node.name for node in model.graph.node]
    return None if all(names) and len(set(names)) == len(names) else "some nodes have no name or the same name"


NAME_NODES = Pass(name="name-nodes", edit=_edit, ensures=_broken)
