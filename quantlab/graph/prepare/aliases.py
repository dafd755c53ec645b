"""Letting one tensor stand for another: its readers, those in subgraphs too, read the other one from then on.

An output of the graph keeps its name: there the tensor that stands for it takes the output's name.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from quantlab.graph.prepare.edit import delete_where, inner_names, rename
from quantlab.graph.view import GraphView


class Aliases:
    """What is to be renamed in a graph; collected first and carried out once.

    Args:
        graph: The main graph.
        view: A view of it.
    """

    def __init__(self, graph: onnx.GraphProto, view: GraphView) -> None:
        self._view = view
        self._outputs = set(view.outputs)
        self._hidden = inner_names(graph)
        self._inside = {name for name, uses in view.uses.items() if any(use.inside for use in uses)}
        self._renamed: dict[str, str] = {}

    def final(self, name: str) -> str:
        """Return what a tensor is called once everything is carried out."""
        while name in self._renamed:
            name = self._renamed[name]
        return name

    def join(self, source: str, target: str) -> str | None:
        """Let `source` stand for `target`.

        Args:
            source: The tensor that stays.
            target: The tensor of the same values whose node is to go.

        Returns:
            Why that cannot be, or None where it is done.
        """
        source = self.final(source)
        old, new = (source, target) if target in self._outputs else (target, source)
        if target in self._outputs and (reason := self._output_reason(source, target)) is not None:
            return reason
        if old in self._inside and new in self._hidden:
            return f"a subgraph that reads {old!r} has a {new!r} of its own"
        self._renamed[old] = new
        if old in self._inside:
            self._inside.add(new)
        return None

    def carry_out(self, graph: onnx.GraphProto) -> None:
        """Rename everything; nodes that make a tensor for which another stands have to be gone by then."""
        if self._renamed:
            final = {name: self.final(name) for name in self._renamed}
            rename(graph, final)
            _rename_types(graph, final)

    def _output_reason(self, source: str, target: str) -> str | None:
        """Say why the tensor `source` cannot take the name of the output `target`."""
        if source in self._outputs:
            return f"it makes graph output {target!r} a copy of graph output {source!r}"
        if source not in self._view.producers:
            kind = "initializer" if source in self._view.constants else "graph input"
            return f"it makes {kind} {source!r} the graph output {target!r}"
        return None


def _rename_types(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let what is known about a tensor follow its name, unless the new name is described already."""
    known = {value.name for values in (graph.value_info, graph.input, graph.output) for value in values}
    known |= {tensor.name for tensor in graph.initializer}
    doomed = set()
    for value in list(graph.value_info):
        new = names.get(value.name)
        if new is None:
            continue
        if new in known:
            doomed.add(value.name)
        else:
            value.name = new
            known.add(new)
    delete_where(graph.value_info, lambda value: value.name in doomed)
