"""Masks of attention: numbers like -10000 that are added before a Softmax and only say "never".

    Softmax(s + m), m = 0 where a position may be seen and -10000, -3.4e38 or -infinity where it may not

No weight is lost by any m that is far below what s spans, and yet a range that holds -10000 leaves a grid of 256 steps
of 39 each: nothing of s is left. The pass changes nothing; it tells which nodes are about this.
"""

from __future__ import annotations

import numpy as np
import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import is_standard, label
from quantlab.graph.view import GraphView

NEVER = -1e3
"""A constant at or below this is taken for a mask: exp(-1000) is 0 even in float64."""

_REACH = 16
"""How many nodes in front of the Softmax are looked at; masks are made by about eight."""

_MAKERS = (
    "Add",
    "Cast",
    "Concat",
    "ConstantOfShape",
    "Expand",
    "Mul",
    "Reshape",
    "Slice",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
)


def masked(node: onnx.NodeProto, view: GraphView) -> tuple[str, float] | None:
    """Find out whether a node puts a mask onto what a Softmax reads.

    Args:
        node: A node of the graph.
        view: The graph.

    Returns:
        Name and least number of the constant that makes the mask, or None where there is none.
    """
    if not is_standard(node, "Add", "Where") or not any(
        is_standard(reader, "Softmax") for reader in view.readers(node.output[0])
    ):
        return None
    waiting, seen = [name for name in node.input if name], 0
    while waiting and seen < _REACH:
        name = waiting.pop(0)
        lowest = _lowest(name, view)
        if lowest is not None and lowest <= NEVER:
            return name, lowest
        made_by = view.producers.get(name)
        if made_by is not None and is_standard(made_by, *_MAKERS):
            seen += 1
            waiting += [name for name in made_by.input if name]
    return None


def _lowest(name: str, view: GraphView) -> float | None:
    constant = view.constants.get(name)
    if constant is None or view.float_type(name) is None:
        return None
    values = view.constant(name)
    return None if values is None or not values.size else float(np.min(values))


def _edit(piece: Workpiece) -> list[str]:
    if "Softmax" not in piece.operators:
        return []
    view = piece.view
    notes = []
    for node in view.nodes:
        found = masked(node, view)
        if found is not None:
            notes.append(
                f"{label(node)} masks what a Softmax reads (constant {found[0]!r} goes down to {found[1]:g}): a grid "
                f"that spans it has no steps left for the rest; leave {node.name!r} in float"
            )
    return notes


NOTE_MASKS = Pass(name="note-masks", edit=_edit)
