"""Saved activations: a model that hands out its inner tensors, and what it hands out for the samples of a reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantlab.backend import OrtBackend
from quantlab.debug.noise import Array
from quantlab.debug.weight_errors import Model
from quantlab.errors import DataError, ModelError, nearest
from quantlab.graph import GraphView, Names
from quantlab.graph.files import load, save
from quantlab.graph.prepare.edit import delete_where
from quantlab.graph.prepare.light import TOOL_ERRORS, light_copy

POSTFIX = "_ReshapedSavedOutput"
"""What is appended to the name of a tensor that is handed out, as onnxruntime.quantization does it."""

_SAVED = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


class Activations(dict[str, list[Array]]):
    """Tensor to one array a sample, of shape (n,); knows the model that made them.

    Attributes:
        model: The augmented model.
    """

    def __init__(self, model: onnx.ModelProto, arrays: Mapping[str, list[Array]]) -> None:
        super().__init__(arrays)
        self.model = model


def modify_model_output_intermediate_tensors(
    input_model_path: Model,
    output_model_path: Any,
    op_types_for_saving: Sequence[str] | None = None,
    save_as_external_data: bool = False,
) -> None:
    """Write a copy of a model that has its inner float tensors among its outputs, each flattened by a Reshape.

    Args:
        input_model_path: The model, a path or a model.
        output_model_path: Where to write the copy.
        op_types_for_saving: Operators whose inputs and outputs are saved; all by default.
        save_as_external_data: Whether weights go into a file beside the copy.

    Raises:
        ModelError: The model cannot be read, or the copy not be written; or none of its nodes is of these operators.
    """
    augmented = with_saved_tensors(load(input_model_path), op_types_for_saving)
    if save_as_external_data:
        save(augmented, output_model_path, external_above=-1)
    else:
        save(augmented, output_model_path)


def with_saved_tensors(model: onnx.ModelProto, op_types: Sequence[str] | None = None) -> onnx.ModelProto:
    """Return a copy of a model that has its inner float tensors among its outputs, each of shape (n,).

    Args:
        model: Any model; it is not changed.
        op_types: Operators whose inputs and outputs are saved; all by default.

    Raises:
        ModelError: None of its nodes is of these operators.
    """
    tensors = _float_tensors(model, op_types)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    flat = Names.of(model).fresh("flat_shape")
    copy.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), flat))
    for name, code in tensors.items():
        saved = name + POSTFIX
        copy.graph.node.append(helper.make_node("Reshape", [name, flat], [saved], name=saved))
        copy.graph.output.append(helper.make_tensor_value_info(saved, code, [None]))
    return copy


def _float_tensors(model: onnx.ModelProto, op_types: Sequence[str] | None) -> dict[str, int]:
    """Return the float tensors at the nodes of some operators, with the codes of their types."""
    nodes = [node for node in model.graph.node if not op_types or node.op_type in op_types]
    if not nodes:
        present = sorted({node.op_type for node in model.graph.node})
        hint = nearest(next(iter(op_types or ()), ""), present)
        raise ModelError(f"the model has no node of {', '.join(op_types or ())}{hint} (it has: {', '.join(present)})")
    try:
        graph = onnx.shape_inference.infer_shapes(light_copy(model), strict_mode=False).graph
    except TOOL_ERRORS:
        graph = model.graph
    values = (*model.graph.value_info, *graph.value_info, *graph.input, *graph.output)
    codes = {value.name: value.type.tensor_type.elem_type for value in values}
    stored = {tensor.name for tensor in model.graph.initializer}
    names = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output) if name not in stored)
    return {name: codes[name] for name in names if codes.get(name) in _SAVED}


def collect_activations(
    augmented_model: Model,
    input_reader: Any,
    session_options: Any = None,
    execution_providers: Sequence[str] | None = None,
) -> dict[str, list[Array]]:
    """Run a model that saves its tensors, and keep what it saves: memory grows with the data.

    `stream_activations` hands out one sample at a time instead.

    Args:
        augmented_model: What `modify_model_output_intermediate_tensors` wrote, a path or a model.
        input_reader: A reader with `get_next`, or an iterable of mappings from input name to array.
        session_options: `onnxruntime.SessionOptions`; by default graph optimization is off.
        execution_providers: Where to run; on the CPU by default.

    Returns:
        Tensor to a list with one array of shape (n,) for each item of the reader.

    Raises:
        DataError: The reader gave nothing.
        ModelError: The model does not load or run.
    """
    model = load(augmented_model)
    found: dict[str, list[Array]] = {}
    for sample in stream_activations(model, input_reader, session_options, execution_providers):
        for name, value in sample.items():
            found.setdefault(name, []).append(value)
    if not found:
        raise DataError(
            "no data is collected: the reader gave nothing, or the model saves nothing; rewind the reader, and write "
            "the model with modify_model_output_intermediate_tensors"
        )
    return Activations(model, found)


def stream_activations(
    augmented_model: Model,
    input_reader: Any,
    session_options: Any = None,
    execution_providers: Sequence[str] | None = None,
) -> Iterator[dict[str, Array]]:
    """Run a model that saves its tensors, and hand out what it saves, one sample after the other.

    Args:
        augmented_model: See `collect_activations`, as for all arguments.
        input_reader: The samples.
        session_options: How to run.
        execution_providers: Where to run.

    Yields:
        Tensor to array of shape (n,), once for each item of the reader.

    Raises:
        ModelError: The model does not load or run.
    """
    backend = OrtBackend(optimize=False, providers=tuple(execution_providers or ("CPUExecutionProvider",)))
    session = backend.session(load(augmented_model), session_options)
    saved = [value.name for value in session.get_outputs() if value.name.endswith(POSTFIX)]
    for sample in items(input_reader):
        try:
            values = session.run(saved, dict(sample))
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise ModelError(f"onnxruntime fails on a sample: {error}") from error
        yield {name.removesuffix(POSTFIX): value for name, value in zip(saved, values, strict=True)}


def items(reader: Any) -> Iterator[Mapping[str, Array]]:
    """Yield what a reader gives: one with `get_next` is asked until it gives None."""
    return iter(reader.get_next, None) if hasattr(reader, "get_next") else iter(reader)


def without_saved_tensors(model: onnx.ModelProto) -> GraphView:
    """Return a view of a model as it was before it was made to save its tensors; the model is not changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    delete_where(copy.graph.node, lambda node: node.name.endswith(POSTFIX))
    delete_where(copy.graph.output, lambda value: value.name.endswith(POSTFIX))
    return GraphView.of(copy)
