"""Two Transposes, two Reshapes or two Casts in a row are one.

    Transpose: y_i = x_{p[q_i]}, the first order read through the second
    Reshape: the second shape alone counts, unless one of its zeros stands for a size of the tensor between
    Cast: the first one goes if it keeps every value, as float16 -> float32 and uint8 -> int32 do

No arithmetic is changed, so the bits stay the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.view import GraphView

_CASTS: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.BOOL: np.dtype(np.bool_),
    onnx.TensorProto.INT8: np.dtype(np.int8),
    onnx.TensorProto.INT16: np.dtype(np.int16),
    onnx.TensorProto.INT32: np.dtype(np.int32),
    onnx.TensorProto.INT64: np.dtype(np.int64),
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
    onnx.TensorProto.UINT16: np.dtype(np.uint16),
    onnx.TensorProto.UINT32: np.dtype(np.uint32),
    onnx.TensorProto.UINT64: np.dtype(np.uint64),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
}


def _edit(piece: Workpiece) -> list[str]:
    if piece.operators.isdisjoint(("Transpose", "Reshape", "Cast")):
        return []
    view = piece.view
    removed: set[int] = set()
    notes = []
    for node in view.nodes:
        first = view.producers.get(node.input[0]) if node.input else None
        if first is None or not _is_pair(first, node) or view.only_reader(node.input[0]) is not node:
            continue
        if not _JOINS[node.op_type](first, node, view):
            continue
        node.input[0] = first.input[0]
        removed.add(id(first))
        notes.append(f"joined {label(first)} and {label(node)} into one")
    remove_nodes(piece.model.graph, removed)
    return notes


def _is_pair(first: onnx.NodeProto, second: onnx.NodeProto) -> bool:
    return is_standard(second, *_JOINS) and is_standard(first, second.op_type)


def _transposes(first: onnx.NodeProto, second: onnx.NodeProto, view: GraphView) -> bool:
    p, q = view.attribute(first, "perm"), view.attribute(second, "perm")
    if p is None or q is None:
        return False
    del second.attribute[:]
    second.attribute.append(onnx.helper.make_attribute("perm", [p[axis] for axis in q]))
    return True


def _reshapes(_: onnx.NodeProto, second: onnx.NodeProto, view: GraphView) -> bool:
    shape = view.constant(second.input[1])
    return shape is not None and (bool(shape.all()) or bool(view.attribute(second, "allowzero", 0)))


def _casts(first: onnx.NodeProto, second: onnx.NodeProto, view: GraphView) -> bool:
    given = _CASTS.get(view.element_type(first.input[0]) or 0)
    between, wanted = (_CASTS.get(view.attribute(node, "to")) for node in (first, second))
    if given is None or between is None or wanted is None:
        return False
    whole = given.itemsize == 8 and given.kind in "iu" and between.kind == "f"  # 53 bits do not hold 64
    return np.can_cast(given, between, "safe") and not whole


_JOINS = {"Transpose": _transposes, "Reshape": _reshapes, "Cast": _casts}

JOIN_MOVES = Pass(name="join-moves", edit=_edit, requires=missing_constants)
