"""Read a quantized model back: which tensors are rounded, and onto which grid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.arrays import BY_ONNX_CODE, INT32, QParams, QuantSpec
from quantlab.graph.view import GraphView


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """One tensor of integers whose grid is known.

    Attributes:
        integers: The integer tensor.
        before: The float tensor in front of the QuantizeLinear; None where there is none.
        after: The float tensor that the DequantizeLinear makes; None where operators on integers alone read it.
        grid: Scale, zero point, type.
        constant: Whether it is stored as integers.
    """

    integers: str
    before: str | None
    after: str | None
    grid: QParams
    constant: bool


_TWO = ((0, 1, 2), (3, 4, 5))
_INPUTS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "DequantizeLinear": ((0, 1, 2),),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul"), _TWO),
    **{f"QLinear{op}": ((0, 1, 2),) for op in ("LeakyRelu", "Sigmoid", "Softmax", "AveragePool", "GlobalAveragePool")},
    "QLinearWhere": ((1, 2, 3), (4, 5, 6)),
    "QEmbedLayerNormalization": tuple((index, index + 6, index + 11) for index in range(2, 7)),
}
"""Operator type to the places of integers, scale and zero point among its inputs."""

_OUTPUT = {"QuantizeLinear": (1, 2), "QGemm": (7, 8), "QLinearConcat": (0, 1), "QLinearWhere": (7, 8)}
_OUTPUT |= dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), (6, 7))
_OUTPUT |= {f"QLinear{op}": (3, 4) for op in ("LeakyRelu", "Sigmoid", "Softmax", "AveragePool", "GlobalAveragePool")}
"""Operator type to the places of the output's scale and zero point."""


def rounded_tensors(view: GraphView) -> Iterator[Rounded]:
    """Find every tensor that a graph rounds.

    Args:
        view: A graph of format QDQ or QOperator whose scales are constants.

    Yields:
        One entry a DequantizeLinear, and one a tensor that only operators on integers read, biases among them, in
        topological order; those whose grid is computed at run time are left out.
    """
    dequantized = {node.input[0] for node in view.nodes if node.op_type == "DequantizeLinear"}
    seen: set[str] = set()
    for node in view.nodes:
        floats = node.output[0] if node.op_type == "DequantizeLinear" else None
        for integers, *numbers in _stated(node):
            if floats is None and (integers in dequantized or integers in seen):
                continue
            grid = _grid(numbers, integers, node, view)
            source = view.producers.get(integers)
            if grid is None or (source is None and integers not in view.constants):
                continue
            seen.add(integers)
            yield Rounded(
                integers=integers,
                before=source.input[0] if source is not None and source.op_type == "QuantizeLinear" else None,
                after=floats,
                grid=grid,
                constant=source is None,
            )
        if (bias := _bias(node, view)) is not None and bias.integers not in seen:
            seen.add(bias.integers)
            yield bias


_BIAS = {"QLinearConv": 8, "QGemm": 6}
"""Operator to the place of its bias, whose scale is the product of those of its factors."""


def _bias(node: onnx.NodeProto, view: GraphView) -> Rounded | None:
    """Return the bias of an operator on integers, which states no grid for it: scale_x * scale_w * alpha."""
    place = _BIAS.get(node.op_type, len(node.input))
    if place >= len(node.input) or node.input[place] not in view.constants:
        return None
    scales = [view.constant(node.input[index]) for index in (1, 4)]
    if scales[0] is None or scales[1] is None:
        return None
    alpha = np.float32(view.attribute(node, "alpha", 1.0))
    scale = np.asarray(scales[0].reshape(()) * scales[1] * alpha)
    scale = scale.reshape(()) if scale.size == 1 else scale
    last = len(view.constants[node.input[place]].dims) - 1
    spec = QuantSpec(dtype=INT32, symmetric=True, axis=last if scale.ndim else None)
    grid = QParams(scale=scale, zero_point=np.zeros(scale.shape, np.int32), spec=spec)
    return Rounded(integers=node.input[place], before=None, after=None, grid=grid, constant=True)


def original_name(integers: str) -> str:
    """Return the name that a tensor had in the float model.

    Args:
        integers: Name of its integers.

    Returns:
        The name without what quantizing appends.

    Example:
        >>> original_name("w_quantized"), original_name("w_quantized_1")
        ('w', 'w')
    """
    return re.sub(r"_?quantized(_\d+)?$", "", integers)


def _stated(node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    """Yield the tensors whose grid a node states, with the names of scale and zero point, the latter maybe empty."""
    places = _INPUTS.get(node.op_type, ())
    if node.op_type == "QLinearConcat":
        places = tuple((index, index + 1, index + 2) for index in range(2, len(node.input), 3))
    names = [*node.input, ""]
    for integers, scale, zero in places:
        if names[integers]:
            yield names[integers], names[scale], names[min(zero, len(names) - 1)]
    if node.op_type in _OUTPUT:
        scale, zero = _OUTPUT[node.op_type]
        yield node.output[0], names[scale], names[zero]


def _axis(node: onnx.NodeProto, view: GraphView) -> int:
    """Return the axis of a scale with several values."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return int(view.attribute(node, "axis", 1))
    return 0 if node.op_type == "QLinearConv" or view.attribute(node, "transB", 0) else 1


def _grid(numbers: Sequence[str], integers: str, node: onnx.NodeProto, view: GraphView) -> QParams | None:
    scale, has_zero = view.constant(numbers[0]), bool(numbers[1])
    block_size = int(view.attribute(node, "block_size", 0)) or None
    code = view.element_type(numbers[1] if has_zero else integers)
    kind = BY_ONNX_CODE.get(code or 0)
    if scale is None or kind is None or (scale.ndim > 1 and block_size is None):
        return None
    # The zero point of float8 says the type and is 0.
    zero = view.constant(numbers[1]) if has_zero and not kind.is_float else np.zeros(scale.shape, kind.storage)
    if zero is None:
        return None
    if scale.shape == (1,):
        scale, zero, block_size = scale.reshape(()), zero.reshape(()), None
    axis = _axis(node, view) if scale.ndim else None
    spec = QuantSpec(
        dtype=kind, symmetric=kind.is_float, axis=axis, block_size=block_size if axis is not None else None
    )
    return QParams(scale=scale, zero_point=zero.reshape(scale.shape), spec=spec)
