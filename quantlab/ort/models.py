"""Models around quantization, under the peer's names: marks in their metadata, their opset, types and shapes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from quantlab.backend.ort import optimized
from quantlab.errors import ModelError, QuantlabWarning
from quantlab.graph.external import is_external
from quantlab.graph.files import load, save
from quantlab.graph.prepare.opset import raise_opset
from quantlab.graph.prepare.shapes import onnx_rung, shape_pass
from quantlab.ort.kinds import QuantType
from quantlab.workflow.preprocess import MARK, MARKED_BY, is_pre_processed

INFERRED = "onnx.infer"
"""Key of the metadata that says that types and shapes were inferred."""

_INT16 = (onnx.TensorProto.INT16, onnx.TensorProto.UINT16)


def _mark(model: onnx.ModelProto, key: str) -> None:
    if not any(entry.key == key for entry in model.metadata_props):
        model.metadata_props.add(key=key, value=MARKED_BY)


def add_pre_process_metadata(model: onnx.ModelProto) -> None:
    """Mark a model as pre-processed, in place."""
    _mark(model, MARK)


def model_has_pre_process_metadata(model: onnx.ModelProto) -> bool:
    """Return whether a model is marked as pre-processed."""
    return is_pre_processed(model)


def add_infer_metadata(model: onnx.ModelProto) -> None:
    """Mark a model as one whose types and shapes were inferred, in place."""
    _mark(model, INFERRED)


def model_has_infer_metadata(model: onnx.ModelProto) -> bool:
    """Return whether a model is marked as one whose types and shapes were inferred."""
    return any(entry.key == INFERRED and entry.value == MARKED_BY for entry in model.metadata_props)


def get_opset_version(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a model is written in.

    Raises:
        ModelError: It imports none, or several.
    """
    found = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(found) != 1:
        raise ModelError(f"the model imports {len(found)} versions of the domain ai.onnx: it has to be one")
    return int(found[0])


def _overridden(overrides: Mapping[str, Any] | None) -> set[Any]:
    """Return the types that overrides ask for, those they convert to included."""
    entries = [entry for listed in (overrides or {}).values() for entry in listed]
    converted = [entry["convert"] for entry in entries if entry.get("convert")]
    return {entry.get("quant_type") for entry in [*entries, *converted]}


def update_opset_version(
    model: onnx.ModelProto,
    weight_type: QuantType | int,
    activation_type: QuantType | int | None = None,
    tensor_quant_overrides: Mapping[str, Any] | None = None,
    block_size: int = 0,
) -> onnx.ModelProto:
    """Raise a model's opset to what its quantized types need, and infer types and shapes anew where it rose.

    Args:
        model: Any model; it is not changed.
        weight_type: Type of the weights.
        activation_type: Type of the activations, if there is one.
        tensor_quant_overrides: Tensor to a list of dicts that may name a `quant_type`, and one to `convert` to.
        block_size: Above 0 where weights are quantized in blocks.

    Returns:
        The raised model, or the given one where its opset is high enough.

    Raises:
        ModelError: An operator cannot be raised; the text names it.
    """
    asked = {weight_type, activation_type, *_overridden(tensor_quant_overrides)} - {None}
    kinds = {kind.tensor_type if isinstance(kind, QuantType) else kind for kind in asked}
    opset = get_opset_version(model)
    weight = weight_type.tensor_type if isinstance(weight_type, QuantType) else weight_type
    if opset < 21 and (block_size > 0 or kinds & set(_INT16)):
        needed, what = 21, "blocks" if block_size > 0 else "16-bit integers"
    elif opset < 19 and weight == onnx.TensorProto.FLOAT8E4M3FN:
        needed, what = 19, "float8"
    elif opset < 10:
        needed, what = 11, "quantized operators"
    else:
        return model
    warnings.warn(
        f"opset {opset} has no {what}: the model is raised to opset {needed}; check what comes out",
        QuantlabWarning,
        stacklevel=2,
    )
    return save_and_reload_model_with_shape_infer(raise_opset(needed)(model).model)


def load_model_with_shape_infer(model_path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read a model, infer types and shapes by onnx, and mark it so.

    Args:
        model_path: A model file. Nothing is written beside it.

    Raises:
        ModelError: The file cannot be read.
    """
    return save_and_reload_model_with_shape_infer(load(model_path))


def save_and_reload_model_with_shape_infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model with types and shapes inferred by onnx, marked so; no file is involved.

    Args:
        model: Any model; it is not changed.
    """
    made = shape_pass(onnx_rung)(model).model
    add_infer_metadata(made)
    return made


def model_has_external_data(model_path: str | os.PathLike[str]) -> bool:
    """Return whether initializers of a model file lie in other files.

    Args:
        model_path: A model file.
    """
    model = onnx.load(os.fspath(model_path), load_external_data=False)
    return any(is_external(tensor) for tensor in model.graph.initializer)


def optimize_model(model_path: str | os.PathLike[str], opt_model_path: str | os.PathLike[str]) -> None:
    """Let onnxruntime optimize a model file at its basic level.

    Args:
        model_path: A model file.
        opt_model_path: Where to write the optimized model.

    Raises:
        ModelError: A file cannot be read or written, or onnxruntime does not load the model.
    """
    save(optimized(load(Path(model_path))), opt_model_path)
