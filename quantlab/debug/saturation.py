"""Saturation: where a model of uint8 activations and int8 weights would overflow on an x86 processor without VNNI.

Each Conv, Gemm and MatMul is computed twice from the same integers: exactly, and with sums of neighbouring products cut
to 16 bits (`quantlab.arrays.saturation`). Sums are streamed, so memory does not grow with the data. What is seen is the
error that each node adds to exact inputs; on the processor itself later nodes would meet the errors of earlier ones.

Weights of 7 bits (`reduce_range`) cannot saturate, and uint8 weights go another way that is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.arrays.saturation import matmul_by_pairs
from quantlab.backend import Array, Backend, Batch, OrtBackend
from quantlab.debug.tables import Table
from quantlab.debug.windows import AT_A_TIME, ORDERS, Convolution, Order, matrix, windows
from quantlab.errors import DataError, ModelError, OptionError
from quantlab.graph import GraphView
from quantlab.graph.quantized import rounded_tensors
from quantlab.progress import Track, known_total, quiet

_FLOAT = {"Conv": "Conv", "Gemm": "Gemm", "MatMul": "MatMul"}
_INTEGER = {"QLinearConv": "Conv", "QGemm": "Gemm", "QLinearMatMul": "MatMul"}

HEADINGS = ("node", "operator", "channels", "saturating", "pairs", "outputs", "largest", "mean", "of the sums")


@dataclass(frozen=True, kw_only=True)
class NodeSaturation:
    """What saturation would do to one node, channel by channel.

    Attributes:
        name: Name of the node.
        op_type: Its operator, as if it were float.
        pairs: Share of the pairs of products that saturate, in 0..1, shape (channels,).
        outputs: Share of the output's elements that change, in 0..1, shape (channels,).
        largest: Largest absolute error of the sum, in steps of the accumulator, shape (channels,).
        mean: Mean absolute error of the sum over all elements, in the same steps, shape (channels,).
        relative: That by the mean absolute sum: 0.01 stands for an error of 1 % of the output, shape (channels,).
    """

    name: str
    op_type: str
    pairs: npt.NDArray[np.float64]
    outputs: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    relative: npt.NDArray[np.float64]

    @property
    def saturating(self) -> int:
        """Channels in which some pair saturates."""
        return int(np.count_nonzero(self.pairs))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, one number a channel."""
        lists = {key: value.tolist() for key, value in vars(self).items() if isinstance(value, np.ndarray)}
        return {"name": self.name, "op_type": self.op_type, **lists}


@dataclass(frozen=True, kw_only=True)
class SaturationReport:
    """The result of `saturation`.

    Attributes:
        nodes: Nodes of uint8 activations and int8 weights, in the order of the graph.
        safe: Name of a node to why its sums are exact whatever comes.
        samples: How many batches were run.
    """

    nodes: tuple[NodeSaturation, ...]
    safe: dict[str, str]
    samples: int

    @property
    def saturates(self) -> bool:
        """Whether any pair of any node saturates."""
        return any(node.saturating for node in self.nodes)

    def table(self) -> Table:
        """Return one row a node: shares over all channels, and the errors of the worst channel."""
        return Table(
            HEADINGS,
            tuple(
                (
                    node.name,
                    node.op_type,
                    len(node.pairs),
                    node.saturating,
                    float(node.pairs.mean()),
                    float(node.outputs.mean()),
                    int(node.largest.max()),
                    float(node.mean.max()),
                    float(node.relative.max()),
                )
                for node in self.nodes
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "saturates": self.saturates,
            "samples": self.samples,
            "nodes": [node.to_json() for node in self.nodes],
            "safe": self.safe,
        }


def saturation(
    model: onnx.ModelProto,
    batches: Iterable[Batch],
    *,
    order: Order = "kernel",
    backend: Backend | None = None,
    track: Track = quiet,
) -> SaturationReport:
    """Find where sums of a quantized model would saturate on a processor without VNNI.

    Args:
        model: A quantized model, QDQ or QOperator.
        batches: Input name to array, one mapping a sample.
        order: What the products of a convolution are summed over first: `"kernel"`, the positions of the kernel with
            the channels inside, as onnxruntime does it; or `"channel"`, the channels with the positions inside.
        backend: Runs the model; onnxruntime by default.
        track: Shows progress.

    Returns:
        Shares and errors of every node with uint8 activations and int8 weights, by channel.

    Raises:
        ModelError: No Conv, Gemm or MatMul of the model is quantized.
        DataError: There is no data.
        OptionError: An unknown order.
    """
    if order not in ORDERS:
        raise OptionError(f"order={order!r} is not known (allowed: {', '.join(ORDERS)})")
    view = GraphView.of(model)
    safe: dict[str, str] = {}
    layers = list(_layers(view, order, safe))
    if not layers and not safe:
        raise ModelError(
            "no Conv, Gemm or MatMul of the model works on integers with constant weights: quantize it first"
        )
    run = (backend or OrtBackend(threads=1)).open(model, list(dict.fromkeys(layer.source for layer in layers)))
    samples = 0
    for batch in track(batches, f"saturating {len(layers)} nodes", known_total(batches)):
        samples += 1
        if layers:
            values = run(batch)
            for layer in layers:
                layer.update(values[layer.source])
    if not samples:
        raise DataError("no data: give at least one sample to run")
    return SaturationReport(nodes=tuple(layer.found() for layer in layers), safe=safe, samples=samples)


class _Layer:
    """One node on its way through the data."""

    def __init__(self, node: _Node, weights: list[npt.NDArray[Any]], order: Order, conv: Convolution | None) -> None:
        self.source = node.source
        self._node, self._weights, self._order, self._conv = node, weights, order, conv
        channels = sum(group.shape[1] for group in weights)
        self._pairs, self._changed, self._error, self._sums, self._largest = np.zeros((5, channels))
        self._positions = 0

    def update(self, x: Array) -> None:
        """Take in the integers of one batch."""
        for group, rows in self._rows(x):
            first = sum(each.shape[1] for each in self._weights[:group])
            self._add(rows, self._weights[group], slice(first, first + self._weights[group].shape[1]))
            self._positions += len(rows) if group == 0 else 0

    def _rows(self, x: Array) -> Iterator[tuple[int, Array]]:
        """Yield the number of a group with some rows of what its weights are multiplied with."""
        if self._conv is None:
            flat = (x.T if self._node.transposed else x).reshape(-1, self._weights[0].shape[0])
            yield from ((0, rows) for rows in _parts(flat, self._weights[0]))
            return
        for sample in x:
            for group, part in enumerate(np.split(sample, self._conv.group)):
                for rows in windows(part, self._conv, self._node.zero, self._order):
                    yield from ((group, some) for some in _parts(rows, self._weights[group]))

    def _add(self, rows: Array, weights: npt.NDArray[Any], part: slice) -> None:
        found = matmul_by_pairs(np.ascontiguousarray(rows), weights)
        error = np.abs(found.saturated - found.exact)
        sums = found.exact - self._node.zero * weights.astype(np.int64).sum(axis=0)
        self._pairs[part] += found.pairs
        self._changed[part] += np.count_nonzero(error, axis=0)
        self._error[part] += error.sum(axis=0)
        self._sums[part] += np.abs(sums).sum(axis=0)
        self._largest[part] = np.maximum(self._largest[part], error.max(axis=0, initial=0))

    def found(self) -> NodeSaturation:
        """Return what was found."""
        depth = -(-self._weights[0].shape[0] // 2)
        positions = max(1, self._positions)
        return NodeSaturation(
            name=self._node.name,
            op_type=self._node.op_type,
            pairs=self._pairs / (positions * depth),
            outputs=self._changed / positions,
            largest=self._largest.copy(),
            mean=self._error / positions,
            relative=self._error / np.maximum(self._sums, 1),
        )


def _parts(rows: Array, weights: npt.NDArray[Any]) -> Iterator[Array]:
    """Cut rows so that neither they nor their products with the weights are many."""
    step = max(1, AT_A_TIME // max(weights.shape))
    yield from (rows[start : start + step] for start in range(0, len(rows), step))


@dataclass(frozen=True, kw_only=True)
class _Node:
    """A node that multiplies integers: the integers, their zero point, and the constant they are multiplied with."""

    name: str
    op_type: str
    source: str
    zero: int
    weights: npt.NDArray[Any]
    kind: str
    transposed: bool


def _layers(view: GraphView, order: Order, safe: dict[str, str]) -> Iterator[_Layer]:
    for proto, node in _integer_nodes(view):
        conv = Convolution.of(proto, view, node.weights.shape[2:]) if node.op_type == "Conv" else None
        reason = _safe(node, conv)
        if reason:
            safe[node.name] = reason
        elif conv is None:
            turned = node.op_type == "Gemm" and view.attribute(proto, "transB", 0)
            yield _Layer(node, [np.ascontiguousarray(node.weights.T if turned else node.weights)], order, None)
        else:
            yield _Layer(node, [matrix(part, order) for part in np.split(node.weights, conv.group)], order, conv)


def _safe(node: _Node, conv: Convolution | None) -> str:
    """Say why a node cannot saturate, or is not looked at; empty where it can."""
    if (node.kind, node.weights.dtype.name) != ("uint8", "int8"):
        return f"{node.kind} by {node.weights.dtype.name}: not summed in pairs of 16 bits"
    if conv is not None and conv.group > 1 and node.weights.shape[1] == 1:
        return "depthwise: onnxruntime adds these products one by one, in 32 bits"
    if conv is None and node.weights.ndim != 2:
        return f"not looked at: its weights have {node.weights.ndim} axes"
    return ""


def _integer_nodes(view: GraphView) -> Iterator[tuple[onnx.NodeProto, _Node]]:
    """Yield Conv, Gemm and MatMul on integers with constant weights, in QDQ and in QOperator form."""
    by_float = {each.after: each for each in rounded_tensors(view) if each.after}
    for index, proto in enumerate(view.nodes):
        if proto.op_type in _FLOAT:
            pair = [by_float.get(name) for name in proto.input[:2]]
            if pair[0] is None or pair[1] is None:
                continue
            zero: npt.NDArray[Any] | None = pair[0].grid.zero_point
            names = (pair[0].integers, pair[1].integers)
        elif proto.op_type in _INTEGER:
            names, zero = (proto.input[0], proto.input[3]), view.constant(proto.input[2])
        else:
            continue
        weights = view.constant(names[1])
        if weights is None or zero is None or names[0] in view.constants:
            continue
        yield (
            proto,
            _Node(
                name=proto.name or f"{proto.op_type} {index}",
                op_type=(_FLOAT | _INTEGER)[proto.op_type],
                source=names[0],
                zero=int(np.ravel(zero)[0]),
                weights=weights,
                kind=np.asarray(zero).dtype.name,
                transposed=bool(proto.op_type in ("Gemm", "QGemm") and view.attribute(proto, "transA", 0)),
            ),
        )
