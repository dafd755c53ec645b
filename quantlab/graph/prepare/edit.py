"""The few ways in which passes edit a graph: remove nodes, put them in order, and rename what is read and made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence
from typing import Any

import onnx

from quantlab.graph.view import subgraphs

_STANDARD = ("", "ai.onnx")


def label(node: onnx.NodeProto) -> str:
    """Return how notes call a node, such as `Conv 'conv1'`."""
    return f"{node.op_type} {node.name!r}" if node.name else f"unnamed {node.op_type} making {list(node.output)}"


def is_standard(node: onnx.NodeProto, *op_types: str) -> bool:
    """Return whether a node is one of the named operators of the default domain."""
    return node.op_type in op_types and node.domain in _STANDARD


def remove_nodes(graph: onnx.GraphProto, removed: Collection[int]) -> None:
    """Remove the nodes with the given `id()`; the caller keeps the nodes alive while it holds their ids."""
    if removed:
        delete_where(graph.node, lambda node: id(node) in removed)


def delete_where(entries: Any, doomed: Callable[[Any], bool]) -> int:
    """Delete entries of a repeated field, and return how many.

    Sorting is stable and moves no content; deleted one by one, each would move all that follow it.
    """
    count = sum(1 for entry in entries if doomed(entry))
    if count:
        entries.sort(key=doomed)
        del entries[len(entries) - count :]
    return count


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a graph other nodes, or its own in another order."""
    listed = list(nodes)
    del graph.node[:]
    graph.node.extend(listed)


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors wherever nodes make or read them, also where a subgraph captures them.

    Args:
        graph: The main graph, edited in place.
        names: Old to new names. A subgraph that makes a tensor of an old name itself keeps it.
    """
    for node in graph.node:
        _rename_all(node.output, names)
        _rename_reads(node, names, frozenset())


def inner_names(graph: onnx.GraphProto) -> set[str]:
    """Return every tensor name that some subgraph makes itself; such a name hides an outer one."""
    found: set[str] = set()
    for node in graph.node:
        for inner in subgraphs(node):
            found |= _own(inner) | inner_names(inner)
    return found


def _own(graph: onnx.GraphProto) -> set[str]:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    return own | {name for node in graph.node for name in node.output}


def _rename_all(values: MutableSequence[str], names: Mapping[str, str], hidden: frozenset[str] = frozenset()) -> None:
    for index, name in enumerate(values):
        if name in names and name not in hidden:
            values[index] = names[name]


def _rename_reads(node: onnx.NodeProto, names: Mapping[str, str], hidden: frozenset[str]) -> None:
    _rename_all(node.input, names, hidden)
    for inner in subgraphs(node):
        covered = hidden | _own(inner)
        for inner_node in inner.node:
            _rename_reads(inner_node, names, covered)
        for value in inner.output:
            if value.name in names and value.name not in covered:
                value.name = names[value.name]
