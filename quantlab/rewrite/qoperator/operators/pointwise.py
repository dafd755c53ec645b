"""QLinearAdd and its like: inputs with their grids, then the grid of the output."""

from __future__ import annotations

import onnx
from onnx import helper

from quantlab.rewrite.qoperator.writers import integer_writers
from quantlab.rewrite.qoperator.writing import Writing


@integer_writers.register("Add", "Mul", "LeakyRelu", "Sigmoid", "AveragePool")
def pointwise(work: Writing, node: onnx.NodeProto) -> None:
    """QLinear<Op>(a, b, ..., grid of y)."""
    work.write(node, f"QLinear{node.op_type}", [*_inputs(work, node.input), *_output(work, node)])


@integer_writers.register("GlobalAveragePool")
def global_average_pool(work: Writing, node: onnx.NodeProto) -> None:
    """As `pointwise`; channels come first."""
    inputs = [*_inputs(work, node.input), *_output(work, node)]
    work.write(node, "QLinearGlobalAveragePool", inputs, extra=[helper.make_attribute("channels_last", 0)])


@integer_writers.register("Softmax")
def softmax(work: Writing, node: onnx.NodeProto) -> None:
    """As `pointwise`; the opset says what the axis means."""
    inputs = [*_inputs(work, node.input), *_output(work, node)]
    work.write(node, "QLinearSoftmax", inputs, extra=[helper.make_attribute("opset", work.view.opset)])


@integer_writers.register("Concat")
def concat(work: Writing, node: onnx.NodeProto) -> None:
    """QLinearConcat(grid of y, a, b, ...)."""
    work.write(node, "QLinearConcat", [*_output(work, node), *_inputs(work, node.input)])


@integer_writers.register("Where")
def where(work: Writing, node: onnx.NodeProto) -> None:
    """QLinearWhere(condition, a, b, grid of y)."""
    inputs = [node.input[0], *_inputs(work, node.input[1:]), *_output(work, node)]
    work.write(node, "QLinearWhere", inputs)


def _inputs(work: Writing, names: list[str]) -> list[str]:
    return [part for name in names for part in work.read(name)]


def _output(work: Writing, node: onnx.NodeProto) -> list[str]:
    return work.grid(work.grids.made(node.output[0])[0])
