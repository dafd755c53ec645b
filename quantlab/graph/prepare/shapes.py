"""Types and shapes of tensors: the ladder, and its first rung, onnx's own inference (with propagation of shape data).

A rung is an edit that fills in what the rungs before it left open, and says how many tensors it served. A rung never
contradicts what is known already. What happens inside subgraphs is inferred too, but only the main graph is written to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.light import TOOL_ERRORS, light_copy

SHOWN = 3
"""How many tensors a note names."""

Rung = Callable[[onnx.ModelProto], list[str]]
"""Fills in what it finds, in place, and returns a note for each thing it found."""

_INVENTED = re.compile(r"unk__\d+")
"""Names that onnx gives to sizes it knows nothing of."""


def shape_pass(*rungs: Rung) -> Pass:
    """Make the pass that climbs a ladder: rung by rung, each for what is still open.

    Args:
        rungs: Such as `onnx_rung`; those after the first are not called once nothing is open for them.

    Returns:
        The pass; its last note counts the tensors that no rung could help.
    """

    def edit(piece: Workpiece) -> list[str]:
        notes = [note for rung in rungs for note in rung(piece.model)]
        return [*notes, *_missing(piece.model.graph)]

    return Pass(name="infer-shapes", edit=edit)


def onnx_rung(model: onnx.ModelProto) -> list[str]:
    """Infer types and shapes by onnx, in place; a failure of onnx's becomes a note."""
    try:
        inferred = onnx.shape_inference.infer_shapes(light_copy(model), strict_mode=False, data_prop=True)
    except TOOL_ERRORS as error:
        return [f"onnx's shape inference failed, shapes stay as they are: {first_line(error)}"]
    graph = model.graph
    before = {value.name: value for value in graph.value_info}
    found = {value.name: value for value in inferred.graph.value_info}
    better = [name for name, value in found.items() if name not in before or _says_more(value.type, before[name].type)]
    if better:
        kept = [value for name, value in before.items() if name not in found]
        del graph.value_info[:]
        graph.value_info.extend([*kept, *found.values()])
    better += _complete_outputs(graph, inferred.graph)
    return served("onnx", better)


def served(rung: str, names: Iterable[str]) -> list[str]:
    """Return the note in which a rung says what it found: how many tensors, and the first of them by name."""
    listed = list(names)
    if not listed:
        return []
    shown = ", ".join(map(repr, listed[:SHOWN])) + (", ..." if len(listed) > SHOWN else "")
    return [f"{rung} found types and shapes of {len(listed)} tensors: {shown}"]


def open_tensors(graph: onnx.GraphProto, *, sizes: bool = False) -> dict[str, onnx.NodeProto]:
    """Return the tensors of a graph whose type or rank is not known, with the nodes that make them.

    Args:
        graph: The main graph of a model.
        sizes: Count those too that have an axis with neither a number nor a name.

    Returns:
        Tensor to node, in the order of the nodes.
    """
    known = {
        value.name
        for values in (graph.value_info, graph.output)
        for value in values
        if is_shaped(value.type) and not (sizes and _has_nameless_axis(value.type))
    }
    return {name: node for node in graph.node for name in node.output if name and name not in known}


def fill(model: onnx.ModelProto, found: Mapping[str, onnx.TypeProto]) -> list[str]:
    """Write types and shapes where the model has none; what it has is never contradicted.

    Args:
        model: Changed in place.
        found: Tensor to its type. One whose element type or rank differs from what is known is left out.

    Returns:
        Names of the tensors about which more is known now.
    """
    graph = model.graph
    known = {value.name: value for values in (graph.value_info, graph.output) for value in values}
    filled = []
    for name, kind in found.items():
        if not kind.tensor_type.elem_type:
            continue
        entry = known.get(name) or onnx.ValueInfoProto(name=name)
        merged = _merged(entry.type, kind)
        if merged is None or merged == entry.type:
            continue
        if name not in known:
            entry = graph.value_info.add(name=name)
        entry.type.CopyFrom(merged)
        filled.append(name)
    return filled


def rank_only(kind: onnx.TypeProto) -> onnx.TypeProto:
    """Return a tensor's type with its rank, all sizes forgotten.

    Example:
        >>> made = rank_only(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [2, "N"]))
        >>> made == onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [None, None])
        True
    """
    tensor = kind.tensor_type
    axes = [None] * len(tensor.shape.dim) if tensor.HasField("shape") else None
    return onnx.helper.make_tensor_type_proto(tensor.elem_type, axes)


def type_only(kind: onnx.TypeProto) -> onnx.TypeProto:
    """Return a tensor's type without its shape.

    Example:
        >>> made = type_only(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [2, "N"]))
        >>> made == onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
        True
    """
    return onnx.helper.make_tensor_type_proto(kind.tensor_type.elem_type, None)


def is_shaped(kind: onnx.TypeProto) -> bool:
    """Return whether a type says what it is and, for a tensor, which rank it has."""
    which = kind.WhichOneof("value")
    tensor = kind.tensor_type
    return which is not None and (which != "tensor_type" or bool(tensor.elem_type and tensor.HasField("shape")))


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _complete_outputs(graph: onnx.GraphProto, inferred: onnx.GraphProto) -> list[str]:
    """Fill in the types of outputs that state none; what the model promises to its callers is not changed."""
    changed = []
    for value, found in zip(graph.output, inferred.output, strict=True):
        if not is_shaped(value.type) and is_shaped(found.type):
            value.type.CopyFrom(found.type)
            changed.append(value.name)
    return changed


def _merged(known: onnx.TypeProto, found: onnx.TypeProto) -> onnx.TypeProto | None:
    """Return what two types say together, or None where they contradict each other."""
    if {known.WhichOneof("value"), found.WhichOneof("value")} - {None, "tensor_type"}:
        return None
    merged = onnx.TypeProto()
    merged.CopyFrom(known)
    mine, theirs = merged.tensor_type, found.tensor_type
    if mine.elem_type not in (0, theirs.elem_type):
        return None
    mine.elem_type = theirs.elem_type
    if not theirs.HasField("shape"):
        return merged
    if not mine.HasField("shape"):
        mine.shape.CopyFrom(theirs.shape)
        return merged
    if len(mine.shape.dim) != len(theirs.shape.dim):
        return None
    for axis, other in zip(mine.shape.dim, theirs.shape.dim, strict=True):
        if _is_nameless(axis) and not _is_nameless(other):
            axis.CopyFrom(other)
    return merged


def _says_more(found: onnx.TypeProto, known: onnx.TypeProto) -> bool:
    """Return whether two types differ in more than names that onnx has made up."""
    return found != known and (_merged(known, found) != known or _merged(found, known) != found)


def _is_nameless(axis: onnx.TensorShapeProto.Dimension) -> bool:
    return not axis.HasField("dim_value") and (not axis.dim_param or bool(_INVENTED.fullmatch(axis.dim_param)))


def _has_nameless_axis(kind: onnx.TypeProto) -> bool:
    return any(_is_nameless(axis) for axis in kind.tensor_type.shape.dim)


def _missing(graph: onnx.GraphProto) -> list[str]:
    without = open_tensors(graph)
    if not without:
        return []
    made = sum(bool(name) for node in graph.node for name in node.output)
    name, node = next(iter(without.items()))
    return [
        f"{len(without)} of {made} tensors have no known shape, the first is {name!r} made by {node.op_type} "
        f"{node.name!r}"
    ]


INFER_SHAPES = shape_pass(onnx_rung)
