"""What a model must be before anything is done to it: a float graph that hangs together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import prod

import onnx

from quantlab.errors import ModelError
from quantlab.graph.external import data_bytes, is_attached, is_external, mapped
from quantlab.graph.files import tensors_of
from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.view import subgraphs

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
_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc", "org.pytorch.aten"})
"""Domains whose operators onnxruntime brings along; it knows them in models that do not import them, too."""

_KNOWN_BEGINNINGS = ("ai.onnx.preview", "ai.onnx.training", "com.microsoft.")

_QUANTIZED_BEGINNINGS = ("Dequantize", "DynamicQuantize", "QLinear", "QOrdered", "Quantize")


def check_float_model(model: onnx.ModelProto) -> None:
    """Refuse what cannot be prepared and quantized.

    Args:
        model: A model as `load` returns it.

    Raises:
        ModelError: The model is quantized already, has no nodes, or its graph is broken: a name that is made twice, an
            edge that comes from nowhere, a cycle, a tensor whose data is not loaded or does not fit its shape, an
            operator of a domain that is neither known nor imported.
    """
    _check(Workpiece(model))


def _check(piece: Workpiece) -> list[str]:
    model = piece.model
    if not model.graph.node:
        raise ModelError(f"graph {model.graph.name!r} has no nodes: there is nothing to quantize")
    nodes = _every_node(model)
    _refuse_quantized(nodes)
    _refuse_unimported(model, nodes)
    _refuse_twice("initializer", (tensor.name for tensor in model.graph.initializer))
    _refuse_twice("graph input", (value.name for value in model.graph.input))
    _refuse_twice("graph output", (value.name for value in model.graph.output))
    for tensor in tensors_of(model):
        _refuse_misfit(tensor)
    view = piece.view
    made = {*view.producers, *view.constants, *view.inputs}
    made |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    for name in view.outputs:
        if name not in made:
            raise ModelError(f"graph output {name!r} is made by no node: remove it or restore the node")
    return []


def foreign_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes, subgraphs included, of operators that neither ONNX, onnxruntime nor the model itself defines.

    Args:
        model: Any model.

    Returns:
        Nodes of unknown domains, but for those that are calls of the model's own functions.
    """
    return _foreign(model, _every_node(model))


def _foreign(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    own = {(function.domain, function.name) for function in model.functions}
    return [node for node in nodes if not _is_known(node.domain) and (node.domain, node.op_type) not in own]


def _is_known(domain: str) -> bool:
    return domain in _KNOWN_DOMAINS or domain.startswith(_KNOWN_BEGINNINGS)


def _refuse_unimported(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    imported = {entry.domain for entry in model.opset_import}
    imported |= {entry.domain for function in model.functions for entry in function.opset_import}
    for node in _foreign(model, nodes):
        if node.domain not in imported:
            raise ModelError(
                f"{node.op_type} {_name(node)} is an operator of domain {node.domain!r}, which the model does not "
                "import: export the model again, or correct the domain"
            )


def is_quantized(node: onnx.NodeProto) -> bool:
    """Return whether a node belongs to a quantized model.

    Example:
        >>> [is_quantized(onnx.NodeProto(op_type=name)) for name in ("QLinearConv", "Conv")]
        [True, False]
    """
    return node.op_type in _QUANTIZED_NAMES or node.op_type.startswith(_QUANTIZED_BEGINNINGS)


def _refuse_quantized(nodes: Sequence[onnx.NodeProto]) -> None:
    found = [node for node in nodes if is_quantized(node)]
    if found:
        first = found[0]
        raise ModelError(
            f"the model is already quantized: {len(found)} of its {len(nodes)} nodes are quantized operators, "
            f"the first is {first.op_type} {_name(first)}; give the float model from which it was made"
        )


def _name(node: onnx.NodeProto) -> str:
    return repr(node.name) if node.name else f"making {', '.join(map(repr, node.output))}"


def _refuse_misfit(tensor: onnx.TensorProto) -> None:
    if is_external(tensor):
        if not is_attached(tensor):
            raise ModelError(f"the data of tensor {tensor.name!r} is still in a file: load the model from its path")
        mapped(tensor)  # raises where the data cannot be read; its size was checked when the model was loaded
        return
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"tensor {tensor.name!r} has shape {tuple(tensor.dims)}: no size may be negative")
    given, wanted, unit = _extent(tensor)
    if given != wanted:
        raise ModelError(
            f"tensor {tensor.name!r} has {given} {unit}, its shape {tuple(tensor.dims)} needs {wanted}: "
            "export or download the model again"
        )


def _extent(tensor: onnx.TensorProto) -> tuple[int, int, str]:
    """Return how much data a tensor has, how much its shape needs, and in which unit."""
    wanted = data_bytes(tensor)
    if tensor.HasField("raw_data"):
        return (0, 0, "") if wanted is None else (len(tensor.raw_data), wanted, "bytes")
    count = prod(tensor.dims)
    try:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    except KeyError:
        return 0, 0, ""
    given = len(getattr(tensor, field))
    if wanted is not None and wanted < count:  # several values share an entry
        return min(given, 1), min(count, 1), "values"
    if tensor.data_type in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128):
        return given // 2, count, "values"
    return given, count, "values"


def _every_node(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """List the nodes of a model, those in subgraphs and local functions included."""
    nodes = list(_walk(model.graph.node))
    for function in model.functions:
        nodes += _walk(function.node)
    return nodes


def _walk(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        if node.attribute:
            for graph in subgraphs(node):
                yield from _walk(graph.node)


def _refuse_twice(kind: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ModelError(f"{kind} {name!r} is there {count} times: tensor names have to be unique")


CHECK_FLOAT_MODEL = Pass(name="check-float-model", edit=_check)
"""`check_float_model` as the first of a row of passes, which changes nothing."""
