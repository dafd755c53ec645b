"""The IR version is the version of the file format; a runtime refuses a file that states a newer one than it knows."""

from __future__ import annotations

import onnx

from quantlab.errors import ModelError
from quantlab.graph.files import tensors_of
from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.view import default_opset

MAX_IR_VERSION = 13
"""The newest IR version that onnxruntime 1.31.1 loads."""

MIN_IR_VERSION = 4
"""The oldest IR version in which an initializer need not be a graph input too."""

_NEWER_TYPES = {27: "FLOAT6E2M3", 28: "FLOAT6E3M2"}
"""Element types that came with IR version 14: the only thing in it that a model without opaque types can need."""


def state_ir_version(model: onnx.ModelProto) -> list[str]:
    """Set the IR version in place: what the operator set needs, or what is stated if newer, at most `MAX_IR_VERSION`.

    Args:
        model: Changed in place.

    Returns:
        A note if the version changed.

    Raises:
        ModelError: A tensor has a type that came after `MAX_IR_VERSION`.
    """
    stated = model.ir_version
    known = onnx.helper.OP_SET_ID_VERSION_MAP
    needed = max(known.get(("ai.onnx", default_opset(model)), MIN_IR_VERSION), MIN_IR_VERSION)
    wanted = min(max(stated, needed), MAX_IR_VERSION)
    if wanted == stated:
        return []
    if stated > MAX_IR_VERSION:
        _refuse_newer_types(model)
        why = "the newest that onnxruntime 1.31.1 loads; nothing in the model needs a newer one"
    else:
        opset = default_opset(model)
        why = f"opset {opset} needs it" if needed > MIN_IR_VERSION else "initializers that are no inputs need it"
    model.ir_version = wanted
    return [f"IR version {stated} became {wanted}: {why}"]


def _refuse_newer_types(model: onnx.ModelProto) -> None:
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    found = [(value.name, value.type.tensor_type.elem_type) for value in values]
    found += [(tensor.name, tensor.data_type) for tensor in tensors_of(model)]
    for name, code in found:
        if code in _NEWER_TYPES:
            raise ModelError(
                f"tensor {name!r} has type {_NEWER_TYPES[code]}, which needs an IR version above {MAX_IR_VERSION}, the "
                "newest that onnxruntime 1.31.1 loads: export the model with another type"
            )


def _edit(piece: Workpiece) -> list[str]:
    return state_ir_version(piece.model)


def _broken(model: onnx.ModelProto) -> str | None:
    inside = MIN_IR_VERSION <= model.ir_version <= MAX_IR_VERSION
    return None if inside else f"IR version {model.ir_version} is outside {MIN_IR_VERSION}..{MAX_IR_VERSION}"


STATE_IR_VERSION = Pass(name="state-ir-version", edit=_edit, ensures=_broken)
