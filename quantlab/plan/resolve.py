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

from quantlab.arrays import INT32, UINT8, QParams, QuantSpec, Range, block_range, qparams_from_range, restricted_qparams
from quantlab.errors import DataError, ModelError, OptionError, RangeError, nearest
from quantlab.graph import FLOATS, GraphView
from quantlab.plan.entries import Conversion
from quantlab.plan.float8 import deviation_range, float8_qparams
from quantlab.plan.forms import with_obstacles
from quantlab.plan.quantplan import NodePlan, QuantPlan, TensorPlan
from quantlab.plan.wishes import Role

BIAS_HEADROOM = 1.0001
BIAS_SPAN = float(2**32 - 2)

_SMALLEST = {kind: np.finfo(kind).smallest_subnormal for kind in FLOATS.values()}
"""Smallest positive number of each type; NumPy works it out each time anew."""


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
    if plan.numerics.widen_weights:
        _widen_for_biases(plan, done, view)
    factors = {**done, **_likes(plan, done)}
    for name, tensor in plan.tensors.items():
        if tensor.like is not None:
            done[name] = _shared(name, tensor, done)
        elif tensor.product is not None:
            done[name] = _bias(name, tensor, factors, view)
    notes = tuple(dict.fromkeys([*plan.notes, *_saturated(done, view)]))
    found = _judged(replace(plan, tensors={name: done[name] for name in plan.tensors}, notes=notes), view)
    return with_obstacles(found, view) if plan.format == "QOperator" else found


def _saturated(done: Mapping[str, TensorPlan], view: GraphView) -> Iterator[str]:
    """Say of each bias that its scale is too fine for 32 bits, which cannot be where weights are widened."""
    for name, tensor in done.items():
        values = None if tensor.product is None else view.constant(name)
        if tensor.qparams is None or values is None or not values.size:
            continue
        steps = np.abs(values.astype(np.float64)) / tensor.qparams.scale.astype(np.float64)
        if float(steps.max()) > INT32.qmax:
            yield f"bias {name!r} saturates: {float(steps.max()):.3g} steps of its scale do not fit into 32 bits"


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
    found = {}
    for name, tensor in plan.tensors.items():
        if tensor.like and tensor.like in done:
            root = done[tensor.like]
            found[name] = replace(root, qparams=root.followed(True)) if tensor.on_converted else root
    return found


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


def _followed(plan: QuantPlan, tensor: TensorPlan) -> list[QParams | None]:
    """Return the numbers that a tensor follows: those of an activation, or of one and a weight."""
    if tensor.like is not None:
        return [plan.tensors[tensor.like].followed(tensor.on_converted)]
    if tensor.product is None:
        return []
    x, w = (plan.tensors[factor] for factor in tensor.product)
    return [x.followed(tensor.on_converted), w.qparams]


def stale(plan: QuantPlan) -> Iterator[str]:
    """Find the tensors of a resolved plan whose numbers do not follow from those they should follow from.

    Args:
        plan: A plan with all its numbers.

    Yields:
        Names of tensors that share a grid or are biases.
    """
    for name, tensor in plan.tensors.items():
        sources = _followed(plan, tensor)
        if tensor.qparams is None or any(source is None for source in sources):
            continue
        if tensor.like is not None and tensor.qparams != sources[0]:
            yield name
        elif tensor.product is not None:
            x, w = (source for source in sources if source is not None)
            wanted, scale = product_scale(x, w, tensor.factor), tensor.qparams.scale
            if not np.array_equal(wanted if wanted.shape == scale.shape else np.resize(wanted, scale.shape), scale):
                yield name


def _numbers(
    name: str, tensor: TensorPlan, plan: QuantPlan, ranges: Mapping[str, Calibrated], view: GraphView
) -> TensorPlan:
    if tensor.resolved:
        return tensor
    try:
        if tensor.qparams is None:
            found = _range(name, tensor, ranges, view, by_deviation=plan.numerics.deviation_scales)
            values = _with_ends(found.values.astype(tensor.dtype), tensor.ends)
            source = found.source if tensor.ends is None else f"{found.source}; one end given by an override"
            exact = found.values if tensor.spec.dtype.is_float and tensor.ends is None else values
            grid = _grid(exact, tensor.spec, tensor.role, plan, tensor.dtype)
            tensor = replace(tensor, values=values, source=source, qparams=grid)
        if tensor.convert is not None and tensor.convert.qparams is None:
            tensor = replace(tensor, convert=_converted(name, tensor, tensor.convert, plan, ranges, view))
    except RangeError as error:
        raise RangeError(f"tensor {name!r}: {error}") from error
    return tensor


def _converted(
    name: str,
    tensor: TensorPlan,
    second: Conversion,
    plan: QuantPlan,
    ranges: Mapping[str, Calibrated],
    view: GraphView,
) -> Conversion:
    """Compute the second grid, from the range that was measured unless it has one of its own."""
    values = second.values
    if values is None:
        measured = name in ranges or tensor.fixed is not None
        found = _range(name, replace(tensor, values=None) if measured else tensor, ranges, view)
        values = _with_ends(found.values.astype(tensor.dtype), second.ends)
    return replace(second, values=values, qparams=_grid(values, second.spec, tensor.role, plan, tensor.dtype))


def _with_ends(values: Range, ends: tuple[float | None, float | None] | None) -> Range:
    """Put one given end in place of the measured one; ranges contain 0, so that no end passes the other."""
    if ends is None:
        return values
    kind = values.dtype.type
    lo, hi = (kind(was if end is None else end) for was, end in zip((values.lo, values.hi), ends, strict=True))
    return Range(np.minimum(lo, kind(0)), np.maximum(hi, kind(0)))


def _grid(values: Range, spec: QuantSpec, role: Role, plan: QuantPlan, kind: str) -> QParams:
    least, numerics = plan.min_real_range, plan.numerics
    if spec.dtype.is_float:
        return float8_qparams(values, spec, kind, least)
    if numerics.restricted and role == "activation" and spec.dtype == UINT8 and not spec.symmetric:
        return restricted_qparams(values, spec, min_real_range=least)
    return qparams_from_range(values, spec, min_real_range=least, degenerate=numerics.degenerate)


def _range(
    name: str,
    tensor: TensorPlan,
    ranges: Mapping[str, Calibrated],
    view: GraphView,
    *,
    by_deviation: bool = False,
) -> Calibrated:
    if tensor.values is not None:
        return Calibrated(values=tensor.values, source=tensor.source or "given in the plan")
    if (constant := view.constant(name)) is not None:
        spec = tensor.spec
        if by_deviation and spec.dtype.is_float and spec.block_size is None:
            return Calibrated(values=deviation_range(constant, spec), source="deviation of the constant's values")
        part = "" if spec.axis is None else f" of each channel of axis {spec.axis}"
        if spec.axis is not None and spec.block_size is not None:
            part, values = f" of each block of {spec.block_size} along axis {spec.axis}", _blocks(constant, spec)
        else:
            values = constant_range(constant, spec.axis)
        source = f"smallest and largest of the constant's {constant.size:,} values{part}"
        return Calibrated(values=values, source=source)
    if tensor.fixed is not None:
        ends = np.asarray(tensor.fixed, tensor.dtype)
        source = f"{tensor.fixed[0]:g}..{tensor.fixed[1]:g} by the definition of the operator"
        return Calibrated(values=Range(ends[0], ends[1]), source=source)
    measured = tensor.range_of or name
    if measured not in ranges:
        raise DataError(f"no range is known for tensor {measured!r}: calibrate it, or give it a range in the plan")
    return ranges[measured]


def _blocks(values: npt.NDArray[Any], spec: QuantSpec) -> Range:
    assert spec.axis is not None
    assert spec.block_size is not None
    return block_range(values, spec.axis, spec.block_size)


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
    return None if tensor is None else tensor.followed(plan.tensors[name].on_converted)


def _widen_for_biases(plan: QuantPlan, done: dict[str, TensorPlan], view: GraphView) -> None:
    for name, tensor in plan.tensors.items():
        if tensor.product is None or tensor.qparams is not None:
            continue
        x, w = (_grid_of(factor, plan, done) for factor in tensor.product)
        first, weight = (done.get(factor) for factor in tensor.product)
        if tensor.on_converted and first is not None:
            x = first.followed(True)
        if plan.tensors[tensor.product[1]].qparams is not None:
            continue  # given numbers stand; a bias that does not fit saturates, and a note says so
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
    """Return the widened weight scale, or None where the bias fits as it is.

    What channels need is computed in float32 up to the division, as in onnxruntime.quantization; the rest in float64.
    """
    bias = np.abs(np.ravel(bias).astype(np.float32 if per_channel else np.float64))
    largest = bias.reshape(-1, w.scale.size).max(axis=0) if per_channel else bias.max(initial=0.0)
    need = BIAS_HEADROOM * (2.0 * largest) / np.float64(BIAS_SPAN)
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
    spec, values = root.spec, root.values
    if tensor.on_converted and root.convert is not None:
        spec, values = root.convert.spec, root.convert.values
    return replace(tensor, spec=spec, values=values, source=source, qparams=root.followed(tensor.on_converted))


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
    return np.asarray(np.maximum(scale, _SMALLEST[scale.dtype]))


def _bias(name: str, tensor: TensorPlan, done: Mapping[str, TensorPlan], view: GraphView) -> TensorPlan:
    assert tensor.product is not None
    if tensor.qparams is not None:
        return tensor
    x, w = done[tensor.product[0]].followed(tensor.on_converted), done[tensor.product[1]].qparams
    values = view.constant(name)
    assert x is not None
    assert w is not None
    assert values is not None
    scale = product_scale(x, w, tensor.factor)
    if tensor.spec.per_channel:
        groups = values.shape[tensor.spec.axis or 0] // scale.size
        scale = scale if groups == 1 else np.tile(scale, groups)
    source = f"scale of {tensor.product[0]!r} times scale of {tensor.product[1]!r}"
    grid = QParams(scale=scale, zero_point=np.zeros(scale.shape, np.int64), spec=tensor.spec)
    return replace(tensor, source=source, qparams=grid)
