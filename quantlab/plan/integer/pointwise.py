"""QLinearAdd and its like: every float input and output is of one 8-bit type, each on a grid of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import onnx

from quantlab.graph import GraphView
from quantlab.plan.forms import Grids, integer_needs, integer_rules, lacks_grid
from quantlab.plan.recipe import Settings
from quantlab.plan.rules.pointwise import pointwise
from quantlab.plan.wishes import Refuse, Wish, activation, float_data

SOFTMAX_RANGE = (0.0, 255 / 256)
"""What 256 steps of 1/256 span: the grid that QLinearSoftmax has by convention. 1 saturates to 255/256."""


@integer_rules.register("AveragePool")
def average_pool(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Iterable[Wish] | Refuse:
    """QLinearAveragePool rounds its output onto a grid of its own, which is finer than that of the input."""
    return pointwise(node, view, settings)


@integer_rules.register("Softmax")
def softmax(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Iterable[Wish] | Refuse:
    """The output has scale 1/256 and lies at the lower end of its grid."""
    if (refusal := float_data(node, view)) is not None:
        return refusal
    spec = replace(settings.activation, symmetric=False, narrow_range=False)
    return [activation(node.input[0], settings), Wish(tensor=node.output[0], spec=spec, fixed=SOFTMAX_RANGE)]


@integer_rules.register("GlobalAveragePool")
def global_average_pool(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Iterable[Wish] | Refuse:
    """The output gets a grid of its own; the input must come from integers."""
    return float_data(node, view) or [activation(node.output[0], settings)]


@integer_needs.register("Add", "Mul", "LeakyRelu", "Sigmoid", "GlobalAveragePool", "Concat", "Softmax")
def one_type(node: onnx.NodeProto, grids: Grids) -> str | None:
    """All that goes in and comes out is of one type."""
    return lacks_one_type(node, grids, node.input, node.output)


@integer_needs.register("Where")
def where_one_type(node: onnx.NodeProto, grids: Grids) -> str | None:
    """As `one_type`, save for the condition."""
    return lacks_one_type(node, grids, node.input[1:], node.output)


@integer_needs.register("AveragePool")
def pool_without_dilations(node: onnx.NodeProto, grids: Grids) -> str | None:
    """As `one_type`; QLinearAveragePool knows no dilations."""
    if any(step != 1 for step in grids.view.attribute(node, "dilations", ())):
        return "QLinearAveragePool knows no dilations"
    return one_type(node, grids)


def lacks_one_type(node: onnx.NodeProto, grids: Grids, inputs: Iterable[str], outputs: Iterable[str]) -> str | None:
    """Say which tensor has no grid, or that their types differ.

    Args:
        node: The node that reads and makes them.
        grids: The grids.
        inputs: Tensors that it reads.
        outputs: Tensors that it makes.

    Returns:
        The reason, or None where all are of one 8-bit type.
    """
    entries = [(name, grids.read(node, name)) for name in inputs] + [grids.made(name) for name in outputs]
    for name, tensor in entries:
        if (why := lacks_grid(name, tensor)) is not None:
            return why
    kinds = {str(tensor.spec.dtype): name for name, tensor in entries if tensor is not None}
    return None if len(kinds) == 1 else " and ".join(f"{name!r} is {kind}" for kind, name in kinds.items())
