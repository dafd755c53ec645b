r"""Folding BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it.

In inference, BatchNormalization is an affine map for each channel c (Ioffe and Szegedy 2015, algorithm 2):

    y_c = gamma_c * (x_c - mean_c) / sqrt(var_c + epsilon) + beta_c = s_c * x_c + t_c
    s_c = gamma_c / sqrt(var_c + epsilon)          t_c = beta_c - mean_c * s_c

How that goes into a weight and a bias is in `affine_solvers`. The channels are on axis 1; those that a MatMul makes are
only if both its ranks are 2.

A channel is dead where both |mean| and var are nearly 0: nothing ever came through it in training, and its
s_c = gamma_c / sqrt(epsilon) is an artefact that would ruin a range. The fold stays exact there unless it is told to
take gamma_c = 0.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.affine import Folding, fold_behind, linear_producer
from quantlab.graph.prepare.affine_solvers import Array, ChannelAffine, RefusedError
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants

DEAD_CHANNEL = 1e-10
"""|mean| and variance below which a channel counts as dead."""

EPSILON = float(np.float32(1e-5))
"""The default of the operator; attributes of ONNX are float32."""


def channel_affine(
    gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float = EPSILON, zero_dead: bool = False
) -> ChannelAffine:
    """Write a BatchNormalization as one factor and one offset a channel, in float64.

    Args:
        gamma: Shape `(C,)`, like the other three.
        beta: Offset.
        mean: Running mean.
        variance: Running variance.
        epsilon: Added to the variance.
        zero_dead: Take gamma as 0 in dead channels; exact only if nothing comes through them.

    Returns:
        The affine map.

    Example:
        >>> one = np.ones(1)
        >>> channel_affine(2 * one, one, 3 * one, one, epsilon=3.0)
        ChannelAffine(scale=array([1.]), shift=array([-2.]), dead=())
    """
    g, b, m, v = (np.asarray(part, np.float64) for part in (gamma, beta, mean, variance))
    dead = (np.abs(m) < DEAD_CHANNEL) & (np.abs(v) < DEAD_CHANNEL)
    if zero_dead:
        g = np.where(dead, 0.0, g)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = g / np.sqrt(v + epsilon)
    return ChannelAffine(scale=scale, shift=b - m * scale, dead=tuple(int(c) for c in np.flatnonzero(dead)))


def fold_batch_norm(*, zero_dead: bool = False, only: Collection[str] | None = None) -> Pass:
    """Make the pass that folds every BatchNormalization it can, with a note for each it cannot.

    Args:
        zero_dead: Silence dead channels (see the top of this file) instead of folding them exactly.
        only: Names of the nodes to fold, or None for all.

    Returns:
        The pass.
    """

    def edit(piece: Workpiece) -> list[str]:
        return _edit(piece, zero_dead, only)

    return Pass(name="fold-batch-norm", edit=edit, requires=missing_constants)


def _edit(piece: Workpiece, zero_dead: bool, only: Collection[str] | None) -> list[str]:
    if "BatchNormalization" not in piece.operators:
        return []
    work = Folding.of(piece)
    removed: set[int] = set()
    notes = []
    for node in work.view.nodes:
        if not is_standard(node, "BatchNormalization") or (only is not None and node.name not in only):
            continue
        try:
            notes += _fold(node, work, zero_dead)
        except RefusedError as refusal:
            notes.append(f"left {label(node)} alone: {refusal}")
        else:
            removed.add(id(node))
    remove_nodes(piece.model.graph, removed)
    return notes


def _fold(node: onnx.NodeProto, work: Folding, zero_dead: bool) -> list[str]:
    """Fold one node and return the notes."""
    producer = linear_producer(node, node.input[0], work)
    affine = read_batch_norm(node, work, zero_dead=zero_dead)
    if producer.op_type == "MatMul":
        _refuse_other_ranks(producer, work)
    into = fold_behind(node, node.input[0], affine, work)
    notes = [f"folded {label(node)} into {into}"]
    if affine.dead:
        fate = "silenced" if zero_dead else "folded like the others"
        count = f"{len(affine.dead)} dead channels (|mean| and variance below {DEAD_CHANNEL})"
        notes.append(f"{label(node)} has {count}, {fate}")
    return notes


def read_batch_norm(node: onnx.NodeProto, work: Folding, *, zero_dead: bool = False) -> ChannelAffine:
    """Read a BatchNormalization that runs in inference as an affine map, or refuse.

    Args:
        node: The node.
        work: The run.
        zero_dead: Silence dead channels.

    Returns:
        The map, with a value for each channel.

    Raises:
        RefusedError: The node trains, or its constants are computed, do not fit or give no finite map.
    """
    _refuse_training(node, work)
    roles = ("scale", "bias", "mean", "variance")
    parts = [
        work.constant(name, f"its {role} {name!r}").reshape(-1)
        for role, name in zip(roles, node.input[1:5], strict=True)
    ]
    if len({part.size for part in parts}) > 1:
        raise RefusedError(f"its scale, bias, mean and variance have {[part.size for part in parts]} values")
    epsilon = float(work.view.attribute(node, "epsilon", EPSILON))
    affine = channel_affine(*parts, epsilon=epsilon, zero_dead=zero_dead)
    bad = np.flatnonzero(~(np.isfinite(affine.scale) & np.isfinite(affine.shift)))
    if bad.size:
        c = int(bad[0])
        raise RefusedError(f"channel {c} has no finite factor (variance {float(parts[3][c])!r}, epsilon {epsilon:.6g})")
    return affine


def _refuse_training(node: onnx.NodeProto, work: Folding) -> None:
    if work.view.attribute(node, "training_mode", 0):
        raise RefusedError("it is in training mode")
    if any(node.output[1:]):
        raise RefusedError(f"it has {len(node.output)} outputs, as in training")
    if not work.view.attribute(node, "spatial", 1):
        raise RefusedError("it normalizes each position on its own (spatial is 0)")


def _refuse_other_ranks(producer: onnx.NodeProto, work: Folding) -> None:
    shape = work.view.shape(producer.input[0])
    weight, _ = work.weight_and_bias(producer)
    if shape is None or len(shape) != 2 or weight.ndim != 2:
        rank = "unknown" if shape is None else len(shape)
        ranks = f"the ranks it multiplies are {rank} and {weight.ndim}"
        raise RefusedError(f"the output channels of {label(producer)} lie on axis 1 only if both ranks are 2, {ranks}")
