"""Operators that move or select values without making new ones: the output shares the input's grid, if it has one."""

from __future__ import annotations

import onnx

from quantlab.graph import GraphView
from quantlab.plan.recipe import Settings
from quantlab.plan.wishes import Refuse, Wish, activation, float_data, op_rules, share


@op_rules.register(
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Split",
    "MaxPool",
    "AveragePool",
    "TopK",
)
def movement(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Share the grid of the first input with every float output.

    AveragePool does make new values, but none outside the input's range.
    """
    refusal = float_data(node, view)
    if node.op_type == "MaxPool" and settings.activation.dtype.is_float:
        return Refuse(f"MaxPool takes no {settings.activation.dtype}")
    outputs = [name for name in node.output if name and view.float_type(name) is not None]
    asked = [activation(node.input[0], settings)] if settings.force_movement else []
    return refusal or [*asked, *(share(name, node.input[0]) for name in outputs)]


@op_rules.register("Resize")
def resize(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """As `movement`, but where values outside the input's range arise: cubic overshoots, cropping may extrapolate."""
    leaves_range = (
        view.attribute(node, "mode", b"nearest") == b"cubic"
        or view.attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
    )
    if not leaves_range:
        return movement(node, view, settings)
    return float_data(node, view) or [activation(node.input[0], settings), activation(node.output[0], settings)]


@op_rules.register("Gather", "GatherElements")
def gather(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """As `movement`; a constant table becomes integers."""
    if (refusal := float_data(node, view)) is not None:
        return refusal
    asked = settings.force_movement or node.input[0] in view.constants
    return [*([activation(node.input[0], settings)] if asked else []), share(node.output[0], node.input[0])]


@op_rules.register("Pad")
def pad(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    """Share the grid where the padding lies on it: copies of the data, or zero, which every grid contains."""
    if (refusal := float_data(node, view)) is not None:
        return refusal
    if _pads_on_the_grid(node, view):
        return movement(node, view, settings)
    return [activation(node.input[0], settings), activation(node.output[0], settings)]


def _pads_on_the_grid(node: onnx.NodeProto, view: GraphView) -> bool:
    mode = view.attribute(node, "mode", b"constant").decode()
    if mode != "constant" or len(node.input) < 3 or not node.input[2]:
        return True
    value = view.constant(node.input[2])
    return value is not None and not value.any()
