"""A QOperator model while it is written: which tensors exist as integers, which as floats, and under which names.

    t_quantized    the integers: made by an integer operator, or by a QuantizeLinear from the float tensor t
    t              the floats: made by a float operator, or by a DequantizeLinear from t_quantized

Either is written when the first node asks for it. Names are those of onnxruntime.quantization where they are free.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass, field

import onnx

from quantlab.arrays import QParams, quantize
from quantlab.graph import GraphView, Names, float_tensor, integer_tensor, to_array
from quantlab.plan import QuantPlan, TensorPlan
from quantlab.plan.forms import Grids
from quantlab.rewrite.frame import CONTRIB_DOMAIN


@dataclass(kw_only=True)
class Writing:
    """The model while it is written; lives only inside `write_qoperator`.

    Attributes:
        view: The float graph.
        plan: The resolved plan.
        grids: Its entries as nodes meet them.
        names: The names that are taken.
        nodes: What is written so far.
        initializers: Constants that are written so far.
        integers: Tensor to the name of its integers, once there are any.
        floats: Tensor to the name of its rounded floats, once there are any.
        made_whole: Tensors made by an integer operator.
        raw: Tensor made by a float operator to its name before rounding, where it is not its own.
    """

    view: GraphView
    plan: QuantPlan
    grids: Grids
    names: Names
    nodes: MutableSequence[onnx.NodeProto]
    initializers: MutableSequence[onnx.TensorProto]
    integers: dict[str, str] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)
    made_whole: set[str] = field(default_factory=set)
    _numbers: dict[str, list[str]] = field(default_factory=dict)
    _stored: dict[tuple[str, str], str] = field(default_factory=dict)

    def entry(self, name: str) -> tuple[TensorPlan, QParams]:
        """Return the plan of a tensor with its numbers."""
        tensor = self.plan.tensors[name]
        assert tensor.qparams is not None
        return tensor, tensor.qparams

    def grid(self, name: str) -> list[str]:
        """Return the names of a tensor's scale and zero point, or those of the tensor whose grid it shares."""
        owner = self.plan.tensors[name].like or name
        if owner not in self._numbers:
            tensor, grid = self.entry(owner)
            base = f"{owner}_quantized" if tensor.role == "bias" else self._known_as(owner)
            scale, zero = self.names.fresh(f"{base}_scale"), self.names.fresh(f"{base}_zero_point")
            self.initializers.append(float_tensor(scale, grid.scale))
            self.initializers.append(integer_tensor(zero, grid.zero_point, grid.spec.dtype))
            self._numbers[owner] = [scale, zero]
        return self._numbers[owner]

    def read(self, name: str) -> list[str]:
        """Return the names of a tensor's integers, scale and zero point."""
        return [self.whole(name), *self.grid(name)]

    def whole(self, name: str) -> str:
        """Return the name of a tensor's integers, which are written where there are none yet."""
        if name not in self.integers:
            _, grid = self.entry(name)
            constant = self.view.constants.get(name)
            self.integers[name] = self.names.fresh(f"{self._known_as(name)}_quantized")
            if constant is not None:
                values = quantize(to_array(constant), grid)
                self.initializers.append(integer_tensor(self.integers[name], values, grid.spec.dtype))
            else:
                inputs = [self.raw.get(name, name), *self.grid(name)]
                self._convert("QuantizeLinear", inputs, self.integers[name], name)
        return self.integers[name]

    def real(self, name: str) -> str:
        """Return the name of a tensor's rounded floats, which are written where there are none yet."""
        if name not in self.floats:
            inputs = self.read(name)
            free = name in self.raw or name in self.made_whole  # nobody makes floats of this name
            self.floats[name] = name if free else self.names.fresh(f"{name}_DequantizeLinear_Output")
            self._convert("DequantizeLinear", inputs, self.floats[name], name)
        return self.floats[name]

    def makes(self, node: onnx.NodeProto) -> None:
        """Name the integers that a node makes, an absorbed Relu or Clip counted in."""
        suffix = "quantized" if node.op_type == "Split" else "_quantized"
        for output in node.output:
            name, tensor = self.grids.made(output)
            if tensor is not None:
                self.integers[name] = self.names.fresh(self._known_as(name) + suffix)
                self.made_whole.add(name)

    def makes_floats(self, node: onnx.NodeProto) -> None:
        """Name the floats that a node makes: not as they are where others know the rounded ones by that name."""
        for output in node.output:
            name, tensor = self.grids.made(output)
            inside = any(use.inside for use in self.view.uses.get(name, ()))
            if tensor is not None and (inside or name in self.view.outputs):
                self.raw[name] = self.names.fresh(f"{name}_QuantizeLinear_Input")

    def write(
        self,
        node: onnx.NodeProto,
        op: str,
        inputs: Iterable[str],
        *,
        domain: str = CONTRIB_DOMAIN,
        extra: Sequence[onnx.AttributeProto] = (),
        without: Sequence[str] = (),
    ) -> None:
        """Write the integer operator that stands for a node.

        Args:
            node: The float node; its attributes are taken over.
            op: Operator type.
            inputs: All inputs.
            domain: Operator set.
            extra: Further attributes.
            without: Names of attributes that the integer operator does not have.
        """
        name = self.names.fresh(f"{node.name}_quant")
        written = onnx.NodeProto(op_type=op, domain=domain, name=name, input=inputs, output=self.outputs(node))
        written.attribute.extend(attribute for attribute in node.attribute if attribute.name not in without)
        written.attribute.extend(extra)
        self.nodes.append(written)

    def outputs(self, node: onnx.NodeProto) -> list[str]:
        """Return the names of what a node makes: integers, or floats where it was announced or there is no grid."""
        made = [self.grids.made(name)[0] for name in node.output]
        return [self.integers.get(name) or self.raw.get(name, name) for name in made]

    def stored(self, name: str, like: str) -> str:
        """Return the name of a constant's integers on the grid of another tensor."""
        grid = self.entry(like)[1]
        if (name, like) not in self._stored:
            values = quantize(to_array(self.view.constants[name]), grid)
            self._stored[name, like] = self.names.fresh(f"{name}_quantized")
            self.initializers.append(integer_tensor(self._stored[name, like], values, grid.spec.dtype))
        return self._stored[name, like]

    def _known_as(self, name: str) -> str:
        """Return the tensor in front of an absorbed Relu or Clip, after which its integers are called."""
        before = self.plan.tensors[name].absorbs
        return before if before is not None and self.grids.takers.get(before) == name else name

    def _convert(self, op: str, inputs: list[str], output: str, name: str) -> None:
        node = onnx.NodeProto(op_type=op, input=inputs, output=[output], name=self.names.fresh(f"{name}_{op}"))
        if (axis := self.entry(name)[1].spec.axis) is not None:
            node.attribute.add(name="axis", type=onnx.AttributeProto.INT, i=axis)
        self.nodes.append(node)
