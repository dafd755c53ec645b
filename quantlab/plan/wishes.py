"""What an operator may ask of the tensors around it: a small, closed vocabulary.

A wish is for one tensor. It asks for a grid of its own (`spec`), or for one of
    like=other        share the grid of another tensor, if that one gets a grid (Reshape, MaxPool);
    product=(x, w)    int32 on the scale of x times the scale of w (a bias);
    absorbs=other     take over from `other`, whose values reach this tensor through a Relu or Clip that the grid makes
                      superfluous.
A grid of its own may be asked for on condition that other tensors have grids anyway (`given`: Where).
A rule that cannot quantize a node returns `Refuse` with the reason instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import onnx

from quantlab.arrays import INT32, QuantSpec
from quantlab.graph import GraphView
from quantlab.plan.recipe import Settings
from quantlab.registry import Registry

Role = Literal["activation", "weight", "bias"]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A wish for one tensor.

    Attributes:
        tensor: Name of the tensor.
        role: What the tensor is to the node that asks.
        spec: Grid of its own, or None with `like`.
        like: Tensor whose grid is shared.
        product: Activation and weight whose scales multiply to this tensor's scale.
        factor: Constant factor of the product (Gemm's alpha).
        absorbs: Tensor that loses its grid to this one.
        within: Bounds of the function that joins `absorbs` to this tensor (Clip's min and max).
        fixed: Range known without looking at data, such as (0, 1) for Softmax.
        given: Tensors that must have grids, whoever asks for them, or the node stays in float.
    """

    tensor: str
    role: Role = "activation"
    spec: QuantSpec | None = None
    like: str | None = None
    product: tuple[str, str] | None = None
    factor: float = 1.0
    absorbs: str | None = None
    within: tuple[float, float] | None = None
    fixed: tuple[float, float] | None = None
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refuse:
    """Why a node stays in float, in words for `explain`."""

    reason: str


OpRule = Callable[[onnx.NodeProto, GraphView, Settings], "Iterable[Wish] | Refuse"]

op_rules: Registry[OpRule] = Registry("operator", "quantlab.plan.rules")
"""Operator type to rule; filled from the modules of `quantlab.plan.rules`."""


def activation(tensor: str, settings: Settings) -> Wish:
    """Ask for a grid of a tensor's own."""
    return Wish(tensor=tensor, spec=settings.activation_of(tensor))


def weight(tensor: str, settings: Settings, axis: int | None, along: int | None = None) -> Wish:
    """Ask for a weight grid: with a scale for each index of `axis`, if the recipe wants that and `axis` is not None.

    An override of the tensor decides alone; blocks, if the recipe wants them, lie along the axis `along`.
    """
    spec = settings.weight
    if (override := settings.overrides.get(tensor)) is not None:
        spec = override.grid.spec(spec, weight=True)
    elif settings.block_size is not None and along is not None:
        spec = replace(spec, axis=along, block_size=settings.block_size)
    elif settings.per_channel and axis is not None:
        # Kernels take only zero points in the middle of the grid per channel.
        narrow = spec.dtype.signed and spec.dtype.bits > 4 and not (spec.reduce_range or spec.dtype.is_float)
        spec = replace(spec, axis=axis, symmetric=True, narrow_range=narrow)
    return Wish(tensor=tensor, role="weight", spec=spec)


def bias(tensor: str, x: str, w: str, axis: int | None, factor: float = 1.0) -> Wish:
    """Ask for int32 on the scale `scale_x * scale_w * factor`, one a channel of `axis` where the weight has several."""
    spec = QuantSpec(dtype=INT32, symmetric=True, axis=axis)
    return Wish(tensor=tensor, role="bias", spec=spec, product=(x, w), factor=factor)


def share(tensor: str, other: str) -> Wish:
    """Ask to share the grid of another tensor."""
    return Wish(tensor=tensor, like=other)


def unlisted(node: onnx.NodeProto, settings: Settings) -> Refuse | None:
    """Return a refusal where an operator that gains nothing from integers was not asked for by its type."""
    if settings.listed:
        return None
    return Refuse(
        f"onnxruntime has no 8-bit {node.op_type}, so that rounding its tensors would cost accuracy and gain "
        "nothing; list it in op_types to quantize it all the same"
    )


def float_data(node: onnx.NodeProto, view: GraphView) -> Refuse | None:
    """Return a refusal where a node's first input or first output is not of a known floating-point type."""
    for tensor in (node.input[0], node.output[0]):
        if view.float_type(tensor) is None:
            code = view.element_type(tensor)
            what = "unknown" if code is None else onnx.TensorProto.DataType.Name(code).lower()
            return Refuse(f"the type of {tensor!r} is {what}, not a float")
    return None
