"""Nodes that hand on their input unchanged are removed: their readers read that input instead.

Identity always does, Dropout outside training; Cast to the type that its input has, Transpose that keeps the order,
Reshape, Flatten and Expand to the shape that is there, Pad by nothing, Slice of everything and Concat of one tensor do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.aliases import Aliases
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.view import GraphView

WHOLE = 2**31 - 1
"""The end of a Slice from which on exporters mean "to the end"."""


def _edit(piece: Workpiece) -> list[str]:
    if piece.operators.isdisjoint(("Identity", "Dropout", *_UNCHANGED)):
        return []
    view = piece.view
    aliases = Aliases(piece.model.graph, view)
    removed: set[int] = set()
    notes = []
    for node in view.nodes:
        if is_standard(node, "Identity", "Dropout"):
            reason = _does_something(node, view)
        elif is_standard(node, *_UNCHANGED) and _UNCHANGED[node.op_type](node, view):
            reason = None
        else:
            continue
        reason = reason or aliases.join(node.input[0], node.output[0])
        if reason is not None:
            notes.append(f"left {label(node)} alone: {reason}")
            continue
        removed.add(id(node))
        notes.append(f"removed {label(node)}")
    remove_nodes(piece.model.graph, removed)
    aliases.carry_out(piece.model.graph)
    return notes


def _does_something(node: onnx.NodeProto, view: GraphView) -> str | None:
    """Say why an Identity or Dropout is more than a copy of its first input."""
    if node.op_type == "Identity":
        return None
    if any(name in view.uses or name in view.outputs for name in node.output[1:] if name):
        return f"its mask {node.output[1]!r} is read"
    if view.opset < 7 and not view.attribute(node, "is_test", 0):
        return "it is in training mode (is_test is 0)"
    if len(node.input) > 2 and node.input[2]:
        training = view.constant(node.input[2])
        if training is None:
            return f"whether it trains is computed ({node.input[2]!r})"
        if training.any():
            return "it is in training mode"
    return None


def _cast(node: onnx.NodeProto, view: GraphView) -> bool:
    return bool(view.element_type(node.input[0]) == view.attribute(node, "to"))


def _transpose(node: onnx.NodeProto, view: GraphView) -> bool:
    order = view.attribute(node, "perm")
    shape = view.shape(node.input[0])
    if order is None:  # the axes are reversed
        return shape is not None and len(shape) < 2
    return list(order) == sorted(order)


def _reshape(node: onnx.NodeProto, view: GraphView) -> bool:
    """Every size is kept (0, or the size that is there) but at most one, which the others leave no choice (-1)."""
    wanted, shape = _numbers(node, 1, view), view.shape(node.input[0])
    if wanted is None or shape is None or len(wanted) != len(shape):
        return False
    zero_keeps = not view.attribute(node, "allowzero", 0)
    open_sizes = [size for size, there in zip(wanted, shape, strict=True) if not _keeps(size, there, zero_keeps)]
    return open_sizes in ([], [-1])


def _keeps(size: int, there: int | str | None, zero_keeps: bool) -> bool:
    return (size == 0 and zero_keeps) or (size > 0 and size == there)


def _flatten(node: onnx.NodeProto, view: GraphView) -> bool:
    shape = view.shape(node.input[0])
    return shape is not None and len(shape) == 2 and view.attribute(node, "axis", 1) in (1, -1)


def _expand(node: onnx.NodeProto, view: GraphView) -> bool:
    wanted, shape = _numbers(node, 1, view), view.shape(node.input[0])
    if wanted is None or shape is None or len(wanted) > len(shape):
        return False
    return all(size in (1, there) for size, there in zip(wanted[::-1], shape[::-1], strict=False))


def _pad(node: onnx.NodeProto, view: GraphView) -> bool:
    pads = _numbers(node, 1, view) if len(node.input) > 1 else view.attribute(node, "pads")
    return pads is not None and not any(pads)


def _slice(node: onnx.NodeProto, view: GraphView) -> bool:
    if len(node.input) < 3:
        return False
    starts, ends = _numbers(node, 1, view), _numbers(node, 2, view)
    axes = _numbers(node, 3, view) if len(node.input) > 3 and node.input[3] else list(range(len(starts or [])))
    steps = _numbers(node, 4, view) if len(node.input) > 4 and node.input[4] else [1]
    if starts is None or ends is None or axes is None or steps is None or any(starts) or set(steps) != {1}:
        return False
    shape = view.shape(node.input[0])
    return all(end >= WHOLE or _reaches(end, axis, shape) for end, axis in zip(ends, axes, strict=True))


def _reaches(end: int, axis: int, shape: tuple[int | str | None, ...] | None) -> bool:
    size = None if shape is None else shape[axis]
    return isinstance(size, int) and end >= size


def _concat(node: onnx.NodeProto, _: GraphView) -> bool:
    return len(node.input) == 1


def _numbers(node: onnx.NodeProto, index: int, view: GraphView) -> list[int] | None:
    values = view.constant(node.input[index])
    return None if values is None else [int(value) for value in np.ravel(values)]


_UNCHANGED: dict[str, Callable[[onnx.NodeProto, GraphView], bool]] = {
    "Cast": _cast,
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Transpose": _transpose,
}

REMOVE_IDENTITY = Pass(name="remove-identity", edit=_edit, requires=missing_constants)
