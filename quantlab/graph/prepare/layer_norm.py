"""The nodes of a layer normalization become one LayerNormalization.

    y = gamma * (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) + beta          (Ba, Kiros and Hinton 2016)

    d = Sub(x, ReduceMean(x))
    v = ReduceMean(Pow(d, 2)) or ReduceMean(Mul(d, d))
    n = Div(d, Sqrt(Add(v, epsilon))) or Mul(d, Reciprocal(Sqrt(Add(v, epsilon))))
    y = Add(Mul(n, gamma), beta), where the Add may be missing

Means are over the last axes, for which gamma and beta have a value each. Some exporters write x - mean(x) twice, or a
Cast that does nothing in between: other passes have merged and removed these. In pieces, the squares would be rounded
onto a grid, which ruins them. LayerNormalization came with opset 17 and computes in float32, so that float64 is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.prepare.patterns import is_near, next_node, number, other_input
from quantlab.graph.view import GraphView, default_opset

LAYER_NORM_OPSET = 17
"""The first operator set that has LayerNormalization."""


@dataclass(frozen=True, kw_only=True)
class _Core:
    """What computes n from x.

    Attributes:
        x: The input.
        out: n.
        axes: Over which the means are taken, as written.
        epsilon: The constant under the root.
        nodes: All its nodes.
    """

    x: str
    out: str
    axes: tuple[int, ...]
    epsilon: float
    nodes: tuple[onnx.NodeProto, ...]


def _edit(piece: Workpiece) -> list[str]:
    if "ReduceMean" not in piece.operators or "Sqrt" not in piece.operators:
        return []
    view = piece.view
    removed: set[int] = set()
    notes = []
    for node in view.nodes:
        core = _core(node, view) if is_standard(node, "ReduceMean") else None
        if core is None:
            continue
        reason = _fuse(core, view, default_opset(piece.model), removed)
        around = f"{label(node)} and the layer normalization that begins with it"
        notes.append(f"left {around} alone: {reason}" if reason else f"fused {around} into one node")
    remove_nodes(piece.model.graph, removed)
    return notes


def _core(mean: onnx.NodeProto, view: GraphView) -> _Core | None:
    """Match from the first mean to the quotient."""
    x, sub = mean.input[0], next_node(mean.output[0], "Sub", view)
    if sub is None or list(sub.input) != [x, mean.output[0]]:
        return None
    d, square = sub.output[0], _square(sub.output[0], view)
    variance = None if square is None else next_node(square.output[0], "ReduceMean", view)
    plus = None if variance is None else next_node(variance.output[0], "Add", view)
    root = None if plus is None else next_node(plus.output[0], "Sqrt", view)
    quotient = None if root is None else _quotient(d, root, view)
    if square is None or variance is None or plus is None or root is None or quotient is None:
        return None
    axes, again = _axes(mean, view), _axes(variance, view)
    constant = other_input(plus, variance.output[0])
    epsilon = None if constant is None else number(constant, view)
    if axes is None or axes != again or epsilon is None or d in view.outputs or len(view.uses[d]) != _reads(square):
        return None
    nodes = (mean, sub, square, variance, plus, root, *quotient)
    return _Core(x=x, out=quotient[-1].output[0], axes=axes, epsilon=epsilon, nodes=nodes)


def _square(d: str, view: GraphView) -> onnx.NodeProto | None:
    for use in view.uses[d]:
        if is_standard(use.node, "Mul") and list(use.node.input) == [d, d]:
            return use.node
        if is_standard(use.node, "Pow") and use.node.input[0] == d and is_near(use.node.input[1], 2.0, view):
            return use.node
    return None


def _reads(square: onnx.NodeProto) -> int:
    """Return how often the centred tensor is read: by the square, once or twice, and by the quotient."""
    return 3 if square.op_type == "Mul" else 2


def _quotient(d: str, root: onnx.NodeProto, view: GraphView) -> tuple[onnx.NodeProto, ...] | None:
    division = next_node(root.output[0], "Div", view)
    if division is not None:
        return (division,) if list(division.input) == [d, root.output[0]] else None
    inverse = next_node(root.output[0], "Reciprocal", view)
    product = None if inverse is None else next_node(inverse.output[0], "Mul", view)
    if inverse is None or product is None or other_input(product, inverse.output[0]) != d:
        return None
    return inverse, product


def _axes(mean: onnx.NodeProto, view: GraphView) -> tuple[int, ...] | None:
    """Return the axes of a mean that keeps them."""
    if not view.attribute(mean, "keepdims", 1):
        return None
    if len(mean.input) > 1 and mean.input[1]:
        found = view.constant(mean.input[1])
        return None if found is None or not found.size else tuple(int(axis) for axis in found.reshape(-1))
    given = view.attribute(mean, "axes")
    return tuple(given) if given else None


def _fuse(core: _Core, view: GraphView, opset: int, removed: set[int]) -> str | None:
    """Write the node in the place of the last one, or say why not."""
    if opset < LAYER_NORM_OPSET:
        return f"opset {opset} has no LayerNormalization, which came with {LAYER_NORM_OPSET}"
    shape, kind = view.shape(core.x), view.float_type(core.x)
    if shape is None or kind not in (np.float32, np.float16):
        return f"its input {core.x!r} has " + ("no known shape" if shape is None else f"type {kind}, not float32 or 16")
    count = len(core.axes)
    if sorted(axis % len(shape) for axis in core.axes) != list(range(len(shape) - count, len(shape))):
        return f"its means are over the axes {list(core.axes)} of {len(shape)}, not over the last ones"
    if not core.epsilon > 0:
        return f"its epsilon is {core.epsilon!r}, not above 0"
    times = next_node(core.out, "Mul", view)
    gamma = None if times is None else other_input(times, core.out)
    if times is None or gamma is None or not _fits(gamma, shape, count, view):
        return f"{core.out!r} is not multiplied by a constant of shape {list(shape[-count:])}"
    plus = next_node(times.output[0], "Add", view)
    beta = None if plus is None else other_input(plus, times.output[0])
    has_beta = plus is not None and beta is not None and _fits(beta, shape, count, view)
    last = plus if plus is not None and has_beta else times
    removed.update(id(node) for node in (*core.nodes, times) if node is not last)
    _write(last, [core.x, gamma, *([beta] if beta is not None and has_beta else [])], -count, core.epsilon)
    return None


def _fits(name: str, shape: tuple[int | str | None, ...], count: int, view: GraphView) -> bool:
    constant = view.constants.get(name)
    return constant is not None and tuple(constant.dims) == shape[-count:]


def _write(node: onnx.NodeProto, inputs: list[str], axis: int, epsilon: float) -> None:
    del node.input[:]
    del node.attribute[:]
    node.op_type = "LayerNormalization"
    node.input.extend(inputs)
    node.attribute.extend([onnx.helper.make_attribute("axis", axis), onnx.helper.make_attribute("epsilon", epsilon)])


FUSE_LAYER_NORM = Pass(name="fuse-layer-norm", edit=_edit, requires=missing_constants)
