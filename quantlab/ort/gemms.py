"""Gemm taken apart: Y = A B + C becomes a MatMul and an Add, where no factor and no transposed A is in the way.

A constant B that is to be transposed is written anew under a name of its own, so that its other readers keep theirs;
onnxruntime.quantization 1.31.1 changes it under all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantlab.graph import Names, subgraphs
from quantlab.graph.prepare.edit import replace_nodes


def split_gemms(model: onnx.ModelProto) -> None:
    """Replace every Gemm that is a plain product, in place, in subgraphs too.

    Args:
        model: Any model; nodes keep their order.
    """
    _split(model.graph, [model.graph], Names.of(model))


def _split(graph: onnx.GraphProto, scopes: Sequence[onnx.GraphProto], names: Names) -> None:
    nodes = []
    for node in graph.node:
        for inner in subgraphs(node):
            _split(inner, [*scopes, inner], names)
        nodes += list(_parts(node, scopes, names)) if _is_plain(node) else [node]
    replace_nodes(graph, nodes)


def _is_plain(node: onnx.NodeProto) -> bool:
    if node.op_type != "Gemm" or node.domain not in ("", "ai.onnx"):
        return False
    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)


def _parts(node: onnx.NodeProto, scopes: Sequence[onnx.GraphProto], names: Names) -> Iterator[onnx.NodeProto]:
    has_bias = len(node.input) > 2 and node.input[2]
    right = node.input[1]
    if any(entry.name == "transB" and entry.i for entry in node.attribute):
        turned = names.fresh(f"{right}_Transposed")
        if not _transposed(right, turned, scopes):
            yield helper.make_node("Transpose", [right], [turned], _suffixed(node, "_Transpose"), perm=[1, 0])
        right = turned
    product = names.fresh(f"{node.output[0]}_MatMul") if has_bias else node.output[0]
    yield helper.make_node("MatMul", [node.input[0], right], [product], _suffixed(node, "_MatMul"))
    if has_bias:
        yield helper.make_node("Add", [product, node.input[2]], node.output, _suffixed(node, "_Add"))


def _suffixed(node: onnx.NodeProto, suffix: str) -> str:
    return f"{node.name}{suffix}" if node.name else ""


def _transposed(name: str, turned: str, scopes: Sequence[onnx.GraphProto]) -> bool:
    """Write the transpose of a constant beside it; return whether there is such a constant."""
    for graph in reversed(scopes):
        for tensor in graph.initializer:
            if tensor.name == name:
                array = np.ascontiguousarray(numpy_helper.to_array(tensor).T)
                graph.initializer.append(numpy_helper.from_array(array, turned))
                return True
    return False
