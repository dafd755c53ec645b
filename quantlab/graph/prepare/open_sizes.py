"""A size that is stated as 0 or less is no size: exporters write it where they know none.

onnxruntime takes such a size as unknown. Taken at its word, it would reach shape inference and constant folding, which
would fold the model to one for empty tensors.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.view import subgraphs


def _edit(piece: Workpiece) -> list[str]:
    opened = dict.fromkeys(
        value.name for graph in _graphs(piece.model.graph) for value in _values(graph) if _open(value.type.tensor_type)
    )
    if not opened:
        return []
    return [
        f"{len(opened)} tensors state a size of 0 or less, which counts as unknown; the first is {next(iter(opened))!r}"
    ]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _graphs(inner)


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    for values in (graph.input, graph.value_info, graph.output):
        yield from values


def _open(tensor: onnx.TypeProto.Tensor) -> bool:
    found = [dim for dim in tensor.shape.dim if dim.HasField("dim_value") and dim.dim_value <= 0]
    for dim in found:
        dim.ClearField("dim_value")
    return bool(found)


OPEN_SIZES = Pass(name="open-sizes", edit=_edit)
