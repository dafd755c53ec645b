"""A Constant node becomes an initializer of the same name: one form of constant for everything that follows."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes

_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def _edit(piece: Workpiece) -> list[str]:
    graph = piece.model.graph
    outputs = {value.name for value in graph.output}
    listed = list(graph.node)
    removed: set[int] = set()
    notes = []
    for node in listed:
        if not is_standard(node, "Constant"):
            continue
        tensor = _tensor(node)
        if isinstance(tensor, str):
            notes.append(f"left {label(node)} alone: {tensor}")
        elif node.output[0] in outputs:
            notes.append(f"left {label(node)} alone: graph output {node.output[0]!r} has to be made by a node")
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
            removed.add(id(node))
    remove_nodes(graph, removed)
    return [*([f"{len(removed)} Constant nodes became initializers"] if removed else []), *notes]


def _tensor(node: onnx.NodeProto) -> onnx.TensorProto | str:
    if len(node.attribute) != 1:
        return f"it has {len(node.attribute)} attributes, not one value"
    attribute = node.attribute[0]
    if attribute.ref_attr_name:
        return f"its value comes from attribute {attribute.ref_attr_name!r} of a function"
    if attribute.name == "value":
        tensor: onnx.TensorProto = attribute.t
        return tensor
    if attribute.name in _NUMBERS:
        value = onnx.helper.get_attribute_value(attribute)
        return numpy_helper.from_array(np.asarray(value, _NUMBERS[attribute.name]))
    return f"its value is given as {attribute.name!r}, which is no dense array of numbers"


LIFT_CONSTANTS = Pass(name="lift-constants", edit=_edit)
