"""Add, Sub, Mul and Div by a constant for each channel are folded into the linear node before them.

Each is an affine map y_c = s_c x_c + t_c, and so is a chain of them, which goes in one after the other:

    x + k: s = 1, t = k      x - k: s = 1, t = -k      k - x: s = -1, t = k      x * k: s = k      x / k: s = 1 / k

How that goes into a weight and a bias is in `affine_solvers`. Channels lie on axis 1 of what Conv, ConvTranspose and
Gemm make, and on the last axis of what MatMul makes. A constant with a value for each position is no such map.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.affine import Folding, fold_behind
from quantlab.graph.prepare.affine_solvers import BEHIND, Array, ChannelAffine, RefusedError
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.view import GraphView

ARITHMETIC = ("Add", "Sub", "Mul", "Div")
"""The operators that are affine in one input where the other is constant."""


def split(node: onnx.NodeProto, view: GraphView) -> tuple[str, str] | None:
    """Return the computed and the constant input of a node, or None where it is not affine in one constant."""
    if not is_standard(node, *ARITHMETIC):
        return None
    first, second = node.input
    if second in view.constants and first not in view.constants:
        return first, second
    if first in view.constants and second not in view.constants and node.op_type != "Div":
        return second, first
    return None


def read_arithmetic(node: onnx.NodeProto, work: Folding, *, rank: int | None, axis: int) -> ChannelAffine:
    """Read Add, Sub, Mul or Div by a constant as an affine map.

    Args:
        node: A node that `split` splits.
        work: The run.
        rank: Number of axes of the computed input, or None where it is not known.
        axis: Where its channels are, counted from the end (-1 is the last axis).

    Returns:
        The map, with a value for each channel or a single one.

    Raises:
        RefusedError: The constant varies along other axes, adds axes, or is a divisor of 0.
    """
    parts = split(node, work.view)
    if parts is None:
        raise RefusedError("none or both of its inputs are constant")
    name = parts[1]
    k = np.asarray(work.constant(name, f"its constant {name!r}"), np.float64)
    along = k.shape[axis] if k.ndim >= -axis else 1
    if k.size != along or k.ndim > (1 if rank is None else rank):
        axes = "an unknown number of" if rank is None else str(rank)
        raise RefusedError(
            f"its constant {name!r} of shape {k.shape} is not one value for each channel of a tensor with {axes} axes"
        )
    return _affine(node, k.reshape(-1), constant_first=node.input[0] == name)


def _affine(node: onnx.NodeProto, k: Array, *, constant_first: bool) -> ChannelAffine:
    one, zero = np.ones_like(k), np.zeros_like(k)
    match node.op_type:
        case "Add":
            return ChannelAffine(scale=one, shift=k)
        case "Sub":
            return ChannelAffine(scale=-one, shift=k) if constant_first else ChannelAffine(scale=one, shift=-k)
        case "Mul":
            return ChannelAffine(scale=k, shift=zero)
        case _:
            if not k.all():
                raise RefusedError(f"it divides by 0 in channel {int(np.argmin(np.abs(k)))}")
            return ChannelAffine(scale=1 / k, shift=zero)


def channel_axis(linear: onnx.NodeProto, rank: int | None) -> int:
    """Return where the channels of a linear node's data are, counted from the end."""
    return -1 if linear.op_type == "MatMul" or rank is None else 1 - rank


def fold_arithmetic(*, only: Collection[str] | None = None) -> Pass:
    """Make the pass that folds Add, Sub, Mul and Div by constants, with a note for each that might have been expected.

    Args:
        only: Names of the nodes to fold, or None for all.

    Returns:
        The pass.
    """

    def edit(piece: Workpiece) -> list[str]:
        return _edit(piece, only)

    return Pass(name="fold-arithmetic", edit=edit, requires=missing_constants)


def _edit(piece: Workpiece, only: Collection[str] | None) -> list[str]:
    if piece.operators.isdisjoint(ARITHMETIC) or piece.operators.isdisjoint(BEHIND):
        return []
    work = Folding.of(piece)
    removed: set[int] = set()
    notes = []
    for node in work.view.nodes:
        parts = split(node, work.view)
        producer = work.producers.get(parts[0]) if parts is not None else None
        if only is not None and node.name not in only:
            continue
        if parts is None or producer is None or (only is None and not _is_candidate(node, producer, work)):
            continue
        rank = _rank_made(producer, work)
        try:
            affine = read_arithmetic(node, work, rank=rank, axis=channel_axis(producer, rank))
            into = fold_behind(node, parts[0], affine, work)
        except RefusedError as refusal:
            notes.append(f"left {label(node)} alone: {refusal}")
        else:
            notes.append(f"folded {label(node)} into {into}")
            removed.add(id(node))
    remove_nodes(piece.model.graph, removed)
    return notes


def _is_candidate(node: onnx.NodeProto, producer: onnx.NodeProto, work: Folding) -> bool:
    """Say whether a reader might expect the fold: into constant weights, and not the bias of a stack of rows."""
    if not is_standard(producer, *BEHIND) or not work.is_constant(producer.input[1]):
        return False
    return not (node.op_type in ("Add", "Sub") and producer.op_type == "MatMul" and _rank_made(producer, work) != 2)


def _rank_made(linear: onnx.NodeProto, work: Folding) -> int | None:
    if linear.op_type == "Gemm":
        return 2
    if linear.op_type == "MatMul":
        shape = work.view.shape(linear.input[0])
        return None if shape is None else len(shape)
    return work.weight_and_bias(linear)[0].ndim
