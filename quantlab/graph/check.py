"""What a model must be before anything is done to it: a float graph that hangs together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx

from quantlab.errors import ModelError
from quantlab.graph.files import data_bytes, tensors_of
from quantlab.graph.view import GraphView, subgraphs

_QUANTIZED_NAMES = frozenset(
    {
        "ConvInteger",
        "ConvIntegerToFloat",
        "FusedMatMulInteger",
        "GatherBlockQuantized",
        "MatMulBnb4",
        "MatMulFpQ4",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MatMulNBitsMlp",
        "MatMulNBitsQkv",
        "MulInteger",
        "NhwcMaxPool",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QMoE",
        "ReduceSumInteger",
    }
)
_QUANTIZED_BEGINNINGS = ("Dequantize", "DynamicQuantize", "QLinear", "QOrdered", "Quantize")


def check_float_model(model: onnx.ModelProto) -> None:
    """Refuse what cannot be prepared and quantized.

    Args:
        model: A model with all its data in memory.

    Raises:
        ModelError: The model is quantized already, has no nodes, or its graph is broken: a name that is made twice, an
            edge that comes from nowhere, a cycle, a tensor whose data is not loaded or does not fit its shape.
    """
    if not model.graph.node:
        raise ModelError(f"graph {model.graph.name!r} has no nodes: there is nothing to quantize")
    _refuse_quantized(model)
    _refuse_twice("initializer", (tensor.name for tensor in model.graph.initializer))
    _refuse_twice("graph input", (value.name for value in model.graph.input))
    _refuse_twice("graph output", (value.name for value in model.graph.output))
    for tensor in tensors_of(model):
        _refuse_misfit(tensor)
    view = GraphView.of(model)
    made = {*view.producers, *view.constants, *view.inputs}
    made |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    for name in view.outputs:
        if name not in made:
            raise ModelError(f"graph output {name!r} is made by no node: remove it or restore the node")


def is_quantized(node: onnx.NodeProto) -> bool:
    """Return whether a node belongs to a quantized model.

    Example:
        >>> [is_quantized(onnx.NodeProto(op_type=name)) for name in ("QLinearConv", "Conv")]
        [True, False]
    """
    return node.op_type in _QUANTIZED_NAMES or node.op_type.startswith(_QUANTIZED_BEGINNINGS)


def _refuse_quantized(model: onnx.ModelProto) -> None:
    nodes = list(_walk(model.graph.node))
    for function in model.functions:
        nodes += _walk(function.node)
    found = [node for node in nodes if is_quantized(node)]
    if found:
        first = found[0]
        label = repr(first.name) if first.name else f"making {', '.join(map(repr, first.output))}"
        raise ModelError(
            f"the model is already quantized: {len(found)} of its {len(nodes)} nodes are quantized operators, "
            f"the first is {first.op_type} {label}; give the float model from which it was made"
        )


def _refuse_misfit(tensor: onnx.TensorProto) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError(f"the data of tensor {tensor.name!r} is still in a file: load the model from its path")
    wanted = data_bytes(tensor)
    if wanted is not None and tensor.HasField("raw_data") and len(tensor.raw_data) != wanted:
        raise ModelError(
            f"tensor {tensor.name!r} has {len(tensor.raw_data)} bytes, its shape {tuple(tensor.dims)} needs {wanted}: "
            "export or download the model again"
        )


def _walk(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _walk(graph.node)


def _refuse_twice(kind: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ModelError(f"{kind} {name!r} is there {count} times: tensor names have to be unique")
