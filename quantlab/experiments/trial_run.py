"""Running one trial: make its model, write it, and measure its quality. It can be sent to any process.

Quality is measured on the model as it runs, with nothing tapped: a tensor that is read out of the middle keeps
onnxruntime from fusing the operators around it, and the last bits of the outputs may differ then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from quantlab.backend import OrtBackend, signature
from quantlab.calibration import RangeTable
from quantlab.data import Batches
from quantlab.errors import DataError
from quantlab.experiments.environment import Environment
from quantlab.experiments.results import Row
from quantlab.experiments.sampling import Sampling
from quantlab.experiments.trials import Trial, blamed
from quantlab.graph.files import load, model_size, save
from quantlab.metrics import MetricLike, TaskMetric, task_metric
from quantlab.plan import QuantPlan
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import quantize


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One trial with all it needs.

    Attributes:
        trial: The trial.
        key: Hash of all that its result depends on.
        reference: File of the float model that it is made from and compared with.
        out: File to write its model to; None for the model that is compared with itself.
        ranges: Ranges that were measured for it; None where it has to measure by itself, or measures nothing.
        calibration: Its calibration data.
        evaluation: Data to measure its quality on.
        metrics: What is measured there, by heading.
        loss: The loss.
        labels: Arrays of the data that are no inputs.
        backend: Runs the models.
        engine: How a trial that measures by itself is calibrated.
    """

    trial: Trial
    key: str
    reference: Path
    out: Path | None
    ranges: RangeTable | None
    calibration: Sampling
    evaluation: Sampling
    metrics: Mapping[str, MetricLike]
    loss: MetricLike
    labels: tuple[str, ...]
    backend: OrtBackend
    engine: Engine


def run(task: Task) -> Row:
    """Make the model of a trial and measure its quality.

    Args:
        task: The trial.

    Returns:
        Its row, without times.

    Raises:
        QuantlabError: It cannot be made or measured; the text names the trial.
    """
    with blamed(task.trial.name):
        return _run(task)


def _run(task: Task) -> Row:
    reference = load(task.reference)
    model, plan = _made(task, reference)
    if task.out is not None:
        save(model, task.out)
    batches = task.evaluation.open(signature(reference), labels=task.labels)
    outputs = [value.name for value in reference.graph.output]
    measured = [task_metric(task.loss), *map(task_metric, task.metrics.values())]
    ratios = [task_metric("sqnr", output=name) for name in outputs]
    loss, *rest = evaluate(reference, model, batches, [*measured, *ratios], task.backend)
    trial = task.trial
    return Row(
        trial=trial.name,
        key=task.key,
        options=plain(trial.options),
        fuse=plain(trial.fuse),
        recipe=None if trial.recipe is None else plain(trial.recipe.to_json()),
        calibration=None if trial.recipe is None else task.calibration.to_json(),
        model=str(task.out or task.reference),
        size_bytes=model_size(task.out or task.reference),
        nodes=len(model.graph.node),
        left_float={} if plan is None else _left_float(plan),
        notes=() if plan is None else plan.notes,
        loss=loss,
        metrics=dict(zip(task.metrics, rest, strict=False)),
        sqnr_db=dict(zip(outputs, rest[len(task.metrics) :], strict=True)),
        environment=Environment.of(task.backend),
    )


def _left_float(plan: QuantPlan) -> dict[str, str]:
    return {name: node.reason for name, node in plan.every_node().items() if node.status == "float"}


def _made(task: Task, reference: onnx.ModelProto) -> tuple[onnx.ModelProto, QuantPlan | None]:
    """Return the model of a trial, and its plan if it is quantized."""
    source = task.trial.source(reference)
    recipe = task.trial.recipe
    if recipe is None:
        return source, None
    if task.ranges is not None:
        result = quantize(source, None, recipe, ranges=task.ranges)
        return result.model, result.plan
    model, data = signature(reference), task.calibration
    own = data.open(model, labels=data.having(task.labels, model), like=task.evaluation)
    result = quantize(source, own, recipe, engine=task.engine)
    return result.model, result.plan


def evaluate(
    reference: onnx.ModelProto,
    model: onnx.ModelProto,
    batches: Batches,
    metrics: Sequence[TaskMetric],
    backend: OrtBackend,
) -> list[float]:
    """Run two models over data and return what metrics say of the second one.

    Args:
        reference: The float model.
        model: The model to judge.
        batches: The data, labels included.
        metrics: Fresh metrics.
        backend: Runs the models.

    Returns:
        One number a metric.

    Raises:
        DataError: There is no data, or a metric cannot use it.
        ModelError: A model does not run.
    """
    exact, rounded = backend.open(reference), backend.open(model)
    count = 0
    for batch in batches:
        both = exact(batch), rounded(batch)
        for metric in metrics:
            metric.update(*both, batch)
        count += 1
    if not count:
        raise DataError("there is no data to evaluate on: give at least one sample")
    return [metric.result() for metric in metrics]


def plain(value: Any) -> Any:
    """Return a value as JSON knows it; what JSON does not know becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else repr(value)
