"""What `onnx.version_converter` changes in silence when it passes opset 11, put right afterwards.

* Upsample and Resize-10 sample at x_original = x_resized / scale; the Resize-11 they become has another default, so it
  is told to be `asymmetric`. Nearest takes the floor when it enlarges and the ceiling when it shrinks, as onnxruntime
  does for these operators; one node cannot do both.
* The bounds of Clip and the value of Pad become float32 constants whatever type the data has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from quantlab.errors import ModelError
from quantlab.graph.prepare.edit import is_standard, label
from quantlab.graph.tensors import to_array
from quantlab.graph.view import subgraphs

FIRST_RIGHT_OPSET = 11
"""Models that are at least this new need no repair."""


def repair(converted: onnx.ModelProto, types: Mapping[str, int]) -> list[str]:
    """Repair a model that was raised from an opset below 11 to one from 11 on.

    Args:
        converted: What the converter returned; changed in place.
        types: Codes of the element types of tensors, as far as they are known.

    Returns:
        A note for each guess that had to be made.

    Raises:
        ModelError: A Resize enlarges one axis and shrinks another by nearest neighbour, which Resize-11 cannot say.
    """
    notes = []
    for node, constants in _nodes(converted.graph, {}):
        if is_standard(node, "Resize"):
            notes += _repair_resize(node, constants)
        elif is_standard(node, "Clip", "Pad"):
            _repair_types(node, constants, types)
    return notes


def _nodes(
    graph: onnx.GraphProto, outer: Mapping[str, onnx.TensorProto]
) -> Iterator[tuple[onnx.NodeProto, Mapping[str, onnx.TensorProto]]]:
    """Yield every node with the constants it can see."""
    constants = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        if is_standard(node, "Constant") and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        yield node, constants
        for inner in subgraphs(node):
            yield from _nodes(inner, constants)


def _repair_resize(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> list[str]:
    mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"nearest")
    _set(node, "coordinate_transformation_mode", "asymmetric")
    if mode != b"nearest":
        return []
    scales = constants.get(node.input[2])
    if scales is None:
        _set(node, "nearest_mode", "floor")
        return [f"{label(node)} is taken to enlarge: its scales {node.input[2]!r} are computed"]
    values = to_array(scales)
    if (values < 1).any() and (values > 1).any():
        raise ModelError(
            f"operator {label(node)} shrinks and enlarges at once (scales {values.tolist()}) by nearest "
            f"neighbour, which opset {FIRST_RIGHT_OPSET} cannot express as opset 10 does: "
            "export the model again with a newer opset"
        )
    _set(node, "nearest_mode", "ceil" if (values < 1).any() else "floor")
    return []


def _repair_types(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], types: Mapping[str, int]) -> None:
    wanted = types.get(node.input[0], onnx.TensorProto.FLOAT)
    given = node.input[1:] if node.op_type == "Clip" else node.input[2:3]
    for tensor in (constants[name] for name in given if name in constants):
        if tensor.data_type != wanted:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(wanted)
            with np.errstate(over="ignore"):  # float32's lowest number, "no bound", becomes -inf in float16
                value = to_array(tensor).astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _set(node: onnx.NodeProto, name: str, value: str) -> None:
    node.attribute.append(onnx.helper.make_attribute(name, value))
