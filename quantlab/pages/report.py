"""The report: one page on what quantization did to a model, from the outputs down to every tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import onnx

from quantlab.backend import Backend, Batch, OrtBackend
from quantlab.calibration import Histogram
from quantlab.debug.attribution import attribute as attributed
from quantlab.debug.compare import compare
from quantlab.debug.findings import Comparison, TensorError
from quantlab.errors import OptionError
from quantlab.graph import GraphView
from quantlab.pages.drawing import drawing
from quantlab.pages.facts import kept_in_float, model_facts, plan_facts, surroundings
from quantlab.pages.page import Page, assembled
from quantlab.pages.rows import rounded, rows
from quantlab.progress import Track, quiet
from quantlab.rewrite.provenance import embedded_plan
from quantlab.workflow.quantize import prepare_for, require_repeatable
from quantlab.workflow.recurrence import NO_STATE, State

SCRIPTS = (
    "dom.js",
    "scales.js",
    "detail.js",
    "table.js",
    "depth.js",
    "fold.js",
    "map.js",
    "graph.js",
    "sections.js",
    "start.js",
)


def report(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    batches: Iterable[Batch],
    *,
    attribute: bool = False,
    title: str = "",
    backend: Backend | None = None,
    state: State = NO_STATE,
    track: Track = quiet,
) -> Page:
    """Compare two models and show what was found on one self-contained HTML page.

    Args:
        float_model: The float model, prepared or not.
        quantized_model: Its quantized version, by whatever tool.
        batches: Input name to array, one mapping a sample; gone over once, and several times with `attribute`.
        attribute: Whether to find out which tensors the error at the outputs comes from, which takes many more runs.
        title: Title of the page; the name of the quantized model's graph by default.
        backend: Runs the models; onnxruntime by default.
        state: Outputs that each model is fed back, as in `Engine`: output to input.
        track: Shows progress.

    Returns:
        The page; `save` writes it, and a notebook shows it.

    Raises:
        ModelError: The models' inputs or outputs have different names, or nothing in the second one is quantized.
        DataError: There is no data, or `attribute` finds that it can be read only once.
        OptionError: One of the models has no such output or input to feed back, or `attribute` comes with a state.

    Example:
        >>> import quantlab
        >>> from quantlab.demo import digits, float_model
        >>> model, samples = quantlab.load(float_model()), [{"image": digits().test_images[:20]}]
        >>> page = quantlab.report(model, quantlab.quantize(model, samples).model, samples)
        >>> page.html[:15], "https://" in page.html
        ('<!doctype html>', False)
    """
    backend = backend or OrtBackend(threads=1)
    if attribute:
        require_repeatable(batches, "to find out where error comes from takes several passes")
        if state:
            raise OptionError(
                f"attribute=True runs single samples many times, which cannot feed back {sorted(state)}: "
                "leave out either attribute or state"
            )
    found = compare(float_model, quantized_model, batches, histograms=True, backend=backend, state=state, track=track)
    if attribute:
        split = attributed(float_model, quantized_model, batches, backend=backend, track=track)
        found = replace(found, attribution=split)
    return report_page(found, float_model, quantized_model, title=title)


def report_page(
    found: Comparison, float_model: onnx.ModelProto, quantized_model: onnx.ModelProto, *, title: str = ""
) -> Page:
    """Show a comparison that was made before.

    Args:
        found: What `quantlab.compare` gave; with histograms, if they are to be shown.
        float_model: The float model that was compared.
        quantized_model: The quantized one.
        title: Title of the page; the name of the quantized model's graph by default.

    Returns:
        The page.
    """
    title = title or quantized_model.graph.name or "quantized model"
    data = _data(found, float_model, quantized_model) | {
        "title": title,
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }
    return assembled(title, data, template="report.html", style="report.css", scripts=SCRIPTS)


def _data(found: Comparison, float_model: onnx.ModelProto, quantized_model: onnx.ModelProto) -> dict[str, Any]:
    plan, view = embedded_plan(quantized_model), _compared(found, float_model)
    return {
        "tensors": rows([*_counted(found.tensors, view), *found.outputs], plan.tensors if plan else {}),
        "agreement": found.agreement,
        "metrics": rounded(found.metrics),
        "samples": found.samples,
        "unmatched": [[row.name, row.reason] for row in found.unmatched],
        "attribution": None if found.attribution is None else rounded(found.attribution.to_json()),
        "models": {"float": model_facts(float_model), "quantized": model_facts(quantized_model)},
        "plan": plan_facts(plan) if plan else None,
        "kept": kept_in_float(plan) if plan else [],
        "graph": drawing(view, plan.nodes if plan else {}),
        "surroundings": surroundings(),
    }


def _compared(found: Comparison, float_model: onnx.ModelProto) -> GraphView:
    """Return the float graph whose tensors were compared: prepared as for quantization, or as it is."""
    forms = [GraphView.of(prepare_for(float_model).model), GraphView.of(float_model)]
    return max(
        forms, key=lambda view: sum(row.name in view.producers or row.name in view.constants for row in found.tensors)
    )


def _counted(errors: Iterable[TensorError], view: GraphView) -> Iterator[TensorError]:
    """Give constants their histograms: comparing counts only what has to be run to be seen."""
    for error in errors:
        values = view.constant(error.name) if error.histogram is None else None
        if values is None or values.dtype.kind != "f":
            yield error
        else:
            yield replace(error, histogram=Histogram().update(values))
