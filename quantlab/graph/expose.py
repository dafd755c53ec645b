"""Make inner tensors visible: a copy of a model that has them among its outputs.

A bfloat16 tensor comes out as float32, through a Cast that loses nothing: NumPy has no such type, and onnxruntime does
not hand one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import helper

from quantlab.graph.names import Names
from quantlab.graph.prepare.light import TOOL_ERRORS, light_copy

BFLOAT16 = onnx.TensorProto.BFLOAT16


def expose(model: onnx.ModelProto, tensors: Iterable[str], *, keep_outputs: bool = True) -> onnx.ModelProto:
    """Return a copy of a model with more outputs.

    Args:
        model: Any model; it is not changed.
        tensors: Tensors that some node of the main graph makes.
        keep_outputs: Whether the model's own outputs stay outputs too.

    Returns:
        The copy; exposed tensors follow the kept outputs, each once. Tell them by their place: one that is bfloat16
        has another name, and is float32.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = {value.name: value for value in model.graph.output}
    wanted = dict.fromkeys([*(own if keep_outputs else ()), *tensors])
    short = bfloat16_tensors(model) & set(wanted)
    names = Names.of(model) if short else Names(())
    outputs = [
        _widened(copy.graph, name, names.fresh(f"{name}_float32"))
        if name in short
        else own.get(name) or helper.make_empty_tensor_value_info(name)
        for name in wanted
    ]
    del copy.graph.output[:]
    copy.graph.output.extend(outputs)
    return copy


def bfloat16_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the tensors of the main graph that are bfloat16, as far as onnx's inference tells.

    Args:
        model: Any model; it is not changed.

    Returns:
        Names, graph inputs included. Nothing is inferred for a model that does not mention the type anywhere.
    """
    if BFLOAT16 not in _codes(model.graph):
        return set()
    try:
        graph = onnx.shape_inference.infer_shapes(light_copy(model), strict_mode=False).graph
    except TOOL_ERRORS:
        graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == BFLOAT16}


def _codes(graph: onnx.GraphProto) -> Iterator[int]:
    """Yield everything that may be the code of a type: that of a tensor, or an attribute such as Cast's `to`."""
    yield from (value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info))
    yield from (tensor.data_type for tensor in graph.initializer)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.i, attribute.t.data_type)
        for inner in (attribute.g, *attribute.graphs):
            if inner.ByteSize():
                yield from _codes(inner)


def _widened(graph: onnx.GraphProto, name: str, wide: str) -> onnx.ValueInfoProto:
    """Add a Cast of a tensor to float32 and return what it makes."""
    graph.node.append(helper.make_node("Cast", [name], [wide], name=wide, to=onnx.TensorProto.FLOAT))
    return helper.make_tensor_value_info(wide, onnx.TensorProto.FLOAT, None)
