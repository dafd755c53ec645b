"""A scope is the body of a control-flow node (a branch of If, the body of Loop or Scan), seen as a model of its own.

What the body takes from outside becomes a graph input, or an initializer where it is constant, so that everything that
works on models works on bodies: passes, views, plans, rewriting. Bodies within bodies are scopes of the outer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx

from quantlab.graph.names import Names
from quantlab.graph.prepare.edit import rename
from quantlab.graph.view import GraphView, captured


@dataclass(frozen=True, kw_only=True)
class Scope:
    """One body.

    Attributes:
        node: Name of the control-flow node; it is unique in its graph.
        attribute: Which of its bodies, such as `"then_branch"`.
        model: The body as a model.
        outer: Tensors it takes from outside that are not constant; the last of the model's inputs, in this order.
    """

    node: str
    attribute: str
    model: onnx.ModelProto
    outer: tuple[str, ...]

    @property
    def key(self) -> str:
        """The scope's name in plans and texts, such as `"If_3.then_branch"`."""
        return f"{self.node}.{self.attribute}"

    @property
    def typed(self) -> bool:
        """Whether the types of all that it takes from outside are known, so that it can be run."""
        count = len(self.outer)
        return all(value.type.WhichOneof("value") for value in self.model.graph.input[-count:]) if count else True


def scopes_of(model: onnx.ModelProto) -> Iterator[Scope]:
    """Yield the bodies of the control-flow nodes of a model's main graph.

    Args:
        model: A model whose nodes have names of their own.

    Yields:
        Bodies with at least one node.
    """
    view = GraphView.of(model)
    for node in view.nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH and attribute.g.node:
                yield _scope(model, view, node, attribute)


def _scope(model: onnx.ModelProto, view: GraphView, node: onnx.NodeProto, attribute: onnx.AttributeProto) -> Scope:
    outside = [name for name in captured(attribute.g) if name]
    outer = tuple(name for name in outside if name not in view.constants)
    body = onnx.ModelProto(ir_version=model.ir_version)
    body.opset_import.extend(model.opset_import)
    body.functions.extend(model.functions)
    body.graph.CopyFrom(attribute.g)
    body.graph.initializer.extend(view.constants[name] for name in outside if name in view.constants)
    body.graph.input.extend(onnx.ValueInfoProto(name=name, type=view.type_of(name)) for name in outer)
    return Scope(node=node.name, attribute=attribute.name, model=body, outer=outer)


def with_bodies(model: onnx.ModelProto, bodies: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """Return a copy of a model in which some bodies are replaced.

    Tensors that a new body makes and the old one did not get names that nobody else has: a body may not hide outer
    names. Constants that still are what they are outside are taken from there again.

    Args:
        model: The model whose scopes were changed; it is not changed itself.
        bodies: Key of a scope to the new body, a model as `Scope.model` is one.

    Returns:
        The copy.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = Names.of(model)
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        for attribute in node.attribute:
            body = bodies.get(f"{node.name}.{attribute.name}")
            if body is not None:
                _replace(attribute.g, body.graph, names, constants)
    return copy


def _replace(
    graph: onnx.GraphProto, body: onnx.GraphProto, names: Names, constants: Mapping[str, onnx.TensorProto]
) -> None:
    old = set(_made(graph)) | {value.name for value in graph.input} | set(captured(graph))
    new = onnx.GraphProto()
    new.CopyFrom(body)
    own = {value.name for value in graph.input}
    inputs = [value for value in new.input if value.name in own]
    initializers = [tensor for tensor in new.initializer if constants.get(tensor.name) != tensor]
    del new.input[:], new.initializer[:]
    new.input.extend(inputs)
    new.initializer.extend(initializers)
    hiding = {tensor.name for tensor in initializers if tensor.name in constants}
    fresh = {name: names.fresh(name) for name in _made(new) if name not in old or name in hiding}
    changed = {name: other for name, other in fresh.items() if name != other}
    rename(new, changed)
    for values in (new.initializer, new.value_info):
        for value in values:
            value.name = changed.get(value.name, value.name)
    graph.CopyFrom(new)


def _made(graph: onnx.GraphProto) -> Iterable[str]:
    yield from (tensor.name for tensor in graph.initializer)
    yield from (name for node in graph.node for name in node.output if name)
