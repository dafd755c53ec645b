"""QLinearConv, QGemm and QLinearMatMul: both factors with their grids, the grid of the output, the bias in integers."""

from __future__ import annotations

import onnx

from quantlab.rewrite.qoperator.writers import integer_writers
from quantlab.rewrite.qoperator.writing import Writing


@integer_writers.register("Conv")
def conv(work: Writing, node: onnx.NodeProto) -> None:
    """QLinearConv(x, w, grid of y, bias)."""
    bias = [work.whole(node.input[2])] if len(node.input) > 2 and node.input[2] else []
    work.write(node, "QLinearConv", [*_factors(work, node), *_output(work, node), *bias], domain="")


@integer_writers.register("MatMul")
def matmul(work: Writing, node: onnx.NodeProto) -> None:
    """QLinearMatMul(a, b, grid of y)."""
    work.write(node, "QLinearMatMul", [*_factors(work, node), *_output(work, node)], domain="")


@integer_writers.register("Gemm")
def gemm(work: Writing, node: onnx.NodeProto) -> None:
    """QGemm(a, b, bias, grid of y); beta is in the grid of the bias, or leaves no bias at all."""
    idle = work.view.attribute(node, "beta", 1.0) == 0
    bias = work.whole(node.input[2]) if len(node.input) > 2 and node.input[2] and not idle else ""
    work.write(node, "QGemm", [*_factors(work, node), bias, *_output(work, node)], without=("beta",))


def _factors(work: Writing, node: onnx.NodeProto) -> list[str]:
    return [*work.read(node.input[0]), *work.read(node.input[1])]


def _output(work: Writing, node: onnx.NodeProto) -> list[str]:
    return work.grid(work.grids.made(node.output[0])[0])
