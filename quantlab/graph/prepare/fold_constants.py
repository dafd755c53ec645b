"""Nodes whose inputs are all constant are computed once and for all, and so are sizes that are known to be fixed.

    Shape(x)            where every size of x is known
    Gather(Shape(x), i) where the sizes asked for are, though others are not

A result may be larger than what it was made from by a bounded number of bytes only, so that an Expand or
ConstantOfShape does not blow up the file; its size is found before anything is computed. Random operators, subgraphs,
and operators outside `evaluate` are left alone. Sizes come from an inference of their own, which trusts nothing but
the inputs of the graph: what a file says about inner tensors may have become stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.evaluate import Array, evaluate, known_operators
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.prepare.light import TOOL_ERRORS, light_copy
from quantlab.graph.tensors import to_array
from quantlab.graph.view import GraphView, default_opset

GROWTH = 2**16
"""Bytes that a folded node may add to the file beyond the bytes of its inputs, unless told otherwise."""

FIRST_OPSET = 13
"""From here on axes and shapes are inputs, as `evaluate` expects them."""

_TYPES = (
    onnx.TensorProto.BOOL,
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
)

_SMALL = 1024
"""Constants up to so many bytes are handed to onnx's inference, for they may be shapes."""

_KNOWN = frozenset(known_operators())

Sizes = tuple[int | None, ...]


def fold_constants(*, growth: int = GROWTH) -> Pass:
    """Make the pass that computes what is constant.

    Args:
        growth: Bytes by which the result of a node may exceed its inputs.

    Returns:
        The pass. It notes each node that is constant and stays, with the reason.
    """

    def edit(piece: Workpiece) -> list[str]:
        return _edit(piece, growth)

    return Pass(name="fold-constants", edit=edit, requires=missing_constants)


@dataclass(frozen=True, kw_only=True)
class _Work:
    view: GraphView
    sizes: dict[str, Sizes]
    growth: int
    imports: list[onnx.OperatorSetIdProto]
    made: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def tensor(self, name: str) -> onnx.TensorProto | None:
        return self.made.get(name) or self.view.constants.get(name)


def _edit(piece: Workpiece, growth: int) -> list[str]:
    if default_opset(piece.model) < FIRST_OPSET:
        return []
    view = piece.view
    sizes = _sizes(piece.model) if not piece.operators.isdisjoint(("Shape", "Size")) else {}
    work = _Work(view=view, sizes=sizes, growth=growth, imports=list(piece.model.opset_import))
    removed: set[int] = set()
    notes = []
    for node in view.nodes:
        found = _fold(node, work)
        if isinstance(found, str):
            notes.append(f"left {label(node)} alone, whose inputs are constant: {found}")
        elif found is not None:
            work.made.update((name, _stored(name, array)) for name, array in zip(node.output, found, strict=True))
            removed.add(id(node))
    remove_nodes(piece.model.graph, removed)
    _store(piece.model.graph, work)
    return [*([f"{len(removed)} nodes were computed, for what they read is known"] if removed else []), *notes]


def _fold(node: onnx.NodeProto, work: _Work) -> list[Array] | str | None:
    """Return what a node makes, or why it stays though its inputs are constant, or None where they are not."""
    if node.domain not in ("", "ai.onnx") or not all(node.output):
        return None
    found: list[Array] | str | None = _from_sizes(node, work)
    if found is None and node.op_type in _KNOWN:
        found = _from_constants(node, work)
    if isinstance(found, list) and any(name in work.view.outputs for name in node.output):
        name = next(name for name in node.output if name in work.view.outputs)
        return f"graph output {name!r} has to be made by a node"
    return found


def _from_constants(node: onnx.NodeProto, work: _Work) -> list[Array] | str | None:
    tensors = [work.tensor(name) if name else None for name in node.input]
    if not tensors or any(tensor is None and name for name, tensor in zip(node.input, tensors, strict=True)):
        return None
    given = {tensor.name: tensor for tensor in tensors if tensor is not None}
    if any(tensor.data_type not in _TYPES for tensor in given.values()):
        return None
    limit = work.growth + sum(_bytes(list(tensor.dims), tensor.data_type) for tensor in given.values())
    size = _result_bytes(node, given, work)
    if size is None or size > limit:
        shown = "of unknown size" if size is None else f"of {size} bytes"
        return f"its result {shown} may have no more than {limit}, {work.growth} above those of its inputs"
    try:
        return evaluate(node, [None if tensor is None else to_array(tensor) for tensor in tensors])
    except (ArithmeticError, ValueError, IndexError) as error:
        return f"it cannot be computed ({error})"


def _result_bytes(node: onnx.NodeProto, given: dict[str, onnx.TensorProto], work: _Work) -> int | None:
    """Find how many bytes a node makes without computing them."""
    if node.op_type == "Range":  # onnx's inference runs into numbers it cannot count to
        start, limit, delta = (to_array(given[name]).item() for name in node.input)
        return None if delta == 0 else max(int((limit - start) / delta) + 1, 0) * 8
    types = {
        name: onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)) for name, tensor in given.items()
    }
    small = {name: tensor for name, tensor in given.items() if tensor.ByteSize() <= _SMALL}
    schema = onnx.defs.get_schema(node.op_type, work.view.opset)
    try:
        made = onnx.shape_inference.infer_node_outputs(schema, node, types, small, opset_imports=work.imports)
    except TOOL_ERRORS:
        return None
    total = 0
    for name in node.output:
        kind = made[name].tensor_type if name in made else None
        if kind is None or not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in kind.shape.dim):
            return None
        total += _bytes([dim.dim_value for dim in kind.shape.dim], kind.elem_type)
    return total


def _bytes(dims: list[int], data_type: int) -> int:
    return prod(dims) * int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type)).itemsize)


def _from_sizes(node: onnx.NodeProto, work: _Work) -> list[Array] | None:
    """Compute Shape, Size, and a Gather or Slice of a Shape, where the sizes they are about are known."""
    if node.op_type == "Shape":
        return _all_known(_shape(node, work))
    if node.op_type == "Size":
        sizes = _all_known(work.sizes.get(node.input[0]))
        return None if sizes is None else [np.array(prod(sizes[0].tolist()), np.int64)]
    source = work.view.producers.get(node.input[0]) if node.op_type in ("Gather", "Slice") else None
    if source is None or not is_standard(source, "Shape") or (shape := _shape(source, work)) is None:
        return None
    rest = [work.tensor(name) if name else None for name in node.input[1:]]
    if any(tensor is None and name for name, tensor in zip(node.input[1:], rest, strict=True)):
        return None
    places = np.arange(len(shape))
    try:
        taken = evaluate(node, [places, *(None if tensor is None else to_array(tensor) for tensor in rest)])
    except (ArithmeticError, ValueError, IndexError):
        return None
    assert taken is not None  # Gather and Slice are in the table
    chosen = _all_known(tuple(shape[place] for place in taken[0].reshape(-1)))
    return None if chosen is None else [chosen[0].reshape(taken[0].shape)]


def _shape(node: onnx.NodeProto, work: _Work) -> Sizes | None:
    sizes = work.sizes.get(node.input[0])
    if sizes is None:
        return None
    return sizes[work.view.attribute(node, "start", 0) : work.view.attribute(node, "end")]


def _all_known(sizes: Sizes | None) -> list[Array] | None:
    if sizes is None or any(size is None for size in sizes):
        return None
    return [np.array(sizes, np.int64).reshape(len(sizes))]


def _sizes(model: onnx.ModelProto) -> dict[str, Sizes]:
    """Infer the sizes of every tensor from the inputs of the graph alone."""
    light = light_copy(model)
    del light.graph.value_info[:]
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(light, strict_mode=False, data_prop=True).graph
    except TOOL_ERRORS:
        graph = light.graph
    found: dict[str, Sizes] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    return found


def _stored(name: str, array: Array) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _store(graph: onnx.GraphProto, work: _Work) -> None:
    """Store what is still read: results between two folded nodes are not."""
    if not work.made:
        return
    view_of_rest = {name for node in graph.node for name in node.input}
    inside = {name for name in work.made if any(use.inside for use in work.view.uses.get(name, ()))}
    graph.initializer.extend(tensor for name, tensor in work.made.items() if name in view_of_rest or name in inside)
