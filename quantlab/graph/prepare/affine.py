"""Folding an affine map for each channel into the weight and bias of the linear node that makes or reads a tensor.

The algebra and its refusals are in `affine_solvers`. This is the wiring: who makes and reads a tensor, and where the
new numbers go. A constant that others read too is copied, never changed under them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from quantlab.graph.passes import Workpiece
from quantlab.graph.prepare.affine_solvers import BEFORE, BEHIND, Array, ChannelAffine, RefusedError, Solver
from quantlab.graph.prepare.edit import is_standard, label
from quantlab.graph.tensors import float_tensor, to_array
from quantlab.graph.view import GraphView


@dataclass(frozen=True, kw_only=True)
class Folding:
    """One run over a graph: the view is of the graph before it, the rest is what has changed since."""

    piece: Workpiece
    producers: dict[str, onnx.NodeProto]
    fresh: dict[str, onnx.TensorProto] = field(default_factory=dict)

    @classmethod
    def of(cls, piece: Workpiece) -> Folding:
        """Start a run."""
        return cls(piece=piece, producers=dict(piece.view.producers))

    @property
    def view(self) -> GraphView:
        """The graph before the run."""
        return self.piece.view

    def is_constant(self, name: str) -> bool:
        """Say whether a tensor is constant."""
        return name in self.fresh or name in self.view.constants

    def constant(self, name: str, what: str) -> Array:
        """Return the present value of a constant, or refuse, naming `what` is computed."""
        found = self.fresh.get(name) or self.view.constants.get(name)
        if found is None:
            raise RefusedError(f"{what} is computed")
        return to_array(found)

    def weight_and_bias(self, node: onnx.NodeProto) -> tuple[Array, Array]:
        """Return the constants of a linear node; a missing bias is 0."""
        weight = self.constant(node.input[1], f"the weight {node.input[1]!r} of {label(node)}")
        bias: Array = np.zeros(())
        if len(node.input) > 2 and node.input[2]:
            bias = self.constant(node.input[2], f"the bias {node.input[2]!r} of {label(node)}")
        return weight, bias


def fold_behind(node: onnx.NodeProto, tensor: str, affine: ChannelAffine, work: Folding) -> str:
    """Fold the map that `node` applies to `tensor` into the linear node that makes it.

    Args:
        node: Applies the map. It is left in the graph, without readers.
        tensor: The input of `node` to which it applies the map.
        affine: The map.
        work: The run.

    Returns:
        What the linear node, which now makes the output of `node`, is called in notes.

    Raises:
        RefusedError: The linear node does not allow it; nothing has been changed.
    """
    producer = linear_producer(node, tensor, work)
    into = _solve(producer, affine, BEHIND, work)
    producer.output[0] = node.output[0]
    work.producers[node.output[0]] = producer
    return into


def fold_before(node: onnx.NodeProto, tensor: str, affine: ChannelAffine, reader: onnx.NodeProto, work: Folding) -> str:
    """Fold the map that `node` applies to `tensor` into the linear node that alone reads what it makes.

    Args:
        node: Applies the map. It is left in the graph, without readers.
        tensor: The input of `node` to which it applies the map.
        affine: The map.
        reader: The linear node.
        work: The run.

    Returns:
        What the linear node is called in notes.

    Raises:
        RefusedError: The linear node does not allow it; nothing has been changed.
    """
    if reader.input[0] != node.output[0]:
        raise RefusedError(f"{label(reader)} reads {node.output[0]!r} as its weight or bias")
    into = _solve(reader, affine, BEFORE, work)
    reader.input[0] = tensor
    return into


def linear_producer(node: onnx.NodeProto, tensor: str, work: Folding) -> onnx.NodeProto:
    """Return the linear node that makes `tensor` for nobody but `node`, or refuse."""
    view, producer = work.view, work.producers.get(tensor)
    if producer is None or not is_standard(producer, *BEHIND):
        source = "a graph input or initializer" if producer is None else label(producer)
        raise RefusedError(f"its input {tensor!r} comes from {source}, not from {', '.join(BEHIND)}")
    if tensor in view.outputs:
        raise RefusedError(f"its input {tensor!r} is a graph output too")
    uses = view.uses[tensor]
    others = [use for use in uses if use.node is not node or use.inside]
    if others:
        place = "in a subgraph of" if others[0].inside else "by"
        raise RefusedError(f"its input {tensor!r} is read {place} {label(others[0].node)} too")
    if len(uses) > 1:
        raise RefusedError(f"its input {tensor!r} is read by {label(node)} too")
    return producer


def _solve(node: onnx.NodeProto, affine: ChannelAffine, solvers: dict[str, Solver], work: Folding) -> str:
    weight, bias = work.weight_and_bias(node)
    exact = solvers[node.op_type](node, weight, bias, affine, work.view)
    with np.errstate(over="ignore"):
        rounded = [None if part is None else part.astype(weight.dtype) for part in exact]
    if not all(part is None or np.isfinite(part).all() for part in rounded):
        raise RefusedError(f"the folded weight or bias of {label(node)} would not be finite in {weight.dtype}")
    return _write(node, rounded[0], rounded[1], work)


def _write(node: onnx.NodeProto, weight: Array | None, bias: Array | None, work: Folding) -> str:
    """Put a new weight and bias into a linear node; return what it is called now."""
    into = label(node)
    if weight is not None:
        _set_constant(node, 1, f"{node.input[1]}_folded", weight, work)
    if bias is None:
        return into
    _set_constant(node, 2, f"{node.name or node.output[0]}_bias", bias, work)
    if node.op_type == "MatMul":
        node.op_type = "Gemm"
        into += ", which became a Gemm"
    for index, attribute in enumerate(node.attribute):
        if node.op_type == "Gemm" and attribute.name == "beta":
            del node.attribute[index]  # it is in the bias now, and 1 is the default
            break
    return into


def _set_constant(node: onnx.NodeProto, index: int, wanted: str, value: Array, work: Folding) -> None:
    """Give a node a constant input: in place if nobody else reads it, else under a name of its own."""
    name = node.input[index] if index < len(node.input) else ""
    if name in work.fresh:
        work.fresh[name].CopyFrom(float_tensor(name, value))
        return
    if name and len(work.view.uses[name]) == 1 and name not in work.view.outputs:
        work.view.constants[name].CopyFrom(float_tensor(name, value))
        return
    fresh = float_tensor(work.piece.names.fresh(wanted), value)
    initializers = work.piece.model.graph.initializer
    initializers.append(fresh)
    work.fresh[fresh.name] = initializers[-1]
    if index < len(node.input):
        node.input[index] = fresh.name
    else:
        node.input.append(fresh.name)
