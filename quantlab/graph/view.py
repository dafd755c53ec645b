"""A GraphView is a frozen index of one graph: who makes a tensor, who reads it, what is constant, what type it has.

It is built in one walk over nodes and edges and answers every question in constant time. It looks at the model, it does
not copy it: build a new view after a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.errors import ModelError
from quantlab.graph.tensors import FLOATS, to_array

_GRAPH, _GRAPHS = onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS


class Use(NamedTuple):
    """One place where a tensor is read: input number `index` of `node`.

    `inside` is True where the reading happens in a subgraph of the node (If, Loop, Scan); `index` is then -1. It is a
    tuple, for a large graph has very many of them and a frozen dataclass takes three times as long to make.
    """

    node: onnx.NodeProto
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no meaning here
    inside: bool = False


@dataclass(frozen=True, eq=False)
class GraphView:
    """The index.

    Invariants:
        * `nodes` is in topological order, captures of subgraphs counted as inputs; nodes that could come in any order
          keep their order in the file.
        * Every non-empty tensor name has exactly one origin: a producer, a constant, or a graph input.

    Attributes:
        graph: The graph that is looked at.
        opset: Version of the default operator set.
        nodes: Topologically sorted nodes.
        producers: Tensor to the node that makes it.
        uses: Tensor to the places that read it.
        constants: Name to initializer.
        inputs: Names of the real inputs (initializers left out), in order.
        outputs: Names of the graph's outputs, in order.
    """

    graph: onnx.GraphProto
    opset: int
    nodes: tuple[onnx.NodeProto, ...]
    producers: Mapping[str, onnx.NodeProto]
    uses: Mapping[str, Sequence[Use]]
    constants: Mapping[str, onnx.TensorProto]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    _given_out: frozenset[str]
    _codes: Mapping[str, int]
    _floats: dict[str, np.dtype[Any] | None]  # answers that were given before
    _positions: Mapping[int, int]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> GraphView:
        """Index the main graph of a model.

        Args:
            model: Any model whose graph has no cycle.

        Returns:
            The view.

        Raises:
            ModelError: A tensor has two origins or none, or nodes form a cycle; the text names the nodes.
        """
        graph = model.graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        inputs = tuple(value.name for value in graph.input if value.name not in constants)
        outputs = tuple(value.name for value in graph.output)
        listed = list(graph.node)  # held on to, so that id() stays a node's identity
        given = {*constants, *inputs}
        producers = _producers(listed, given)
        given |= {"", *(tensor.values.name for tensor in graph.sparse_initializer)}
        uses: dict[str, list[Use]] = {}
        is_sorted = _note_all_uses(listed, uses, given)
        nodes = tuple(listed) if is_sorted else _depth_first(listed, producers, given)
        values = (value for values in (graph.value_info, graph.output, graph.input) for value in values)
        codes = {value.name: value.type.tensor_type.elem_type for value in values}
        return cls(
            graph=graph,
            opset=default_opset(model),
            nodes=nodes,
            producers=MappingProxyType(producers),
            uses=MappingProxyType(uses),
            constants=MappingProxyType(constants),
            inputs=inputs,
            outputs=outputs,
            _given_out=frozenset(outputs),
            _codes=MappingProxyType(codes),
            _floats={},
            _positions=MappingProxyType({id(node): index for index, node in enumerate(nodes)}),
        )

    def readers(self, tensor: str) -> tuple[onnx.NodeProto, ...]:
        """Return the nodes that read a tensor, each once, in the order of their first reading."""
        seen = {id(use.node): use.node for use in self.uses.get(tensor, ())}
        return tuple(seen.values())

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """Return the one node that reads a tensor once, or None where there are more, none, or a graph output."""
        uses = self.uses.get(tensor, ())
        if len(uses) != 1 or uses[0].inside or tensor in self._given_out:
            return None
        return uses[0].node

    def constant(self, tensor: str) -> npt.NDArray[Any] | None:
        """Return the value of a constant tensor as an array, or None where the tensor is computed."""
        found = self.constants.get(tensor)
        return None if found is None else to_array(found)

    def element_type(self, tensor: str) -> int | None:
        """Return the ONNX code of a tensor's element type, or None where it is not known."""
        if (constant := self.constants.get(tensor)) is not None:
            return constant.data_type
        return self._codes.get(tensor) or None

    @cached_property
    def _types(self) -> Mapping[str, onnx.TypeProto]:
        """What the model states, found when it is first asked for: planning needs no more than the codes."""
        values = (value for values in (self.graph.value_info, self.graph.output, self.graph.input) for value in values)
        return {value.name: value.type for value in values}

    def type_of(self, tensor: str) -> onnx.TypeProto | None:
        """Return what is known of the type of a tensor that is no constant, or None where nothing is."""
        return self._types.get(tensor)

    def float_type(self, tensor: str) -> np.dtype[Any] | None:
        """Return a tensor's floating-point type, or None where it has another type or an unknown one."""
        try:
            return self._floats[tensor]
        except KeyError:
            return self._floats.setdefault(tensor, FLOATS.get(self.element_type(tensor) or 0))

    def shape(self, tensor: str) -> tuple[int | str | None, ...] | None:
        """Return a tensor's shape: sizes, names of symbolic sizes, None for unknown ones; None if nothing is known."""
        if tensor in self.constants:
            return tuple(self.constants[tensor].dims)
        known = self._types.get(tensor)
        if known is None or not known.tensor_type.HasField("shape"):
            return None
        return tuple(_dimension(dim) for dim in known.tensor_type.shape.dim)

    def position(self, node: onnx.NodeProto) -> int:
        """Return a node's place in `nodes`."""
        return self._positions[id(node)]

    def attribute(self, node: onnx.NodeProto, name: str, default: Any = None) -> Any:
        """Return an attribute's value as Python sees it, or `default` where the node has none of that name."""
        for attribute in node.attribute:
            if attribute.name == name:
                return onnx.helper.get_attribute_value(attribute)
        return default


def default_opset(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set that a model imports (1 where it names none)."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=1)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs a control-flow node carries in its attributes."""
    for attribute in node.attribute:
        if attribute.type == _GRAPH:
            yield attribute.g
        elif attribute.type == _GRAPHS:
            yield from attribute.graphs


def captured(graph: onnx.GraphProto) -> list[str]:
    """Return the outer tensors a subgraph reads, inner subgraphs included, each once."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output}
    wanted: list[str] = []
    for node in graph.node:
        wanted += node.input
        if node.attribute:
            wanted += (name for inner in subgraphs(node) for name in captured(inner))
    wanted += (value.name for value in graph.output)
    return [name for name in dict.fromkeys(wanted) if name and name not in own]


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or None


def _note_all_uses(nodes: Sequence[onnx.NodeProto], uses: dict[str, list[Use]], given: set[str]) -> bool:
    """Enter where nodes read what, and say whether each comes after whatever it reads: ONNX demands that."""
    known, is_sorted = set(given), True
    for node in nodes:
        names = _note_uses(node, uses)
        is_sorted = is_sorted and known.issuperset(names)
        known.update(node.output)
    return is_sorted


def _note_uses(node: onnx.NodeProto, uses: dict[str, list[Use]]) -> list[str]:
    """Enter where a node reads what, and return the names; those of left-out inputs are empty."""
    names: list[str] = node.input[:]
    for index, name in enumerate(names):
        if name in uses:
            uses[name].append(Use(node, index))
        elif name:
            uses[name] = [Use(node, index)]
    if node.attribute:
        for graph in subgraphs(node):
            inner = captured(graph)
            names += inner
            for name in inner:
                uses.setdefault(name, []).append(Use(node, -1, inside=True))
    return names


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else f"unnamed {node.op_type} making {list(node.output)}"


def _producers(nodes: Sequence[onnx.NodeProto], given: set[str]) -> dict[str, onnx.NodeProto]:
    producers: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        for name in node.output:
            if not name:
                continue
            if name in producers or name in given:
                other = _label(producers[name]) if name in producers else "a graph input or initializer"
                raise ModelError(f"tensor {name!r} is made twice: by {_label(node)} and by {other}")
            producers[name] = node
    return producers


def _depth_first(
    nodes: Sequence[onnx.NodeProto], producers: Mapping[str, onnx.NodeProto], given: set[str]
) -> tuple[onnx.NodeProto, ...]:
    """Sort nodes so that each comes after whatever it reads, depth first, without recursion."""
    reads_of = {id(node): _note_uses(node, {}) for node in nodes}
    done: set[int] = set()
    entered: set[int] = set()
    order: list[onnx.NodeProto] = []
    for root in nodes:
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if id(node) in done:
                continue
            if ready:
                done.add(id(node))
                order.append(node)
                continue
            if id(node) in entered:
                raise ModelError(f"the graph has a cycle through {_label(node)}")
            entered.add(id(node))
            stack.append((node, True))
            for name in reversed(reads_of[id(node)]):
                if name in given:
                    continue
                if name not in producers:
                    raise ModelError(f"{_label(node)} reads tensor {name!r}, which nothing makes")
                if id(producers[name]) not in done:
                    stack.append((producers[name], False))
    return tuple(order)
