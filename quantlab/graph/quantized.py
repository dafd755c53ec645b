"""Read a quantized model back: which tensors are rounded, and onto which grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.arrays import BY_ONNX_CODE, QParams, QuantSpec
from quantlab.graph.view import GraphView


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """One tensor that reaches its readers through a DequantizeLinear.

    Attributes:
        integers: The integer tensor that the DequantizeLinear reads.
        before: The float tensor in front of the QuantizeLinear; None for a constant that is stored as integers.
        after: The float tensor that the DequantizeLinear makes.
        grid: Scale, zero point, type.
    """

    integers: str
    before: str | None
    after: str
    grid: QParams


def rounded_tensors(view: GraphView) -> Iterator[Rounded]:
    """Find every tensor that a graph rounds.

    Args:
        view: A graph with QuantizeLinear and DequantizeLinear nodes whose scales are constants.

    Yields:
        One entry a DequantizeLinear, in topological order; those whose grid is computed at run time are left out.
    """
    for node in view.nodes:
        if node.op_type != "DequantizeLinear":
            continue
        source = view.producers.get(node.input[0])
        constant = node.input[0] in view.constants
        grid = _grid(node, view)
        if grid is None or not (constant or (source is not None and source.op_type == "QuantizeLinear")):
            continue
        before = None if constant or source is None else source.input[0]
        yield Rounded(integers=node.input[0], before=before, after=node.output[0], grid=grid)


def _grid(node: onnx.NodeProto, view: GraphView) -> QParams | None:
    scale = view.constant(node.input[1])
    has_zero = len(node.input) > 2 and bool(node.input[2])
    code = view.element_type(node.input[2] if has_zero else node.input[0])
    kind = BY_ONNX_CODE.get(code or 0)
    if scale is None or kind is None or scale.ndim > 1:
        return None
    # The zero point of float8 says the type and is 0.
    zero = view.constant(node.input[2]) if has_zero and not kind.is_float else np.zeros(scale.shape, kind.storage)
    if zero is None:
        return None
    if scale.shape == (1,):
        scale, zero = scale.reshape(()), zero.reshape(())
    axis = int(view.attribute(node, "axis", 1)) if scale.ndim else None
    spec = QuantSpec(dtype=kind, symmetric=kind.is_float, axis=axis)
    return QParams(scale=scale, zero_point=zero.reshape(scale.shape), spec=spec)
