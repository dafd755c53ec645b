"""Initializers that nobody reads and descriptions of tensors that are no longer there leave the file."""

from __future__ import annotations

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import delete_where


def _edit(piece: Workpiece) -> list[str]:
    graph = piece.model.graph
    view = piece.view
    wanted = {*view.uses, *view.outputs, *(value.name for value in graph.input)}
    dead = [tensor.name for tensor in graph.initializer if tensor.name not in wanted]
    delete_where(graph.initializer, lambda tensor: tensor.name not in wanted)
    stale = delete_where(graph.value_info, lambda value: value.name not in view.producers)
    notes = []
    if dead:
        shown = ", ".join(map(repr, dead[:3])) + (", ..." if len(dead) > 3 else "")
        notes.append(f"{len(dead)} initializers that nothing reads are gone: {shown}")
    if stale:
        notes.append(f"{stale} descriptions of tensors that no node makes are gone")
    return notes


DROP_UNUSED = Pass(name="drop-unused", edit=_edit)
