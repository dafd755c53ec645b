"""A logical graph is what a model computes, with all that quantizing adds or writes in another way taken out.

QuantizeLinear and DequantizeLinear pairs, Identity and Dropout are skipped; operators on integers become the operators
that they stand for; a Gemm becomes the MatMul and the Add that it is made of. Two models that compute the same thing,
one in float and one quantized, then have graphs that can be laid over each other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.graph import GraphView, to_array

_SKIPPED = ("QuantizeLinear", "DequantizeLinear", "Identity", "Dropout")

_FLOAT_FORMS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "QLinearConv": ("Conv", (0, 3, 8)),
    "QLinearMatMul": ("MatMul", (0, 3)),
    "QGemm": ("Gemm", (0, 3, 6)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearWhere": ("Where", (0, 1, 4)),
    "QEmbedLayerNormalization": ("EmbedLayerNormalization", (0, 1, 2, 3, 4, 5, 6, 7)),
    **{f"QLinear{op}": (op, (0,)) for op in ("LeakyRelu", "Sigmoid", "Softmax", "AveragePool", "GlobalAveragePool")},
}
"""Operator on integers to the one it stands for, and the places of the tensors among its inputs."""

_IGNORED = ("channels_last", "to", "saturate")
"""Attributes that say how something is computed, or in which type, rather than what."""


_NEUTRAL = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
"""Attributes of a Gemm that change nothing."""


@dataclass(frozen=True, eq=False)
class Step:
    """One node of a logical graph.

    Attributes:
        op: Operator, of the float form.
        attributes: Attribute to value, subgraphs left out.
        inputs: Logical tensors; empty for an input that is left out.
        outputs: Logical tensors.
        node: The node that it stands for.
        slots: The place of each input among the node's; -1 where the step is a part of a node.
    """

    op: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    node: onnx.NodeProto
    slots: tuple[int, ...]


class Logical:
    """The logical graph of one model.

    Attributes:
        view: Index of the model.
        steps: Nodes in topological order.
        producers: Logical tensor to the step that makes it.
        given_out: Logical tensors that are outputs of the model.
        inner: Logical tensors that exist only inside a node, as the product within a Gemm.
    """

    def __init__(self, view: GraphView) -> None:
        self.view = view
        self._origin: dict[str, str] = {}
        self.inner: set[str] = set()
        self.steps = tuple(step for node in view.nodes for step in self._steps(node))
        self.producers = {name: step for step in self.steps for name in step.outputs}
        self.given_out = {self.origin(name) for name in view.outputs}

    def origin(self, tensor: str) -> str:
        """Return the logical tensor that a tensor holds: what it was before it was rounded, or handed on."""
        return self._origin.get(tensor, tensor)

    def is_constant(self, tensor: str) -> bool:
        """Say whether a logical tensor is stored in the model."""
        return tensor in self.view.constants or tensor in self._embedded

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Return the shape of a constant."""
        if tensor in self.view.constants:
            return tuple(self.view.constants[tensor].dims)
        return tuple(self._embedded[tensor].dims) if tensor in self._embedded else None

    def values(self, tensor: str) -> npt.NDArray[Any] | None:
        """Return the values of a constant as they are stored, or None for what is computed."""
        if tensor in self._embedded:
            return to_array(self._embedded[tensor])
        return self.view.constant(tensor)

    def clip_ends(self, step: Step) -> tuple[float, float]:
        """Return the ends that a Relu or Clip keeps its values between; an end that is computed is not known."""
        if step.op == "Relu":
            return 0.0, math.inf
        ends = []
        for index, (key, none) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
            name = step.inputs[index] if index < len(step.inputs) else ""
            values = self.values(name) if name else None
            ends.append(float(step.attributes.get(key, none)) if values is None else float(values.item()))
        return ends[0], ends[1]

    @cached_property
    def _embedded(self) -> dict[str, onnx.TensorProto]:
        """What Constant nodes hold."""
        nodes = (node for node in self.view.nodes if node.op_type == "Constant")
        return {
            node.output[0]: attribute.t for node in nodes for attribute in node.attribute if attribute.name == "value"
        }

    @cached_property
    def classes(self) -> dict[str, str]:
        """Tensor to the first tensor that is computed in the same way: two copies of one computation are one class."""
        found: dict[str, str] = {}
        first: dict[Any, tuple[str, ...]] = {}
        for step in self.steps:
            inputs = tuple(found.get(name, name) for name in step.inputs)
            key = (step.op, repr(sorted(step.attributes.items())), inputs, len(step.outputs))
            if step.op.startswith("Random") or not step.inputs:
                continue
            for mine, other in zip(step.outputs, first.setdefault(key, step.outputs), strict=True):
                found[mine] = other
        return found

    def klass(self, tensor: str) -> str:
        """Return what stands for all tensors that hold the same."""
        return self.classes.get(tensor, tensor)

    @cached_property
    def readers(self) -> Mapping[str, list[Step]]:
        """Class of tensors to the steps that read one of them."""
        found: dict[str, list[Step]] = defaultdict(list)
        for step in self.steps:
            for name in dict.fromkeys(self.klass(name) for name in step.inputs if name):
                found[name].append(step)
        return found

    def _steps(self, node: onnx.NodeProto) -> Iterator[Step]:
        if node.op_type in _SKIPPED:
            self._origin[node.output[0]] = self.origin(node.input[0])
            return
        if node.op_type == "Constant":
            return
        op, slots = self._form(node)
        inputs = tuple(self.origin(node.input[slot]) for slot in slots)
        attributes = {
            attribute.name: _plain(onnx.helper.get_attribute_value(attribute))
            for attribute in node.attribute
            if attribute.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
            and attribute.name not in _IGNORED
        }
        if op != "Gemm":
            yield Step(op, attributes, inputs, tuple(node.output), node, slots)
            return
        product = f"{node.output[0]}/product" if len(inputs) > 2 and inputs[2] else node.output[0]
        # A Gemm without alpha, beta and transposition is what a MatMul and an Add are.
        factors = {key: value for key, value in attributes.items() if value != _NEUTRAL.get(key)}
        beta = {"beta": factors.pop("beta")} if "beta" in factors else {}
        yield Step("MatMul", factors, inputs[:2], (product,), node, slots[:2])
        if product != node.output[0]:
            self.inner.add(product)
            yield Step("Add", beta, (product, inputs[2]), (node.output[0],), node, (-1, slots[2]))

    def _form(self, node: onnx.NodeProto) -> tuple[str, tuple[int, ...]]:
        """Return the operator that a node stands for, and where its tensors are among its inputs."""
        if node.op_type == "QLinearConcat":
            return "Concat", tuple(range(2, len(node.input), 3))
        op, slots = _FLOAT_FORMS.get(node.op_type, (node.op_type, tuple(range(len(node.input)))))
        return op, tuple(slot for slot in slots if slot < len(node.input))


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return to_array(value).tobytes()
    return tuple(value) if isinstance(value, list | np.ndarray) else value
