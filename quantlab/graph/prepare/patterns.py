"""Small questions about the neighbours of a node, of which the patterns of the fusions are made."""

from __future__ import annotations

import numpy as np
import onnx

from quantlab.graph.prepare.edit import is_standard
from quantlab.graph.view import GraphView


def number(tensor: str, view: GraphView) -> float | None:
    """Return the value of a constant of one element, or None for anything else."""
    found = view.constants.get(tensor)
    if found is None or int(np.prod(found.dims, dtype=np.int64)) != 1:
        return None
    value = view.constant(tensor)
    return None if value is None or value.dtype.kind not in "fiu" else float(value.reshape(()))


def is_near(tensor: str, wanted: float, view: GraphView) -> bool:
    """Say whether a tensor is a constant that equals `wanted` up to two roundings in its own type."""
    value, kind = number(tensor, view), view.float_type(tensor)
    if value is None:
        return False
    return value == wanted if kind is None else abs(value - wanted) <= 2 * float(np.finfo(kind).eps) * abs(wanted)


def other_input(node: onnx.NodeProto, tensor: str) -> str | None:
    """Return the input of a node of two inputs that is not `tensor`; None where both are, or none is."""
    others = [name for name in node.input if name != tensor]
    return others[0] if len(others) == 1 and len(node.input) == 2 else None


def next_node(tensor: str, op_type: str, view: GraphView) -> onnx.NodeProto | None:
    """Return the node that alone reads a tensor, if it is of the given operator."""
    reader = view.only_reader(tensor)
    return reader if reader is not None and is_standard(reader, op_type) else None


def maker(tensor: str, op_type: str, view: GraphView) -> onnx.NodeProto | None:
    """Return the node that makes a tensor, if it is of the given operator."""
    made_by = view.producers.get(tensor)
    return made_by if made_by is not None and is_standard(made_by, op_type) else None
