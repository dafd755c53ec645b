"""onnxruntime.quantization on the same prepared model, options and data."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tests.operators.harness import Array, Scheme

_TYPES = {
    "int8": QuantType.QInt8, "uint8": QuantType.QUInt8, "int16": QuantType.QInt16, "uint16": QuantType.QUInt16,
    "int4": QuantType.QInt4, "uint4": QuantType.QUInt4,
}  # fmt: skip


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, batches: Sequence[Mapping[str, Array]]) -> None:
        self._batches: Iterator[Mapping[str, Array]] = iter(batches)

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._batches, None)


def reader(batches: Sequence[Mapping[str, Array]]) -> CalibrationDataReader:
    """Return a reader as the peer wants it."""
    return _Reader(batches)


def peer_model(
    prepared: onnx.ModelProto,
    scheme: Scheme,
    batches: Sequence[Mapping[str, Array]],
    op_types: Sequence[str] | None = None,
    quant_format: QuantFormat = QuantFormat.QDQ,
    extra_options: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Quantize a prepared model with onnxruntime.quantization and min-max ranges."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "peer.onnx"
        onnx.save(prepared, source)
        quantize_static(
            source,
            target,
            _Reader(batches),
            quant_format=quant_format,
            per_channel=scheme.per_channel,
            reduce_range=scheme.weight.reduce_range,
            activation_type=_TYPES[scheme.activation.dtype.name],
            weight_type=_TYPES[scheme.weight.dtype.name],
            op_types_to_quantize=list(op_types) if op_types else None,
            extra_options={"ActivationSymmetric": scheme.activation.symmetric, **(extra_options or {})},
        )
        return onnx.load(target)


def differences(ours: onnx.ModelProto, peer: onnx.ModelProto) -> dict[str, list[str]]:
    """Compare operators, names and bytes; the result is empty where the models agree."""
    a = {tensor.name: numpy_helper.to_array(tensor) for tensor in ours.graph.initializer}
    b = {tensor.name: numpy_helper.to_array(tensor) for tensor in peer.graph.initializer}
    ops_a, ops_b = (Counter(node.op_type for node in model.graph.node) for model in (ours, peer))
    nodes_a, nodes_b = ({node.name for node in model.graph.node} for model in (ours, peer))
    made_a, made_b = ({name for node in model.graph.node for name in node.output} for model in (ours, peer))
    found = {
        "operators": sorted(f"{op} {ops_a[op]} {ops_b[op]}" for op in ops_a | ops_b if ops_a[op] != ops_b[op]),
        "nodes": _unshared(nodes_a, nodes_b),
        "tensors": _unshared(made_a, made_b),
        "initializers": _unshared(set(a), set(b)),
        "bytes": sorted(name for name in a if name in b and a[name].tobytes() != b[name].tobytes()),
    }
    return {kind: what for kind, what in found.items() if what}


def _unshared(ours: set[str], peer: set[str]) -> list[str]:
    return sorted(f"+{name}" for name in ours - peer) + sorted(f"-{name}" for name in peer - ours)
