"""Operators that move or select values do so with integers too, where the output has the grid of the input.

Slice, and Gather from anything but a table, could as well; onnxruntime.quantization leaves them in float, and so does
this format.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import onnx

from quantlab.graph import GraphView
from quantlab.plan.forms import Grids, integer_needs, integer_rules, lacks_grid
from quantlab.plan.recipe import Settings
from quantlab.plan.rules.movement import gather, movement
from quantlab.plan.wishes import Refuse, Wish


@integer_rules.register("Gather")
def gather_from_a_table(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Iterable[Wish] | Refuse:
    """A constant table becomes integers."""
    if node.input[0] not in view.constants:
        return Refuse("models of format QOperator gather integers from constant tables only")
    return gather(node, view, settings)


@integer_rules.register("Split")
def split(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Iterable[Wish] | Refuse:
    """Asks for a grid of its input, which all parts share."""
    return movement(node, view, replace(settings, force_movement=True))


@integer_rules.register("ArgMax")
def arg_max(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Iterable[Wish] | Refuse:
    """It asks for nothing: the largest integer is where the largest float is."""
    return ()


@integer_needs.register(
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Split", "MaxPool", "Resize", "Gather", "Pad"
)
def one_grid(node: onnx.NodeProto, grids: Grids) -> str | None:
    """Every float output shares the grid of the first input."""
    name = node.input[0]
    x = grids.read(node, name)
    if (why := lacks_grid(name, x)) is not None or x is None:
        return why
    for output in node.output:
        if not output or grids.view.float_type(output) is None:
            continue
        y_name, y = grids.made(output)
        if (why := lacks_grid(y_name, y)) is not None:
            return why
        if y is not None and y.like != (x.like or name):
            return f"{y_name!r} has another grid than {name!r}"
    return None


@integer_needs.register("ArgMax")
def grid_of_the_input(node: onnx.NodeProto, grids: Grids) -> str | None:
    """Its input comes from integers."""
    return lacks_grid(node.input[0], grids.read(node, node.input[0]))


@integer_needs.register("Relu", "Clip")
def absorbed_or_float(node: onnx.NodeProto, grids: Grids) -> str | None:
    """One that is not absorbed has no integer form."""
    return f"{grids.plan.nodes[node.name].reason}"
