"""The opset is the version of the operators a model is written in; quantization needs one that can say what it does.

Per-channel QuantizeLinear came with opset 13, 4-bit and 16-bit types with 21. Raising it is the work of
`onnx.version_converter`, which knows operators of the default domain; others stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx
from onnx import version_converter

from quantlab.errors import ModelError
from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import replace_nodes
from quantlab.graph.prepare.ir_version import state_ir_version
from quantlab.graph.prepare.light import TOOL_ERRORS, light_copy
from quantlab.graph.prepare.opset_repairs import FIRST_RIGHT_OPSET, repair
from quantlab.graph.view import default_opset, subgraphs

_DOMAINS = ("", "ai.onnx")


def raise_opset(minimum: int) -> Pass:
    """Make the pass that raises the opset to `minimum` where it is lower.

    Args:
        minimum: The lowest version of the default operator set that is good enough.

    Returns:
        The pass. It raises ModelError, naming the operator and versions, where an operator cannot be converted.
    """

    def edit(piece: Workpiece) -> list[str]:
        return _raise(piece.model, minimum)

    def broken(model: onnx.ModelProto) -> str | None:
        opset = default_opset(model)
        return None if opset >= minimum else f"opset {opset} is below {minimum}"

    return Pass(name="raise-opset", edit=edit, ensures=broken)


def _raise(model: onnx.ModelProto, minimum: int) -> list[str]:
    entries = [entry for entry in model.opset_import if entry.domain in _DOMAINS]
    if not entries:
        model.opset_import.add(version=minimum)
        return [f"opset {minimum} is imported, in which the quantized operators are written", *state_ir_version(model)]
    opset = default_opset(model)
    if opset >= minimum:
        return []
    notes = []
    light = light_copy(model)
    converted = _convert(light, opset, minimum)
    if opset < FIRST_RIGHT_OPSET <= minimum:
        notes += repair(converted, _element_types(light))
    _take(model, converted)
    for entry in entries:
        entry.version = minimum
    return [*notes, f"opset {opset} became {minimum}", *state_ir_version(model)]


def _element_types(light: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(light).graph
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    values = (*graph.value_info, *graph.input, *graph.output)
    return found | {value.name: value.type.tensor_type.elem_type for value in values}


def _take(model: onnx.ModelProto, converted: onnx.ModelProto) -> None:
    """Take over nodes and new constants only: the conversion loses metadata, and the light model has no weights."""
    known = {tensor.name for tensor in model.graph.initializer}
    replace_nodes(model.graph, converted.graph.node)
    model.graph.initializer.extend(tensor for tensor in converted.graph.initializer if tensor.name not in known)


def _convert(light: onnx.ModelProto, opset: int, minimum: int) -> onnx.ModelProto:
    present = {node.op_type for node in _standard_nodes(light.graph)}
    advice = f"quantization needs opset {minimum} (the model has {opset}): export the model again with that or newer"
    for name in sorted(present):
        if not onnx.defs.has(name):
            raise ModelError(f"operator {name} is unknown to ONNX and cannot be raised from opset {opset}; {advice}")
    try:
        return version_converter.convert_version(light, minimum)
    except TOOL_ERRORS as error:
        failed, reason = _first_failure(light, opset, minimum) or (minimum, str(error))
        raise ModelError(
            f"{_operators(present, failed, reason)} cannot be converted from opset {failed - 1} to {failed}; {advice}. "
            f"onnx.version_converter says: {_tidy(reason)}"
        ) from error


def _first_failure(light: onnx.ModelProto, opset: int, minimum: int) -> tuple[int, str] | None:
    """Find the first version to which the model cannot be raised, and why."""
    for version in range(opset + 1, minimum + 1):
        try:
            version_converter.convert_version(light, version)
        except TOOL_ERRORS as error:
            return version, str(error)
    return None


def _operators(present: set[str], version: int, reason: str) -> str:
    """Name the operator the converter gave up on: the one its message names, else those that change in that version."""
    named = [word for word in re.findall(r"\w+", reason) if word in present]
    found = named[:1] or sorted(name for name in present if _changes(name, version))
    return "operator " + " or ".join(found) if found else "the model"


def _standard_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        if node.domain in _DOMAINS:
            yield node
        for inner in subgraphs(node):
            yield from _standard_nodes(inner)


def _changes(op_type: str, version: int) -> bool:
    try:
        return bool(onnx.defs.get_schema(op_type, version).since_version == version)
    except onnx.defs.SchemaError:
        return False


def _tidy(reason: str) -> str:
    """Drop the place in the C++ source with which onnx begins its messages."""
    text = " ".join(reason.split())
    return re.sub(r"^\S+:\d+: \w+: (Assertion `.*?` failed: )?", "", text)
