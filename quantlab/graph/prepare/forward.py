"""BatchNormalization, and Add, Sub, Mul and Div by constants, are folded into the linear node behind them.

    W * (s x + t) + b = (W s) * x + (b + sum_i W_i t_i)

The linear node has to be the only reader; the algebra is in `affine_solvers`. It is refused where it would be wrong: a
Conv that pads adds zeros behind the map, to which the offset does not apply, and a ConvTranspose sums over fewer
products at the edges.

This is exact, and yet not always wise: the tensor that is rounded is then the one in front of the map, whose channels a
normalization has not yet brought to one scale. So `prepare` does it on request only.
"""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.affine import Folding, fold_before
from quantlab.graph.prepare.affine_solvers import BEFORE, ChannelAffine, RefusedError
from quantlab.graph.prepare.arithmetic import channel_axis, read_arithmetic, split
from quantlab.graph.prepare.batch_norm import read_batch_norm
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants


def _edit(piece: Workpiece) -> list[str]:
    if piece.operators.isdisjoint(BEFORE):
        return []
    work = Folding.of(piece)
    removed: set[int] = set()
    readers: dict[str, onnx.NodeProto] = {}  # of tensors whose reader has been folded away
    notes = []
    for node in reversed(work.view.nodes):  # the map next to the linear node goes first
        tensor = _input(node, work)
        reader = readers.get(node.output[0]) or work.view.only_reader(node.output[0]) if tensor is not None else None
        if tensor is None or reader is None or not is_standard(reader, *BEFORE):
            continue
        try:
            into = fold_before(node, tensor, _map(node, tensor, reader, work), reader, work)
        except RefusedError as refusal:
            notes.append(f"left {label(node)} alone: {refusal}")
            continue
        notes.append(f"folded {label(node)} into {into}, which reads it")
        removed.add(id(node))
        if work.view.only_reader(tensor) is node:
            readers[tensor] = reader
    remove_nodes(piece.model.graph, removed)
    return notes


def _input(node: onnx.NodeProto, work: Folding) -> str | None:
    """Return the tensor to which a node applies an affine map, or None where it applies none."""
    if is_standard(node, "BatchNormalization"):
        return str(node.input[0])
    parts = split(node, work.view)
    return None if parts is None else parts[0]


def _map(node: onnx.NodeProto, tensor: str, reader: onnx.NodeProto, work: Folding) -> ChannelAffine:
    shape = work.view.shape(tensor)
    if shape is None:
        raise RefusedError(f"the shape of its input {tensor!r} is not known")
    axis = channel_axis(reader, len(shape))
    if node.op_type != "BatchNormalization":
        affine = read_arithmetic(node, work, rank=len(shape), axis=axis)
    elif len(shape) + axis != 1:
        raise RefusedError(f"its channels are on axis 1, those of {label(reader)} on axis {len(shape) + axis}")
    else:
        affine = read_batch_norm(node, work)
    _refuse_broadcast(tensor, shape, axis, affine)
    return affine


def _refuse_broadcast(tensor: str, shape: tuple[int | str | None, ...], axis: int, affine: ChannelAffine) -> None:
    """One channel times many values is many channels."""
    if affine.scale.size != 1 and shape[axis] != affine.scale.size:
        raise RefusedError(f"its input {tensor!r} has {shape[axis]} channels, the constant {affine.scale.size} values")


FOLD_FORWARD = Pass(name="fold-forward", edit=_edit, requires=missing_constants)
