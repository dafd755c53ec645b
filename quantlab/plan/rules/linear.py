"""Operators that multiply by weights: Conv, ConvTranspose, Gemm, MatMul.

Constant weights get a weight grid, a constant bias becomes int32 with the product of both scales, everything else that
goes in or comes out is an activation.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from quantlab.graph import GraphView
from quantlab.plan.recipe import Settings
from quantlab.plan.wishes import Refuse, Wish, activation, bias, float_data, op_rules, weight


@op_rules.register("Conv", "ConvTranspose")
def conv(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Weight channels lie on axis 0 for Conv (M, C/group, ...) and on axis 1 for ConvTranspose (C, M/group, ...)."""
    axis = 0 if node.op_type == "Conv" else 1
    return float_data(node, view) or list(_weighted(node, view, settings, axis))


@op_rules.register("Gemm")
def gemm(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Weight channels lie on axis 0 where transB is set, else on axis 1."""
    axis = 0 if view.attribute(node, "transB", 0) else 1
    return float_data(node, view) or list(_weighted(node, view, settings, axis))


@op_rules.register("MatMul")
def matmul(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """A constant on either side is a weight; channels are the columns of a single matrix on the right."""
    if (refusal := float_data(node, view)) is not None:
        return refusal
    wishes = [activation(node.output[0], settings)]
    for index, tensor in enumerate(node.input):
        constant = view.constants.get(tensor)
        if constant is None:
            wishes.append(activation(tensor, settings))
            continue
        # Of a stack of matrices onnxruntime's QLinearMatMul demands a scale for each column of each matrix.
        columns = index == 1 and len(constant.dims) == 2
        axis = _asked(settings.matmul_axis, len(constant.dims))
        channels = axis if axis is not None else 1 if columns else None
        wishes.append(weight(tensor, settings, channels, along=0 if columns else None))
    return wishes


def _asked(axis: int | None, rank: int) -> int | None:
    """Return an axis that was asked for, counted from the front, or None where a tensor has no such axis."""
    return None if axis is None or not -rank <= axis < rank else axis % rank


def _weighted(node: onnx.NodeProto, view: GraphView, settings: Settings, axis: int) -> Iterator[Wish]:
    x, w = node.input[0], node.input[1]
    yield activation(x, settings)
    yield activation(node.output[0], settings)
    along = 1 - axis if node.op_type == "Gemm" else None
    grid = weight(w, settings, axis, along) if w in view.constants else activation(w, settings)
    yield grid
    blocks = grid.spec is not None and grid.spec.block_size is not None  # no bias is on the product of many scales
    if len(node.input) < 3 or not node.input[2] or not settings.bias or blocks:
        return
    b = node.input[2]
    if b in view.constants and b in settings.overrides:
        # What somebody chose for a bias is not the product of two scales.
        yield weight(b, settings, None)
        return
    alpha = view.attribute(node, "alpha", 1.0)
    plain = view.attribute(node, "beta", 1.0) == 1.0 and alpha > 0  # a scale is positive
    if b in view.constants and plain and _fits(view, b, w, grid, axis, view.attribute(node, "group", 1)):
        per_channel = grid.spec is not None and grid.spec.per_channel
        last = len(view.constants[b].dims) - 1
        yield bias(b, x, w, last if per_channel else None, alpha)


def _fits(view: GraphView, b: str, w: str, grid: Wish, axis: int, group: int) -> bool:
    """Say whether each channel's scale finds its bias values along the bias' last axis."""
    if grid.spec is None or not grid.spec.per_channel:
        return True
    channels = view.constants[w].dims[axis] * (group if axis == 1 else 1)
    dims = view.constants[b].dims
    return bool(dims) and dims[-1] == channels
