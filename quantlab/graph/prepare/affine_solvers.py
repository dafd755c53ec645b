r"""The algebra of an affine map for each channel, folded into the linear node before it or behind it.

A map z_c = s_c y_c + t_c behind a node that is linear in its weight, y_c = (W * u)_c + b_c, gives

    z_c = (s_c W_c * u) + (s_c b_c + t_c),

| linear node   | weight                | channel c of the output lies                        | bias         |
|---------------|-----------------------|-----------------------------------------------------|--------------|
| Conv          | (M, C/g, k...)        | on axis 0, also with groups                         | s b + t      |
| ConvTranspose | (C, M/g, k...)        | on axis 1 within each of the g groups along axis 0  | s b + t      |
| Gemm          | (K, N); transB (N, K) | on axis 1; transB: axis 0                           | s beta b + t |
| MatMul        | (K, N)                | on axis 1; with t it becomes a Gemm, if 2-D         | t            |

and in front of it, u_i = s_i x_i + t_i, with channel i of the input on the other axis of the weight,

    (W * u) + b = (W s) * x + (b + sum_i W_i t_i),

where t demands that every output sums over the same products: no zeros padded on, and no transposed convolution.

The algebra is done in float64 and rounded once to the type of the weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.graph.prepare.edit import label
from quantlab.graph.view import GraphView

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


class RefusedError(Exception):
    """Why something is not folded; it becomes a note."""


@dataclass(frozen=True, kw_only=True)
class ChannelAffine:
    """y_c = scale_c * x_c + shift_c.

    Attributes:
        scale: Shape `(C,)`, or `(1,)` for one factor for all channels.
        shift: Of the same shape.
        dead: Indices of dead channels, see `batch_norm`.
    """

    scale: Float64
    shift: Float64
    dead: tuple[int, ...] = ()

    def spread(self, channels: int) -> ChannelAffine:
        """Return the map with `channels` values; a map of another number of channels is returned as it is."""
        if self.scale.size != 1:
            return self
        return ChannelAffine(scale=np.repeat(self.scale, channels), shift=np.repeat(self.shift, channels))


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


def scale_inputs(weight: Array, scale: Float64, groups: int) -> Float64:
    """Scale the input channels of a Conv weight of shape `(M, C/groups, k...)`; `scale` has shape `(C,)`."""
    outputs, per_group, *kernel = weight.shape
    grouped = np.asarray(weight, np.float64).reshape(groups, outputs // groups, per_group, -1)
    return (grouped * scale.reshape(groups, 1, per_group, 1)).reshape(outputs, per_group, *kernel)


Solver = Callable[[onnx.NodeProto, Array, Array, ChannelAffine, GraphView], tuple[Float64, Float64 | None]]
"""Weight and bias with the affine map in them, from the linear node and its own; None for no bias."""


def _conv(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, _: GraphView
) -> tuple[Float64, Float64 | None]:
    affine = _made_by(node, weight.shape[0], affine)
    return scale_axis(weight, affine.scale, 0), _shifted(bias, affine)


def _conv_transpose(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64 | None]:
    groups = view.attribute(node, "group", 1)
    affine = _made_by(node, weight.shape[1] * groups, affine)
    return scale_transposed(weight, affine.scale, groups), _shifted(bias, affine)


def _gemm(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64 | None]:
    axis = 0 if view.attribute(node, "transB", 0) else 1
    affine = _made_by(node, weight.shape[axis], affine)
    return scale_axis(weight, affine.scale, axis), _shifted(_beta(node, view) * bias, affine)


def _matmul(
    node: onnx.NodeProto, weight: Array, _: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64 | None]:
    if weight.ndim != 2:
        raise RefusedError(f"the weight of {label(node)} has {weight.ndim} axes, not 2")
    affine = _made_by(node, weight.shape[1], affine)
    if affine.shift.any():
        _needs_gemm(node, view)
    return scale_axis(weight, affine.scale, 1), affine.shift if affine.shift.any() else None


def _made_by(node: onnx.NodeProto, channels: int, affine: ChannelAffine) -> ChannelAffine:
    affine = affine.spread(channels)
    if channels != affine.scale.size:
        raise RefusedError(f"it has {affine.scale.size} channels, {label(node)} makes {channels}")
    return affine


def _shifted(bias: Array, affine: ChannelAffine) -> Float64 | None:
    if not bias.any() and not affine.shift.any() and bias.ndim == 0:
        return None  # there was no bias, and there need not be one
    return np.asarray(bias, np.float64) * affine.scale + affine.shift


def _beta(node: onnx.NodeProto, view: GraphView) -> np.float64:
    return np.float64(view.attribute(node, "beta", 1.0))


def _needs_gemm(node: onnx.NodeProto, view: GraphView) -> None:
    shape = view.shape(node.input[0])
    if shape is None or len(shape) != 2:
        rank = "unknown" if shape is None else len(shape)
        raise RefusedError(f"{label(node)} has no bias, and Gemm, which has one, needs an input of 2 axes, not {rank}")


def _conv_before(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64 | None]:
    groups = view.attribute(node, "group", 1)
    affine = _read_by(node, weight.shape[1] * groups, affine)
    if affine.shift.any():
        _refuse_padding(node, view)
    scaled = scale_inputs(weight, affine.scale, groups)
    added = scale_inputs(weight, affine.shift, groups).reshape(weight.shape[0], -1).sum(axis=1)
    return scaled, _added(bias, added, affine)


def _conv_transpose_before(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, _: GraphView
) -> tuple[Float64, Float64 | None]:
    affine = _read_by(node, weight.shape[0], affine)
    if affine.shift.any():
        raise RefusedError(f"{label(node)} sums over fewer products at the edges, so that an offset is no bias")
    return scale_axis(weight, affine.scale, 0), None if bias.ndim == 0 else np.asarray(bias, np.float64)


def _gemm_before(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64 | None]:
    if view.attribute(node, "transA", 0):
        raise RefusedError(f"{label(node)} transposes its input (transA is 1)")
    axis = 1 if view.attribute(node, "transB", 0) else 0
    affine = _read_by(node, weight.shape[axis], affine)
    added = np.float64(view.attribute(node, "alpha", 1.0)) * scale_axis(weight, affine.shift, axis).sum(axis=axis)
    return scale_axis(weight, affine.scale, axis), _added(_beta(node, view) * bias, added, affine)


def _matmul_before(
    node: onnx.NodeProto, weight: Array, bias: Array, affine: ChannelAffine, view: GraphView
) -> tuple[Float64, Float64 | None]:
    if weight.ndim != 2:
        raise RefusedError(f"the weight of {label(node)} has {weight.ndim} axes, not 2")
    affine = _read_by(node, weight.shape[0], affine)
    if affine.shift.any():
        _needs_gemm(node, view)
    return scale_axis(weight, affine.scale, 0), _added(bias, scale_axis(weight, affine.shift, 0).sum(axis=0), affine)


def _read_by(node: onnx.NodeProto, channels: int, affine: ChannelAffine) -> ChannelAffine:
    affine = affine.spread(channels)
    if channels != affine.scale.size:
        raise RefusedError(f"it has {affine.scale.size} channels, {label(node)} reads {channels}")
    return affine


def _added(bias: Array, added: Float64, affine: ChannelAffine) -> Float64 | None:
    if affine.shift.any():
        return np.asarray(bias + added, np.float64)
    return None if bias.ndim == 0 and not bias.any() else np.asarray(bias, np.float64)


def _refuse_padding(node: onnx.NodeProto, view: GraphView) -> None:
    mode = view.attribute(node, "auto_pad", b"NOTSET").decode()
    pads = list(view.attribute(node, "pads", []))
    if mode.startswith("SAME") or (mode == "NOTSET" and any(pads)):
        padding = f"pads {pads}" if mode == "NOTSET" else f"auto_pad {mode}"
        raise RefusedError(f"{label(node)} pads with zeros ({padding}), to which the offset would not be added")


BEHIND: dict[str, Solver] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
"""Linear operators and how a map behind them is folded."""

BEFORE: dict[str, Solver] = {
    "Conv": _conv_before,
    "ConvTranspose": _conv_transpose_before,
    "Gemm": _gemm_before,
    "MatMul": _matmul_before,
}
"""Linear operators and how a map in front of them is folded."""
