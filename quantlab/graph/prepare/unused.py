"""Initializers that nobody reads and descriptions of tensors that are no longer there leave the file."""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass
from quantlab.graph.view import GraphView


def _edit(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    view = GraphView.of(model)
    wanted = {*view.uses, *view.outputs, *(value.name for value in graph.input)}
    dead = [index for index, tensor in enumerate(graph.initializer) if tensor.name not in wanted]
    stale = [index for index, value in enumerate(graph.value_info) if value.name not in view.producers]
    names = [graph.initializer[index].name for index in dead]
    for index in reversed(dead):
        del graph.initializer[index]
    for index in reversed(stale):
        del graph.value_info[index]
    notes = []
    if dead:
        shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        notes.append(f"{len(dead)} initializers that nothing reads are gone: {shown}")
    if stale:
        notes.append(f"{len(stale)} descriptions of tensors that no node makes are gone")
    return notes


DROP_UNUSED = Pass(name="drop-unused", edit=_edit)
