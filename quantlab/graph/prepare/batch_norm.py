r"""Folding BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it.

In inference, BatchNormalization is an affine map for each channel c (Ioffe and Szegedy 2015, algorithm 2):

    y_c = gamma_c * (x_c - mean_c) / sqrt(var_c + epsilon) + beta_c = s_c * x_c + t_c
    s_c = gamma_c / sqrt(var_c + epsilon)          t_c = beta_c - mean_c * s_c

and what produces x is linear in its weights, x_c = (W * u)_c + b_c, so that

    y_c = (s_c W_c * u) + (s_c b_c + t_c).

| producer      | weight                | channel c of the output lies                        | bias          |
|---------------|-----------------------|-----------------------------------------------------|---------------|
| Conv          | (M, C/g, k...)        | on axis 0, also with groups                         | s b + t       |
| ConvTranspose | (C, M/g, k...)        | on axis 1 within each of the g groups along axis 0  | s b + t       |
| Gemm          | (K, N); transB (N, K) | on axis 1; transB: axis 0                           | s beta b + t  |
| MatMul        | (K, N), 2-D input     | on axis 1; the node becomes a Gemm, which has a bias | t             |

The algebra is done in float64 and rounded once to the type of the weight. A channel is dead where both |mean| and var
are nearly 0: nothing ever came through it in training, and its s_c = gamma_c / sqrt(epsilon) is an artefact that would
ruin a range. The fold stays exact there unless it is told to take gamma_c = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.graph.names import Names
from quantlab.graph.passes import Pass
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.tensors import float_tensor, to_array
from quantlab.graph.view import GraphView

DEAD_CHANNEL = 1e-10
"""|mean| and variance below which a channel counts as dead."""

EPSILON = float(np.float32(1e-5))
"""The default of the operator; attributes of ONNX are float32."""

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ChannelAffine:
    """y_c = scale_c * x_c + shift_c.

    Attributes:
        scale: Shape `(C,)`.
        shift: Shape `(C,)`.
        dead: Indices of dead channels.
    """

    scale: Float64
    shift: Float64
    dead: tuple[int, ...] = ()


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


def scale_axis(weight: Array, scale: Float64, axis: int) -> Float64:
    """Multiply the slices of a weight along `axis` by one factor each, in float64."""
    shape = [1] * weight.ndim
    shape[axis] = scale.size
    return np.asarray(weight, np.float64) * scale.reshape(shape)


def scale_transposed(weight: Array, scale: Float64, groups: int) -> Float64:
    """Scale the output channels of a ConvTranspose weight of shape `(C, M/groups, k...)`; `scale` has shape `(M,)`."""
    channels, per_group, *kernel = weight.shape
    grouped = np.asarray(weight, np.float64).reshape(groups, channels // groups, per_group, -1)
    return (grouped * scale.reshape(groups, 1, per_group, 1)).reshape(channels, per_group, *kernel)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One run over a graph: the view is of the graph before it, the rest is what has changed since."""

    graph: onnx.GraphProto
    view: GraphView
    names: Names
    zero_dead: bool
    producers: dict[str, onnx.NodeProto]
    fresh: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, what: str) -> Array:
        found = self.fresh.get(name) or self.view.constants.get(name)
        if found is None:
            raise _RefusedError(f"{what} is computed")
        return to_array(found)


def fold_batch_norm(*, zero_dead: bool = False) -> Pass:
    """Make the pass that folds every BatchNormalization it can, with a note for each it cannot.

    Args:
        zero_dead: Silence dead channels (see the top of this file) instead of folding them exactly.

    Returns:
        The pass.
    """

    def edit(model: onnx.ModelProto) -> list[str]:
        return _edit(model, zero_dead)

    return Pass(name="fold-batch-norm", edit=edit, requires=missing_constants)


class _RefusedError(Exception):
    """Why a BatchNormalization stays; it becomes a note."""


def _edit(model: onnx.ModelProto, zero_dead: bool) -> list[str]:
    view = GraphView.of(model)
    producers = dict(view.producers)
    work = _Work(graph=model.graph, view=view, names=Names.of(model), zero_dead=zero_dead, producers=producers)
    removed: set[int] = set()
    notes = []
    for node in view.nodes:
        if not is_standard(node, "BatchNormalization"):
            continue
        try:
            notes += _fold(node, work)
        except _RefusedError as refusal:
            notes.append(f"left {label(node)} alone: {refusal}")
        else:
            removed.add(id(node))
    remove_nodes(model.graph, removed)
    return notes


def _fold(node: onnx.NodeProto, work: _Work) -> list[str]:
    """Fold one node and return the notes."""
    producer = _producer(node, work)
    affine = _affine(node, work)
    weight = work.constant(producer.input[1], f"the weight {producer.input[1]!r} of {label(producer)}")
    bias: Array = np.zeros(())
    if len(producer.input) > 2 and producer.input[2]:
        bias = work.constant(producer.input[2], f"the bias {producer.input[2]!r} of {label(producer)}")
    exact = _SOLVERS[producer.op_type](producer, weight, bias, affine, work.view)
    with np.errstate(over="ignore"):
        rounded = tuple(part.astype(weight.dtype) for part in exact)
    if not all(np.isfinite(part).all() for part in rounded):
        raise _RefusedError(f"the folded weight or bias of {label(producer)} would not be finite in {weight.dtype}")
    into = _write(node, producer, rounded, work)
    notes = [f"folded {label(node)} into {into}"]
    if affine.dead:
        fate = "silenced" if work.zero_dead else "folded like the others"
        count = f"{len(affine.dead)} dead channels (|mean| and variance below {DEAD_CHANNEL})"
        notes.append(f"{label(node)} has {count}, {fate}")
    return notes


def _producer(node: onnx.NodeProto, work: _Work) -> onnx.NodeProto:
    """Return the node before a BatchNormalization that runs in inference and alone reads what that node makes."""
    tensor, view = node.input[0], work.view
    producer = work.producers.get(tensor)
    if producer is None or not is_standard(producer, *_SOLVERS):
        source = "a graph input or initializer" if producer is None else label(producer)
        raise _RefusedError(f"its input {tensor!r} comes from {source}, not from {', '.join(_SOLVERS)}")
    if view.attribute(node, "training_mode", 0):
        raise _RefusedError("it is in training mode")
    if any(node.output[1:]):
        raise _RefusedError(f"it has {len(node.output)} outputs, as in training")
    if not view.attribute(node, "spatial", 1):
        raise _RefusedError("it normalizes each position on its own (spatial is 0)")
    if tensor in view.outputs:
        raise _RefusedError(f"its input {tensor!r} is a graph output too")
    others = [use for use in view.uses[tensor] if use.node is not node or use.inside or use.index != 0]
    if others:
        place = "in a subgraph of" if others[0].inside else "by"
        raise _RefusedError(f"its input {tensor!r} is read {place} {label(others[0].node)} too")
    return producer


def _affine(node: onnx.NodeProto, work: _Work) -> ChannelAffine:
    roles = ("scale", "bias", "mean", "variance")
    parts = [
        work.constant(name, f"its {role} {name!r}").reshape(-1)
        for role, name in zip(roles, node.input[1:5], strict=True)
    ]
    if len({part.size for part in parts}) > 1:
        raise _RefusedError(f"its scale, bias, mean and variance have {[part.size for part in parts]} values")
    epsilon = float(work.view.attribute(node, "epsilon", EPSILON))
    affine = channel_affine(*parts, epsilon=epsilon, zero_dead=work.zero_dead)
    bad = np.flatnonzero(~(np.isfinite(affine.scale) & np.isfinite(affine.shift)))
    if bad.size:
        c = int(bad[0])
        raise _RefusedError(
            f"channel {c} has no finite factor (variance {float(parts[3][c])!r}, epsilon {epsilon:.6g})"
        )
    return affine


Solver = Callable[[onnx.NodeProto, Array, Array, ChannelAffine, GraphView], tuple[Float64, Float64]]
"""Weight and bias with the affine map in them, from the producer and its own."""


def _conv(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, _: GraphView
) -> tuple[Float64, Float64]:
    _same_channels(node, weight.shape[0], affine)
    return scale_axis(weight, affine.scale, 0), _shifted(bias, affine)


def _conv_transpose(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64]:
    groups = view.attribute(node, "group", 1)
    _same_channels(node, weight.shape[1] * groups, affine)
    return scale_transposed(weight, affine.scale, groups), _shifted(bias, affine)


def _gemm(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64]:
    axis = 0 if view.attribute(node, "transB", 0) else 1
    _same_channels(node, weight.shape[axis], affine)
    beta = np.float64(view.attribute(node, "beta", 1.0))
    return scale_axis(weight, affine.scale, axis), _shifted(beta * bias, affine)


def _matmul(
    node: onnx.NodeProto, weight: Array, _: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64]:
    shape = view.shape(node.input[0])
    if shape is None or len(shape) != 2 or weight.ndim != 2:
        rank = "unknown" if shape is None else len(shape)
        ranks = f"the ranks it multiplies are {rank} and {weight.ndim}"
        raise _RefusedError(f"the output channels of {label(node)} lie on axis 1 only if both ranks are 2, {ranks}")
    _same_channels(node, weight.shape[1], affine)
    return scale_axis(weight, affine.scale, 1), affine.shift


def _same_channels(node: onnx.NodeProto, channels: int, affine: ChannelAffine) -> None:
    if channels != affine.scale.size:
        raise _RefusedError(f"it has {affine.scale.size} channels, {label(node)} makes {channels}")


def _shifted(bias: Array, affine: ChannelAffine) -> Float64:
    return np.asarray(bias, np.float64) * affine.scale + affine.shift


_SOLVERS: dict[str, Solver] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
}


def _write(node: onnx.NodeProto, producer: onnx.NodeProto, folded: tuple[Array, ...], work: _Work) -> str:
    """Put the new weight and bias into the producer, which takes over the output; return what it is called now."""
    into = label(producer)
    weight, bias = folded
    _set_constant(producer, 1, f"{producer.input[1]}_folded", weight, work)
    _set_constant(producer, 2, f"{producer.name or producer.output[0]}_bias", bias, work)
    if producer.op_type == "MatMul":
        producer.op_type = "Gemm"
        into += ", which became a Gemm"
    for index, attribute in enumerate(producer.attribute):
        if producer.op_type == "Gemm" and attribute.name == "beta":
            del producer.attribute[index]  # it is in the bias now, and 1 is the default
            break
    producer.output[0] = node.output[0]
    work.producers[node.output[0]] = producer
    return into


def _set_constant(node: onnx.NodeProto, index: int, wanted: str, value: Array, work: _Work) -> None:
    """Give a node a constant input: in place if nobody else reads it, else under a name of its own."""
    name = node.input[index] if index < len(node.input) else ""
    if name in work.fresh:
        work.fresh[name].CopyFrom(float_tensor(name, value))
        return
    if name and len(work.view.uses[name]) == 1 and name not in work.view.outputs:
        work.view.constants[name].CopyFrom(float_tensor(name, value))
        return
    fresh = float_tensor(work.names.fresh(wanted), value)
    work.graph.initializer.append(fresh)
    work.fresh[fresh.name] = work.graph.initializer[-1]
    if index < len(node.input):
        node.input[index] = fresh.name
    else:
        node.input.append(fresh.name)
