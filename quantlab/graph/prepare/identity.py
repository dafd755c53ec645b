"""Identity, and Dropout outside training, hand on their input unchanged: their readers read that input instead.

An output of the graph keeps its name: there the tensor that was handed on takes the output's name.
"""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass
from quantlab.graph.prepare.edit import inner_names, is_standard, label, remove_nodes, rename
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.view import GraphView


def _edit(model: onnx.ModelProto) -> list[str]:
    view = GraphView.of(model)
    outputs = set(view.outputs)
    hidden = inner_names(model.graph)
    inside = {name for name, uses in view.uses.items() if any(use.inside for use in uses)}
    renamed: dict[str, str] = {}
    removed: set[int] = set()
    notes = []
    for node in view.nodes:
        if not is_standard(node, "Identity", "Dropout"):
            continue
        reason = _does_something(node, view)
        source, target = _final(node.input[0], renamed), node.output[0]
        old, new = (source, target) if target in outputs else (target, source)
        if reason is None and target in outputs:
            reason = _output_reason(source, target, view, outputs)
        if reason is None and old in inside and new in hidden:
            reason = f"a subgraph that reads {old!r} has a {new!r} of its own"
        if reason is not None:
            notes.append(f"left {label(node)} alone: {reason}")
            continue
        renamed[old] = new
        removed.add(id(node))
        if old in inside:
            inside.add(new)
        notes.append(f"removed {label(node)}")
    if removed:
        remove_nodes(model.graph, removed)
        final = {name: _final(name, renamed) for name in renamed}
        rename(model.graph, final)
        _rename_types(model.graph, final)
    return notes


def _final(name: str, renamed: dict[str, str]) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _does_something(node: onnx.NodeProto, view: GraphView) -> str | None:
    """Say why a node is more than a copy of its first input."""
    if node.op_type == "Identity":
        return None
    if any(name in view.uses or name in view.outputs for name in node.output[1:] if name):
        return f"its mask {node.output[1]!r} is read"
    if view.opset < 7 and not view.attribute(node, "is_test", 0):
        return "it is in training mode (is_test is 0)"
    if len(node.input) > 2 and node.input[2]:
        training = view.constant(node.input[2])
        if training is None:
            return f"whether it trains is computed ({node.input[2]!r})"
        if training.any():
            return "it is in training mode"
    return None


def _output_reason(source: str, target: str, view: GraphView, outputs: set[str]) -> str | None:
    """Say why the tensor `source` cannot take the name of the output `target`."""
    if source in outputs:
        return f"it makes graph output {target!r} a copy of graph output {source!r}"
    if source not in view.producers:
        kind = "initializer" if source in view.constants else "graph input"
        return f"it makes {kind} {source!r} the graph output {target!r}"
    return None


def _rename_types(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Let what is known about a tensor follow its name, unless the new name is described already."""
    known = {value.name for values in (graph.value_info, graph.input, graph.output) for value in values}
    known |= {tensor.name for tensor in graph.initializer}
    doomed = []
    for index, value in enumerate(graph.value_info):
        new = names.get(value.name)
        if new is None:
            continue
        if new in known:
            doomed.append(index)
        else:
            value.name = new
            known.add(new)
    for index in reversed(doomed):
        del graph.value_info[index]


REMOVE_IDENTITY = Pass(name="remove-identity", edit=_edit, requires=missing_constants)
