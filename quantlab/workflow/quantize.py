"""The one flow: prepare, decide, measure, compute, write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from quantlab.arrays import QuantSpec
from quantlab.backend import Batch
from quantlab.calibration import calibrator
from quantlab.graph import GraphView
from quantlab.graph.check import check_float_model
from quantlab.graph.prepare import prepare
from quantlab.plan import QuantPlan, Recipe, draft, refine, resolve
from quantlab.progress import Track, quiet
from quantlab.rewrite import insert_qdq
from quantlab.rewrite.provenance import embed_plan
from quantlab.workflow.engine import Engine
from quantlab.workflow.measure import calibrated

PER_CHANNEL_OPSET = 13
FLOAT16_OPSET = 19


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A float model that is ready to be planned.

    Attributes:
        model: The prepared copy.
        notes: What preparing changed, and what it left alone and why.
        gone: Names of nodes that the original had and the copy has not.
    """

    model: onnx.ModelProto
    notes: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class QuantResult:
    """What quantizing gives.

    Attributes:
        model: The quantized model.
        plan: Every decision and number in it.
        prepared: The float model it was made from.
    """

    model: onnx.ModelProto
    plan: QuantPlan
    prepared: Prepared


def prepare_for(model: onnx.ModelProto, recipe: Recipe = Recipe()) -> Prepared:  # noqa: B008  # a frozen value
    """Check a float model and bring it into the form that plans are made for.

    Args:
        model: A float model; it is not changed.
        recipe: Says which types are wanted, and so which opset is needed.

    Returns:
        The prepared copy.

    Raises:
        ModelError: The model is broken, already quantized, or cannot be raised to the opset that is needed.
    """
    check_float_model(model)
    result = prepare(model, min_opset=needed_opset(model, recipe))
    kept = {node.name for node in result.model.graph.node}
    gone = tuple(node.name for node in model.graph.node if node.name and node.name not in kept)
    return Prepared(model=result.model, notes=result.notes, gone=gone)


def needed_opset(model: onnx.ModelProto, recipe: Recipe) -> int:
    """Return the opset that a recipe's grids need: 13 for scales per channel, more for narrow and wide integers."""
    specs: list[QuantSpec | None] = [recipe.activation, recipe.weight]
    specs += [spec for rule in recipe.rules for spec in (rule.activation, rule.weight)]
    floor = max(spec.dtype.min_opset for spec in specs if spec is not None)
    return max(PER_CHANNEL_OPSET, floor, FLOAT16_OPSET if _has_float16(model.graph) else 0)


def _has_float16(graph: onnx.GraphProto) -> bool:
    """Say whether any tensor may be float16: given, stated, or made by a node that turns something into it."""
    half = onnx.TensorProto.FLOAT16
    values = (*graph.input, *graph.output, *graph.value_info)
    if any(tensor.data_type == half for tensor in graph.initializer):
        return True
    if any(value.type.tensor_type.elem_type == half for value in values):
        return True
    return any(half in (attribute.i, attribute.t.data_type) for node in graph.node for attribute in node.attribute)


def decide(prepared: Prepared, recipe: Recipe) -> QuantPlan:
    """Plan a prepared model: which tensors get which grid, and why; no number is touched.

    Args:
        prepared: What `prepare_for` returned.
        recipe: What is wanted.

    Returns:
        A plan without numbers.

    Raises:
        OptionError: The recipe names a node or operator that does not exist.
    """
    view = GraphView.of(prepared.model)
    return refine(draft(view, recipe, prepared.gone), view)


def calibrate(
    prepared: Prepared,
    plan: QuantPlan,
    batches: Iterable[Batch],
    recipe: Recipe,
    *,
    engine: Engine | None = None,
    track: Track = quiet,
) -> QuantPlan:
    """Measure what a plan asks for, and compute its numbers.

    Args:
        prepared: What `prepare_for` returned.
        plan: A plan for it; numbers that it already has are kept.
        batches: Input name to array, one mapping a sample.
        recipe: Names the range rule.
        engine: How to carry it out; onnxruntime on all cores of this machine by default.
        track: Shows progress.

    Returns:
        The plan with all its numbers.

    Raises:
        DataError: No data, or NaN in it.
        OptionError: The range rule or one of its options does not exist.
    """
    rule = calibrator(recipe.calibrate, recipe.calibrate_options)
    wanted = plan.observed()
    ranges = {}
    if wanted:
        empty = {name: rule.empty() for name in wanted}
        options = [recipe.calibrate, dict(recipe.calibrate_options)]
        seen = (engine or Engine()).measure(prepared.model, empty, batches, options=options, track=track)
        ranges = calibrated(plan, rule, seen)
    return resolve(plan, ranges, GraphView.of(prepared.model))


def write(prepared: Prepared, plan: QuantPlan) -> QuantResult:
    """Write a plan with all its numbers into the prepared model, and the plan's reasons beside them.

    Args:
        prepared: What `prepare_for` returned.
        plan: A resolved plan.

    Returns:
        The quantized model with its plan.

    Raises:
        OptionError: Some tensor has no numbers yet.
    """
    return QuantResult(model=embed_plan(insert_qdq(prepared.model, plan), plan), plan=plan, prepared=prepared)


def quantize(
    model: onnx.ModelProto,
    batches: Iterable[Batch],
    recipe: Recipe = Recipe(),  # noqa: B008  # a frozen value
    *,
    engine: Engine | None = None,
    track: Track = quiet,
) -> QuantResult:
    """Quantize a float model with calibration data.

    Args:
        model: A float model; it is not changed.
        batches: Input name to array, one mapping a sample; see `quantlab.data.batches`.
        recipe: What is wanted.
        engine: How calibration is carried out; onnxruntime on all cores of this machine by default.
        track: Shows progress.

    Returns:
        The quantized model, its plan, and the prepared float model.

    Raises:
        ModelError: The model cannot be used.
        DataError: The data cannot be used.
        OptionError: The recipe does not fit the model.
    """
    prepared = prepare_for(model, recipe)
    plan = decide(prepared, recipe)
    return write(prepared, calibrate(prepared, plan, batches, recipe, engine=engine, track=track))
