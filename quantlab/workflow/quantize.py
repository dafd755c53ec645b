"""The one flow: prepare, decide, measure, compute, write."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx

from quantlab.arrays import QuantSpec
from quantlab.backend import Batch
from quantlab.calibration import RangeTable, TwoPassRule, calibrator
from quantlab.errors import DataError, OptionError, QuantlabWarning
from quantlab.graph import GraphView
from quantlab.graph.prepare import prepare
from quantlab.graph.scopes import Scope, scopes_of, with_bodies
from quantlab.plan import QuantPlan, Recipe, draft, refine, resolve
from quantlab.plan.forms import known_operators
from quantlab.plan.runnable import joined_float8
from quantlab.progress import Track, quiet
from quantlab.rewrite import insert_qdq, write_qoperator
from quantlab.rewrite.integer_ends import integer_ends
from quantlab.rewrite.provenance import embed_plan
from quantlab.workflow.bodies import BodyBatches
from quantlab.workflow.engine import Engine
from quantlab.workflow.fitting import check_fit, heard
from quantlab.workflow.ladder import shape_ladder, without_type
from quantlab.workflow.measure import Statistics, calibrated
from quantlab.workflow.nonfinite import warn_of_left_out
from quantlab.workflow.ranges import check_origin, kept_ranges

PER_CHANNEL_OPSET = 13
BLOCK_OPSET = 21
FLOAT16_OPSET = 19


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A float model that is ready to be planned.

    Attributes:
        model: The prepared copy.
        notes: What preparing changed, and what it left alone and why.
        gone: Names of nodes that the original had and the copy has not.
        bodies: Bodies of If, Loop and Scan that are quantized too, prepared as models of their own, by name.
    """

    model: onnx.ModelProto
    notes: tuple[str, ...]
    gone: tuple[str, ...]
    bodies: Mapping[str, PreparedBody] = field(default_factory=dict)

    @cached_property
    def view(self) -> GraphView:
        """An index of the model, which planning, computing and writing share."""
        return GraphView.of(self.model)

    def walk(self) -> Iterator[Prepared]:
        """Yield this and, however deep, the bodies within."""
        yield self
        for body in self.bodies.values():
            yield from body.prepared.walk()


@dataclass(frozen=True, kw_only=True)
class PreparedBody:
    """The body of a control-flow node, ready to be planned.

    Attributes:
        scope: Where it belongs.
        prepared: The body as a prepared model.
    """

    scope: Scope
    prepared: Prepared


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
    opset = needed_opset(model, recipe)
    result = prepare(model, min_opset=opset, shapes=shape_ladder(), optimize=recipe.optimize)
    if unknown := without_type(result.model):
        warnings.warn(
            f"{len(unknown)} tensors have no known type and stay in float, the first is {unknown[0]!r}: "
            "`quantlab preprocess --data` (quant_pre_process(data=...)) finds their types by running the model",
            QuantlabWarning,
            stacklevel=2,
        )
    kept = {node.name for node in result.model.graph.node}
    gone = tuple(node.name for node in model.graph.node if node.name and node.name not in kept)
    bodies = {
        scope.key: PreparedBody(scope=scope, prepared=prepare_for(scope.model, recipe))
        for scope in (scopes_of(result.model) if recipe.subgraphs else ())
        if scope.typed
    }
    inner = [f"{key}: {note}" for key, body in bodies.items() for note in body.prepared.notes]
    return Prepared(model=result.model, notes=(*result.notes, *inner), gone=gone, bodies=bodies)


def needed_opset(model: onnx.ModelProto, recipe: Recipe) -> int:
    """Return the opset that a recipe's grids need: 13 for scales per channel, more for narrow and wide integers."""
    specs: list[QuantSpec | None] = [recipe.activation, recipe.weight]
    specs += [spec for rule in recipe.rules for spec in (rule.activation, rule.weight)]
    types = [spec.dtype for spec in specs if spec is not None]
    grids = [grid for entry in recipe.overrides.values() for grid in (entry.grid, entry.convert) if grid is not None]
    floor = max(kind.min_opset for kind in (*types, *(grid.dtype for grid in grids)) if kind is not None)
    blocks = BLOCK_OPSET if recipe.block_size is not None else 0
    return max(PER_CHANNEL_OPSET, floor, blocks, FLOAT16_OPSET if _has_float16(model.graph) else 0)


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
        OptionError: The recipe names a node or operator that does not exist, or an override does not fit the model.
    """
    if recipe.format == "QOperator":
        _warn_of_slow_types(recipe)
    everything = list(prepared.walk())
    nodes = [node for part in everything for node in part.model.graph.node]
    unused = recipe.check(nodes, known_operators(recipe.format), [name for part in everything for name in part.gone])
    views = [part.view for part in everything]
    check_fit(recipe, views)
    plan = heard(_decided(prepared, recipe, unused), recipe, views)
    if recipe.has_float8:
        _warn_of_float8(plan, views)
    return plan


def _warn_of_float8(plan: QuantPlan, views: Iterable[GraphView]) -> None:
    """Warn of a model that onnxruntime loads only if told to optimize less."""
    lines = (line for part, view in zip(plan.walk(), views, strict=True) for line in joined_float8(part, view))
    if (line := next(lines, None)) is not None:
        warnings.warn(line, QuantlabWarning, stacklevel=3)


def _warn_of_slow_types(recipe: Recipe) -> None:
    """Warn of int8 activations on x86-64, where onnxruntime's fast kernels multiply uint8 by int8."""
    specs = (recipe.activation, *(rule.activation for rule in recipe.rules if rule.activation is not None))
    if platform.machine().lower() in ("x86_64", "amd64") and any(spec.dtype.signed for spec in specs):
        warnings.warn(
            "int8 activations in format QOperator run slower than float on x86-64: take activation type uint8, or "
            "format QDQ, whose models onnxruntime converts to uint8 by itself",
            QuantlabWarning,
            stacklevel=3,
        )


def _decided(prepared: Prepared, recipe: Recipe, notes: Iterable[str] = ()) -> QuantPlan:
    view = prepared.view
    bodies = {key: _decided(body.prepared, recipe) for key, body in prepared.bodies.items()}
    return replace(refine(draft(view, recipe, notes), view), bodies=bodies)


def observe(
    prepared: Prepared,
    plan: QuantPlan,
    batches: Iterable[Batch],
    recipe: Recipe,
    *,
    engine: Engine | None = None,
    track: Track = quiet,
) -> Statistics:
    """Measure what a plan asks for, with the statistic that a recipe's range rule needs.

    Args:
        prepared: What `prepare_for` returned.
        plan: A plan for it; tensors that have numbers already are not measured.
        batches: Input name to array, one mapping a sample.
        recipe: Names the range rule.
        engine: How to carry it out; onnxruntime on all cores of this machine by default.
        track: Shows progress.

    Returns:
        Tensor to statistic.

    Raises:
        DataError: No data, or NaN in it; or it can be read only once, and the range rule reads it twice.
        OptionError: The range rule or one of its options does not exist.
    """
    rule = calibrator(recipe.calibrate, recipe.calibrate_options)
    names, engine = plan.observed(), engine or Engine()
    if not names:
        return {}
    options = [recipe.calibrate, dict(recipe.calibrate_options)]

    def measured(engine: Engine, empty: Statistics) -> Statistics:
        return engine.measure(prepared.model, empty, batches, options=options, nonfinite=recipe.nonfinite, track=track)

    if isinstance(rule, TwoPassRule):
        require_repeatable(batches, f"range rule {recipe.calibrate!r} reads the data twice")
        first = measured(engine, {name: rule.first() for name in names})
        seen = measured(engine.second_pass(), {name: rule.second(first[name]) for name in names})
    else:
        seen = measured(engine, {name: rule.empty() for name in names})
    if recipe.nonfinite == "count":
        warn_of_left_out(seen)
    return seen


def require_repeatable(batches: Iterable[Batch], why: str) -> None:
    """Refuse data that is gone after the first pass where another one follows.

    Args:
        batches: The data.
        why: What needs the other pass.

    Raises:
        DataError: It can be read only once.
    """
    if isinstance(batches, Iterator) or not getattr(batches, "repeatable", True):
        raise DataError(
            f"{why}, and this data can be read only once: "
            "give arrays, files, a folder or a list, or give the reader a method rewind()"
        )


def calibrate(
    prepared: Prepared,
    plan: QuantPlan,
    batches: Iterable[Batch] | None,
    recipe: Recipe,
    *,
    ranges: RangeTable | None = None,
    engine: Engine | None = None,
    track: Track = quiet,
) -> QuantPlan:
    """Measure what a plan asks for, and compute its numbers.

    Args:
        prepared: What `prepare_for` returned.
        plan: A plan for it; numbers that it already has are kept.
        batches: Input name to array, one mapping a sample; None where there are ranges.
        recipe: Names the range rule.
        ranges: Ranges that were measured before, for every tensor that the plan would measure; nothing is run then.
        engine: How to carry it out; onnxruntime on all cores of this machine by default.
        track: Shows progress.

    Returns:
        The plan with all its numbers.

    Raises:
        DataError: No data, or NaN in it; or ranges that are missing, the text names them.
        OptionError: The range rule or one of its options does not exist; or there are both data and ranges.
    """
    view = prepared.view
    if ranges is not None:
        if batches is not None:
            raise OptionError("batches and ranges exclude each other: give None for the one that is not to be used")
        if plan.bodies:
            raise OptionError(
                f"ranges are kept for the main graph only, and the plan has {next(iter(plan.bodies))!r}: "
                "give data, or leave out subgraphs"
            )
        return resolve(plan, kept_ranges(ranges, plan, view), view)
    data = () if batches is None else batches
    seen = observe(prepared, plan, data, recipe, engine=engine, track=track)
    rule = calibrator(recipe.calibrate, recipe.calibrate_options)
    found = resolve(plan, calibrated(plan, rule, seen), view)
    return calibrate_bodies(prepared, found, data, recipe, engine or Engine(), track) if plan.bodies else found


def calibrate_bodies(
    prepared: Prepared, plan: QuantPlan, batches: Iterable[Batch], recipe: Recipe, engine: Engine, track: Track
) -> QuantPlan:
    """Compute the numbers of bodies, each from the samples that reach it; one that none reaches stays in float.

    Args:
        prepared: What `prepare_for` returned.
        plan: Its plan, with bodies.
        batches: Samples of the main graph; they are read once more for each body.
        recipe: Names the range rule.
        engine: How to carry it out; a body is measured in this process, without a checkpoint.
        track: Shows progress.

    Returns:
        The plan without the bodies that no sample reached; a note names each.

    Raises:
        DataError: The data can be read only once, or as for `calibrate`.
    """
    if any(any(body.every_observed()) for body in plan.bodies.values()):
        require_repeatable(batches, "a body of a control-flow node is measured in a pass of its own")
    local = replace(engine, executor=None, shards=1, checkpoint=None, state={})
    bodies, notes = {}, list(plan.notes)
    for key, planned in plan.bodies.items():
        body = prepared.bodies[key]
        samples = BodyBatches(
            backend=engine.backend, model=prepared.model, scope=body.scope, batches=batches, state=engine.state
        )
        if any(planned.every_observed()) and next(iter(samples), None) is None:
            notes.append(f"{key} stays in float: no calibration sample reaches it")
        else:
            bodies[key] = calibrate(body.prepared, planned, samples, recipe, engine=local, track=track)
    return replace(plan, bodies=bodies, notes=tuple(notes))


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
    ends = {"inputs": plan.layout.integer_inputs, "outputs": plan.layout.integer_outputs}
    model = integer_ends(_written(prepared, plan), **ends)
    return QuantResult(model=embed_plan(model, plan), plan=plan, prepared=prepared)


def _written(prepared: Prepared, plan: QuantPlan) -> onnx.ModelProto:
    bodies = {key: _written(prepared.bodies[key].prepared, body) for key, body in plan.bodies.items()}
    writer = insert_qdq if plan.format == "QDQ" else write_qoperator
    if bodies:
        return writer(with_bodies(prepared.model, bodies), plan)
    return writer(prepared.model, plan, view=prepared.view)


def quantize(
    model: onnx.ModelProto,
    batches: Iterable[Batch] | None = None,
    recipe: Recipe = Recipe(),  # noqa: B008  # a frozen value
    *,
    ranges: RangeTable | None = None,
    engine: Engine | None = None,
    track: Track = quiet,
) -> QuantResult:
    """Quantize a float model with calibration data, or with ranges that were measured before.

    Args:
        model: A float model; it is not changed.
        batches: Input name to array, one mapping a sample; see `quantlab.data.batches`.
        recipe: What is wanted.
        ranges: Ranges to take instead, such as `load_ranges` reads; a warning says where they are of another model.
        engine: How calibration is carried out; onnxruntime on all cores of this machine by default.
        track: Shows progress.

    Returns:
        The quantized model, its plan, and the prepared float model.

    Raises:
        ModelError: The model cannot be used.
        DataError: The data cannot be used.
        OptionError: The recipe does not fit the model.
    """
    if ranges is not None:
        check_origin("ranges", ranges.meta, model)
    prepared = prepare_for(model, recipe)
    plan = decide(prepared, recipe)
    return write(prepared, calibrate(prepared, plan, batches, recipe, ranges=ranges, engine=engine, track=track))
