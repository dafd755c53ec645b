"""Operators that choose: Where between two tensors, ArgMax a place, ReduceMax and ReduceMin a value."""

from __future__ import annotations

from dataclasses import replace

import onnx

from quantlab.graph import GraphView
from quantlab.plan.recipe import Settings
from quantlab.plan.rules.movement import movement
from quantlab.plan.wishes import Refuse, Wish, activation, op_rules, unlisted


@op_rules.register("Where")
def where(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Round the output where others have given both inputs a grid; ask for all three under `force_movement`.

    One input is often a constant such as -1e9 that masks the other, and a grid wide enough for it holds nothing else.
    """
    first, second, output = node.input[1], node.input[2], node.output[0]
    if other := [name for name in (first, second, output) if view.float_type(name) is None]:
        return Refuse(f"it chooses between tensors of a type other than float, such as {other[0]!r}")
    inputs = tuple(dict.fromkeys((first, second)))
    if settings.force_movement:
        return [activation(name, settings) for name in (*inputs, output)]
    return [replace(activation(output, settings), given=inputs)]


@op_rules.register("ArgMax")
def arg_max(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Round its input on request: where that has a grid anyway, onnxruntime takes the largest of the integers."""
    if view.float_type(node.input[0]) is None:
        return Refuse(f"{node.input[0]!r} is no float")
    if not settings.listed:
        return Refuse("it asks for no grid, and takes integers where its input has one; list it in op_types to ask")
    return [activation(node.input[0], settings)]


@op_rules.register("ReduceMax", "ReduceMin")
def extreme(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """On request, share the grid of the input: what comes out is one of its values."""
    return unlisted(node, settings) or movement(node, view, settings)
