"""Resolve: give every grid in a plan its numbers.

Ranges of activations come from calibration, those of constants from the constants themselves. A bias has the scale
`scale_x * scale_w * factor`, zero point 0 and 32 bits; where that scale would be too fine for the bias to fit, the
weight's scale is widened first:

    scale_w >= 1.0001 * 2 max|b| / ((2^32 - 2) * scale_x)

Source: onnxruntime.quantization 1.31.1, `QDQQuantizer._adjust_weight_scale_for_int32_bias`; same steps, same bits;
there only for signed weights, here for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QParams, Range, qparams_from_range
from quantlab.errors import DataError, ModelError, OptionError, RangeError, nearest
from quantlab.graph import GraphView
from quantlab.plan.quantplan import NodePlan, QuantPlan, TensorPlan

BIAS_HEADROOM = 1.0001
BIAS_SPAN = float(2**32 - 2)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A measured range and the words that say where it came from."""

    values: Range
    source: str


def resolve(plan: QuantPlan, ranges: Mapping[str, Calibrated], view: GraphView) -> QuantPlan:
    """Compute every scale and zero point that is still open.

    Args:
        plan: A refined plan; numbers that are already in it are kept.
        ranges: Tensor to calibrated range, at least for every tensor of `plan.observed()`.
        view: The graph that the plan is for.

    Returns:
        The plan with a range, a source and QParams at every tensor.

    Raises:
        DataError: A range is missing.
        RangeError: A constant contains NaN or infinity; the text names it.
        ModelError: The plan names a tensor that the model does not have.
        OptionError: Entries of the plan contradict each other.
    """
    check_plan(plan, view)
    done: dict[str, TensorPlan] = {}
    for name, tensor in plan.tensors.items():
        if tensor.like is None and tensor.product is None:
            done[name] = _numbers(name, tensor, plan, ranges, view)
    _widen_for_biases(plan, done, view)
    factors = {**done, **_likes(plan, done)}
    for name, tensor in plan.tensors.items():
        if tensor.like is not None:
            done[name] = _shared(name, tensor, done)
        elif tensor.product is not None:
            done[name] = _bias(name, tensor, factors, view)
    return _judged(replace(plan, tensors={name: done[name] for name in plan.tensors}), view)


def _judged(plan: QuantPlan, view: GraphView) -> QuantPlan:
    """Say of each Relu and Clip that might be absorbed whether the numbers allow it."""
    gone = set(superfluous(plan, view))
    nodes = dict(plan.nodes)
    for name, tensor in plan.tensors.items():
        if tensor.absorbs is None or tensor.qparams is None:
            continue
        node = view.producers[name]
        if node.name in gone:
            reason = "the grid of its output saturates where it clips"
            nodes[node.name] = NodePlan(op=node.op_type, status="absorbed", reason=reason)
        else:
            reason = f"kept before the grid of {name!r}, which does not end where it clips"
            nodes[node.name] = NodePlan(op=node.op_type, status="quantized", reason=reason)
    return replace(plan, nodes=nodes)


def superfluous(plan: QuantPlan, view: GraphView) -> Iterator[str]:
    """Find the Relu and Clip nodes whose work the grid behind them does, now that its numbers are known.

    Saturating instead of clipping may move a value by half a step, which rounding does anyway. Bounds like -1..1 lie
    right there, so that the rounding of the scale itself counts too.

    Args:
        plan: A resolved plan.
        view: The graph that it is for.

    Yields:
        Names of nodes.
    """
    for name, tensor in plan.tensors.items():
        if tensor.absorbs is None or tensor.within is None or tensor.qparams is None:
            continue
        span, half_step = tensor.qparams.span(), float(tensor.qparams.scale) / 2
        lowest, highest = tensor.within
        slack = float(np.finfo(tensor.qparams.scale.dtype).eps)
        fits_below = float(span.lo) >= lowest - half_step - slack * abs(lowest)
        fits_above = float(span.hi) <= highest + half_step + slack * abs(highest)
        if fits_below and fits_above:
            yield view.producers[name].name


def _likes(plan: QuantPlan, done: Mapping[str, TensorPlan]) -> dict[str, TensorPlan]:
    return {name: done[tensor.like] for name, tensor in plan.tensors.items() if tensor.like and tensor.like in done}


def check_plan(plan: QuantPlan, view: GraphView) -> None:
    """Refuse a plan, perhaps edited by hand, whose entries do not fit the graph or each other.

    Args:
        plan: A plan with or without numbers.
        view: The graph that it is for.

    Raises:
        ModelError: The plan names a tensor that the model does not have.
        OptionError: Entries of the plan contradict each other.
    """
    known = {*view.producers, *view.constants, *view.inputs}
    for name, tensor in plan.tensors.items():
        if name not in known:
            raise ModelError(f"the plan names tensor {name!r}, which the model does not have{nearest(name, known)}")
        for other in (tensor.like, *(tensor.product or ())):
            if other is not None and other not in plan.tensors:
                raise OptionError(
                    f"tensor {name!r} in the plan follows {other!r}, which has no entry; "
                    "take out both entries, or neither"
                )
        if tensor.like is not None and (root := plan.tensors[tensor.like].like) is not None:
            raise OptionError(
                f"tensor {name!r} in the plan shares the grid of {tensor.like!r}, which shares that of {root!r}: "
                f"write {root!r} instead"
            )
        if (before := tensor.absorbs) is not None and (before in plan.tensors or not _joined(before, name, view)):
            raise OptionError(
                f"tensor {name!r} in the plan cannot absorb {before!r}: that needs a tensor without an entry of its "
                f"own, and the node that makes {name!r} as its only reader"
            )


def _joined(before: str, after: str, view: GraphView) -> bool:
    reader = view.only_reader(before)
    return reader is not None and reader is view.producers.get(after) and reader.input[0] == before


def stale(plan: QuantPlan) -> Iterator[str]:
    """Find the tensors of a resolved plan whose numbers do not follow from those they should follow from.

    Args:
        plan: A plan with all its numbers.

    Yields:
        Names of tensors that share a grid or are biases.
    """
    for name, tensor in plan.tensors.items():
        sources = [plan.tensors[other].qparams for other in (tensor.like, *(tensor.product or ())) if other]
        if tensor.qparams is None or any(source is None for source in sources):
            continue
        if tensor.like is not None and tensor.qparams != sources[0]:
            yield name
        elif tensor.product is not None:
            x, w = (source for source in sources if source is not None)
            wanted = np.resize(product_scale(x, w, tensor.factor), tensor.qparams.scale.shape)
            if not np.array_equal(wanted, tensor.qparams.scale):
                yield name


def _numbers(
    name: str, tensor: TensorPlan, plan: QuantPlan, ranges: Mapping[str, Calibrated], view: GraphView
) -> TensorPlan:
    if tensor.qparams is not None:
        return tensor
    try:
        found = _range(name, tensor, ranges, view)
        values = found.values.astype(tensor.dtype)
        grid = qparams_from_range(values, tensor.spec, min_real_range=plan.min_real_range)
    except RangeError as error:
        raise RangeError(f"tensor {name!r}: {error}") from error
    return replace(tensor, values=values, source=found.source, qparams=grid)


def _range(name: str, tensor: TensorPlan, ranges: Mapping[str, Calibrated], view: GraphView) -> Calibrated:
    if tensor.values is not None:
        return Calibrated(values=tensor.values, source=tensor.source or "given in the plan")
    if (constant := view.constant(name)) is not None:
        per_channel = "" if tensor.spec.axis is None else f" of each channel of axis {tensor.spec.axis}"
        source = f"smallest and largest of the constant's {constant.size:,} values{per_channel}"
        return Calibrated(values=constant_range(constant, tensor.spec.axis), source=source)
    if tensor.fixed is not None:
        ends = np.asarray(tensor.fixed, tensor.dtype)
        source = f"{tensor.fixed[0]:g}..{tensor.fixed[1]:g} by the definition of the operator"
        return Calibrated(values=Range(ends[0], ends[1]), source=source)
    measured = tensor.range_of or name
    if measured not in ranges:
        raise DataError(f"no range is known for tensor {measured!r}: calibrate it, or give it a range in the plan")
    return ranges[measured]


def constant_range(values: npt.NDArray[Any], axis: int | None) -> Range:
    """Return the ends of a constant, or of each of its channels.

    Args:
        values: Float array of any shape.
        axis: Channel axis, or None.

    Returns:
        Range of shape () or (C,) in the array's type; [0, 0] for an empty array.

    Raises:
        RangeError: The array contains NaN or infinity.
    """
    if values.size == 0:
        zeros = np.zeros(() if axis is None else values.shape[axis], values.dtype)
        return Range(zeros, zeros)
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    return Range(values.min(axis=others), values.max(axis=others))


def _grid_of(name: str, plan: QuantPlan, done: Mapping[str, TensorPlan]) -> QParams | None:
    tensor = done.get(plan.tensors[name].like or name)
    return None if tensor is None else tensor.qparams


def _widen_for_biases(plan: QuantPlan, done: dict[str, TensorPlan], view: GraphView) -> None:
    for name, tensor in plan.tensors.items():
        if tensor.product is None or tensor.qparams is not None:
            continue
        x, w = (_grid_of(factor, plan, done) for factor in tensor.product)
        weight = done.get(tensor.product[1])
        values = view.constant(name)
        if x is None or w is None or weight is None or values is None or weight.role != "weight":
            continue
        if (wider := _wide_enough(values, x.scale, w, tensor.spec.per_channel, tensor.factor)) is not None:
            source = f"{weight.source}; widened so that bias {name!r} fits into 32 bits"
            grid = QParams(scale=wider, zero_point=w.zero_point, spec=w.spec)
            done[tensor.product[1]] = replace(weight, qparams=grid, source=source)


def _wide_enough(
    bias: npt.NDArray[Any], x_scale: npt.NDArray[Any], w: QParams, per_channel: bool, factor: float
) -> npt.NDArray[Any] | None:
    """Return the widened weight scale, or None where the bias fits as it is."""
    bias = np.abs(np.ravel(bias).astype(np.float64))
    largest = bias.reshape(-1, w.scale.size).max(axis=0) if per_channel else bias.max(initial=0.0)
    need = BIAS_HEADROOM * (2.0 * largest) / BIAS_SPAN
    have = np.float64(x_scale) * w.scale.astype(np.float64) * abs(factor)
    short = (have > 0) & (have < need)
    if not short.any():
        return None
    ratio = np.where(short, need / have, 1.0)
    return np.asarray((w.scale.astype(np.float64) * ratio).astype(w.scale.dtype))


def _shared(name: str, tensor: TensorPlan, done: Mapping[str, TensorPlan]) -> TensorPlan:
    assert tensor.like is not None
    root = done[tensor.like]
    source = f"shared with {tensor.like!r}: {root.source}"
    return replace(tensor, spec=root.spec, values=root.values, source=source, qparams=root.qparams)


def product_scale(x: QParams, w: QParams, factor: float) -> npt.NDArray[Any]:
    """Return `scale_x * scale_w * factor` in the type of the scales, or the smallest positive number if that is larger.

    Products of float16 scales underflow; 32 bits hold any bias on the smallest positive scale just as well.

    Args:
        x: Grid of the activation.
        w: Grid of the weight.
        factor: Constant factor.

    Returns:
        Scale of the bias, in the shape of the weight's scale.
    """
    scale = np.asarray(x.scale * w.scale * x.scale.dtype.type(factor))
    return np.asarray(np.maximum(scale, np.finfo(scale.dtype).smallest_subnormal))


def _bias(name: str, tensor: TensorPlan, done: Mapping[str, TensorPlan], view: GraphView) -> TensorPlan:
    assert tensor.product is not None
    if tensor.qparams is not None:
        return tensor
    x, w = (done[factor].qparams for factor in tensor.product)
    values = view.constant(name)
    assert x is not None
    assert w is not None
    assert values is not None
    scale = product_scale(x, w, tensor.factor)
    if tensor.spec.per_channel:
        scale = np.tile(scale, values.shape[tensor.spec.axis or 0] // scale.size)
    source = f"scale of {tensor.product[0]!r} times scale of {tensor.product[1]!r}"
    grid = QParams(scale=scale, zero_point=np.zeros(scale.shape, np.int64), spec=tensor.spec)
    return replace(tensor, source=source, qparams=grid)
