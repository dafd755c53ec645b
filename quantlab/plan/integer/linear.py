"""QLinearConv, QGemm and QLinearMatMul: activations and weights of 8 bits, a bias of 32 on the product of their scales.

QGemm has no beta. It adds integers on the scale `alpha scale_x scale_w`, so that beta moves into the grid of the bias:

    beta b = q (alpha scale_x scale_w)    where    b = q (alpha / beta) scale_x scale_w
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import onnx

from quantlab.arrays import INT8
from quantlab.graph import GraphView
from quantlab.plan.forms import Grids, integer_needs, integer_rules, lacks_grid
from quantlab.plan.recipe import Settings
from quantlab.plan.rules.linear import conv, gemm, matmul
from quantlab.plan.wishes import Refuse, Wish, activation


@integer_rules.register("Conv")
def conv_with_signed_channels(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Sequence[Wish] | Refuse:
    """A scale a channel comes with int8 weights whatever their type: QLinearConv takes one zero point for all."""
    if settings.per_channel:
        settings = replace(settings, weight=replace(settings.weight, dtype=INT8, narrow_range=False))
    return conv(node, view, settings)


@integer_rules.register("Gemm")
def gemm_without_beta(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Sequence[Wish] | Refuse:
    """Wish what a Gemm of the same product with beta 1 wishes; without a bias where beta is 0."""
    beta = float(view.attribute(node, "beta", 1.0))
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    kept = [attribute for attribute in node.attribute if attribute.name not in ("alpha", "beta")]
    del plain.attribute[:]
    plain.attribute.extend(kept)
    if beta == 0:
        del plain.input[2:]
    else:
        alpha = float(view.attribute(node, "alpha", 1.0)) / beta
        plain.attribute.append(onnx.helper.make_attribute("alpha", alpha))
    return _with_zero_points(gemm(plain, view, settings), settings)


@integer_rules.register("MatMul")
def matmul_of_activations(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Sequence[Wish] | Refuse:
    """A constant on the left gets the grid of an activation, for no kernel multiplies int8 by uint8."""
    answer = _with_zero_points(matmul(node, view, replace(settings, matmul_axis=None)), settings)
    if isinstance(answer, Refuse):
        return answer
    left = node.input[0]
    return [activation(left, settings) if wish.tensor == left else wish for wish in answer]


def _with_zero_points(answer: Iterable[Wish] | Refuse, settings: Settings) -> list[Wish] | Refuse:
    """Let channels of asymmetric weights have zero points of their own, which QGemm and QLinearMatMul take."""
    if isinstance(answer, Refuse):
        return answer
    return [
        replace(wish, spec=replace(settings.weight, axis=wish.spec.axis))
        if wish.role == "weight"
        and wish.spec is not None
        and wish.spec.per_channel
        and wish.tensor not in settings.overrides
        else wish
        for wish in answer
    ]


@integer_needs.register("Conv")
def conv_on_integers(node: onnx.NodeProto, grids: Grids) -> str | None:
    """Channels of the weight lie on axis 0."""
    return _lacks_factors(node, grids, axis=0) or _lacks_bias(node, grids)


@integer_needs.register("Gemm")
def gemm_on_integers(node: onnx.NodeProto, grids: Grids) -> str | None:
    """Channels of the weight lie on axis 0 where transB is set, else on axis 1."""
    axis = 0 if grids.view.attribute(node, "transB", 0) else 1
    idle = grids.view.attribute(node, "beta", 1.0) == 0
    return _lacks_factors(node, grids, axis=axis) or (None if idle else _lacks_bias(node, grids))


@integer_needs.register("MatMul")
def matmul_on_integers(node: onnx.NodeProto, grids: Grids) -> str | None:
    """Channels of the weight are the columns of a matrix."""
    return _lacks_factors(node, grids, axis=1)


def _lacks_factors(node: onnx.NodeProto, grids: Grids, axis: int) -> str | None:
    (name, w_name), (y_name, y) = node.input[:2], grids.made(node.output[0])
    x, w = grids.read(node, name), grids.read(node, w_name)
    why = lacks_grid(name, x) or lacks_grid(w_name, w, per_tensor=False) or lacks_grid(y_name, y)
    if why is not None or x is None or w is None or y is None:
        return why
    if w.spec.per_channel and w.spec.axis != axis:
        return f"channels of {w_name!r} lie on axis {w.spec.axis}, not {axis}"
    if x.spec.dtype != y.spec.dtype:
        return f"{name!r} is {x.spec.dtype} and {y_name!r} {y.spec.dtype}"
    if x.spec.dtype.signed and not w.spec.dtype.signed:
        return f"{name!r} is {x.spec.dtype} and {w_name!r} {w.spec.dtype}"
    return None


def _lacks_bias(node: onnx.NodeProto, grids: Grids) -> str | None:
    if len(node.input) < 3 or not node.input[2]:
        return None
    b = grids.read(node, node.input[2])
    if b is None or b.product != (node.input[0], node.input[1]):
        return f"bias {node.input[2]!r} stays float"
    return None
