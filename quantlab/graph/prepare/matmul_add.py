"""MatMul and the Add of a constant behind it are one Gemm, whose bias is then added before any rounding.

    Add(MatMul(u, W), b) = u W + b = Gemm(u, W, b)          u of shape (M, K), W (K, N), b (N,) or (1, N)

The sum is taken in another order than before, so outputs agree within float rounding. Left in two, a quantized network
rounds u W onto a grid of its own before b is added.
"""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.view import GraphView


def _edit(piece: Workpiece) -> list[str]:
    if "MatMul" not in piece.operators:
        return []
    view = piece.view
    notes: list[str] = []
    removed: set[int] = set()
    for node in view.nodes:
        adding = view.only_reader(node.output[0]) if _is_linear(node, view) else None
        if adding is None or not is_standard(adding, "Add"):
            continue
        bias = next((name for name in adding.input if name != node.output[0]), None)
        if bias is None or not _is_bias(bias, node, view):
            continue
        was = label(node)
        node.op_type = "Gemm"
        node.input.append(bias)
        node.output[0] = adding.output[0]
        removed.add(id(adding))
        notes.append(f"joined {was} and {label(adding)} into one Gemm")
    remove_nodes(piece.model.graph, removed)
    return notes


def _is_linear(node: onnx.NodeProto, view: GraphView) -> bool:
    """Say whether a node multiplies a matrix by a constant one."""
    if not is_standard(node, "MatMul"):
        return False
    shape, weight = view.shape(node.input[0]), view.constants.get(node.input[1])
    return shape is not None and len(shape) == 2 and weight is not None and len(weight.dims) == 2


def _is_bias(name: str, node: onnx.NodeProto, view: GraphView) -> bool:
    """Say whether a tensor is a constant with a number for each column of the product."""
    constant, columns = view.constants.get(name), view.constants[node.input[1]].dims[1]
    if constant is None or constant.data_type != view.constants[node.input[1]].data_type:
        return False
    return list(constant.dims) in ([columns], [1, columns])


JOIN_MATMUL_ADD = Pass(name="join-matmul-add", edit=_edit, requires=missing_constants)
