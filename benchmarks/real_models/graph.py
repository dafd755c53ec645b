"""A graph written node after node, the way an exporter would leave it: named values, weights as initializers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .case import Array

OPSET = 17
IR_VERSION = 8


class GraphWriter:
    """Nodes and initializers in the order they were added; values are named after what makes them."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, value: Array) -> str:
        """Add an initializer unless one of that name is there, and return its name."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def node(self, op_type: str, inputs: list[str], name: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, called `NAME_out` unless named, and return the output's name."""
        made = output or f"{name}_out"
        self._nodes.append(helper.make_node(op_type, inputs, [made], name=name, **attributes))
        return made

    def model(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], opset: int = OPSET
    ) -> bytes:
        """Return the serialized, checked model with its shapes inferred.

        Args:
            name: Name of the graph.
            inputs: Typed graph inputs.
            outputs: Typed graph outputs.
            opset: Version of the default operator set.

        Returns:
            The serialized `ModelProto`.
        """
        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._initializers.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
        return content
