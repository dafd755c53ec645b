"""A constant that several nodes read in different ways gets a copy for each way.

A bias is rounded on the grid whose scale is scale_x * scale_w of the node that adds it. Read by two nodes it would need
two grids, and one of the nodes would stay without: so each node that adds a bias has one of its own. A weight has a
scale for each channel of the output, which lies on another axis for a Conv than for a ConvTranspose, for a Gemm with
transB than for one without, and for a Gather than for a MatMul: readers of one axis share, those of another get a copy.
Copies of weights make a model larger; they are made on request, where scales for each channel are wanted.
"""

from __future__ import annotations

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import is_standard, label
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.view import GraphView, Use

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def separate_shared(*, weights: bool = False) -> Pass:
    """Make the pass that copies constants which are read in different ways.

    Args:
        weights: Copy weights whose channels lie on different axes, too.

    Returns:
        The pass.
    """

    def edit(piece: Workpiece) -> list[str]:
        return _edit(piece, weights)

    return Pass(name="separate-shared", edit=edit, requires=missing_constants)


def _edit(piece: Workpiece, weights: bool) -> list[str]:
    view = piece.view
    notes = []
    for name, tensor in view.constants.items():
        if view.float_type(name) is None or len(view.uses.get(name, ())) < 2:
            continue
        for uses in _ways(name, view, weights)[1:]:
            fresh = piece.names.fresh(f"{name}_{uses[0].node.name or uses[0].node.output[0]}")
            copy = piece.model.graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = fresh
            for use in uses:
                use.node.input[use.index] = fresh
            how = "as a bias of its own" if _is_bias(uses[0]) else "along another axis"
            notes.append(f"{label(uses[0].node)} reads {name!r} {how}, of which it got the copy {fresh!r}")
    return notes


def _ways(name: str, view: GraphView, weights: bool) -> list[list[Use]]:
    """Group the places that read a constant; the group of the first place keeps it."""
    groups: dict[object, list[Use]] = {}
    for index, use in enumerate(view.uses[name]):
        way: object = "any"
        if _is_bias(use):
            way = ("bias", index)
        elif weights:
            way = _axis(use, view, len(view.constants[name].dims))
        groups.setdefault(way, []).append(use)
    return [groups[way] for way in sorted(groups, key=lambda way: _rank(way, groups[way]))]


def _rank(way: object, uses: list[Use]) -> tuple[bool, bool, str]:
    """Say who keeps the name: what a subgraph reads, which cannot be renamed here, then no bias, then by node name."""
    return not any(use.inside for use in uses), isinstance(way, tuple), min(use.node.name for use in uses)


def _is_bias(use: Use) -> bool:
    return use.index == 2 and is_standard(use.node, "Conv", "ConvTranspose", "Gemm")


def _axis(use: Use, view: GraphView, rank: int) -> object:
    """Return on which axis of a weight its reader wants the channels; "any" where it has no say."""
    node = use.node
    if use.index != 1 or not is_standard(node, *_LINEAR):
        return "any"
    if node.op_type == "Conv" or (node.op_type == "Gemm" and view.attribute(node, "transB", 0)):
        return 0
    return 1 if node.op_type != "MatMul" or rank == 2 else None
