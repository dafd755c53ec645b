"""Compare: run a float model and its quantized version on the same data and say how far each tensor moved, and by what.

Each tensor gets two errors: the local one, of its own grid on the float network's values, and the accumulated one, of
the quantized network against the float network, everything before the tensor included. Sums are streamed, so memory
does not grow with the data; samples are worked on side by side, and their sums are added in the order of the samples,
so that the result has the same bits however many there are at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from queue import SimpleQueue
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx

from quantlab import kernels
from quantlab.backend import Array, Backend, Batch, OrtBackend, Runner, usable_cores
from quantlab.calibration import Histogram
from quantlab.calibration.gather import Gatherer, gatherer
from quantlab.debug.constants import constant_row
from quantlab.debug.findings import Comparison, TensorError, Unmatched
from quantlab.debug.matching import Match, Matching
from quantlab.debug.models import matched
from quantlab.debug.sums import NO_SUMS, Measured, added, numbers
from quantlab.errors import DataError, ModelError
from quantlab.graph.sizes import tensor_bytes
from quantlab.kernels import ErrorSums
from quantlab.progress import Track, known_total, quiet
from quantlab.workflow.measure import BUDGET
from quantlab.workflow.recurrence import NO_STATE, Recurrence, State


class Metric(Protocol):
    """A measure of the outputs that is fed sample by sample, such as `quantlab.metrics.task_metric` makes."""

    def update(self, exact: Mapping[str, Array], rounded: Mapping[str, Array], batch: Batch, /) -> None:
        """Take in one more sample: the outputs of the float and of the quantized model, and what both were fed."""

    def result(self) -> float:
        """Return the measure of all samples."""


NO_METRICS: Mapping[str, Metric] = MappingProxyType({})


def compare(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    batches: Iterable[Batch] | None,
    *,
    histograms: bool = False,
    metrics: Mapping[str, Metric] = NO_METRICS,
    backend: Backend | None = None,
    state: State = NO_STATE,
    track: Track = quiet,
) -> Comparison:
    """Measure what quantization did to every tensor.

    Tensors are matched by structure, see `quantlab.debug.matching`: their names may differ, and the float model may be
    prepared or not. One pass over the data takes memory for a few samples, however many there are.

    Args:
        float_model: The float model, prepared or not.
        quantized_model: Its quantized version, of format QDQ or QOperator, by quantlab or another program.
        batches: Input name to array, one mapping a sample; None compares weights alone.
        histograms: Whether to count the float network's values of every tensor.
        metrics: Name to a fresh measure of the outputs, which is fed the samples in their order.
        backend: Runs the models; onnxruntime with one thread a sample by default.
        state: Outputs that each model is fed back, as in `Engine`: output to input.
        track: Shows progress.

    Returns:
        One row a tensor and output.

    Raises:
        ModelError: The models' inputs or outputs have different names, or nothing in the second one is quantized.
        DataError: There is no data.
        OptionError: One of the models has no such output or input to feed back.
    """
    backend = backend or OrtBackend(threads=1)
    exact, found = matched(float_model, quantized_model)
    rows = [constant_row(each, found) for each in found.tensors if each.name is not None and each.constant]
    plan = _Plan(
        exact=exact,
        rounded=quantized_model,
        matches=tuple(each for each in found.tensors if each.name is not None and not each.constant),
        outputs=tuple(_common_outputs(exact, quantized_model)),
    )
    seen = _Seen(plan=plan, metrics=metrics) if batches is not None else None
    if seen is not None and batches is not None:
        total = known_total(batches)
        samples = track(batches, f"comparing {len(plan.matches)} tensors", total)
        for batch, sample in _run(plan, samples, backend, state, histograms=histograms, seen=seen):
            seen.add(batch, sample)
        if not seen.samples:
            raise DataError("there is no data to compare on: give at least one sample")
        rows += seen.rows()
    return Comparison(
        tensors=tuple(sorted(rows, key=lambda row: row.sqnr_db)),
        outputs=seen.output_rows() if seen is not None else (),
        agreement=seen.agreement if seen is not None else None,
        metrics={name: metric.result() for name, metric in metrics.items()} if seen is not None else {},
        samples=seen.samples if seen is not None else 0,
        unmatched=(*_unmatched(found), *(seen.misfits() if seen is not None else ())),
    )


def _common_outputs(exact: onnx.ModelProto, quantized: onnx.ModelProto) -> list[str]:
    wanted, got = ([value.name for value in model.graph.output] for model in (exact, quantized))
    if wanted != got:
        raise ModelError(f"the two models have different outputs: {wanted} and {got}")
    return wanted


def _unmatched(found: Matching) -> Iterator[Unmatched]:
    for each in found.tensors:
        if each.name is None:
            yield Unmatched(name=each.rounded.after or each.rounded.integers, reason=each.reason)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is compared.

    Attributes:
        exact: The float model.
        rounded: The quantized model.
        matches: Rounded tensors that are computed, with their partners.
        outputs: The models' outputs.
    """

    exact: onnx.ModelProto
    rounded: onnx.ModelProto
    matches: tuple[Match, ...]
    outputs: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The float partners, each once."""
        return list(dict.fromkeys(str(each.name) for each in self.matches))


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """What one sample showed.

    Attributes:
        tensors: The sums of each match, or the two shapes where they differ.
        outputs: The sums of each output.
        exact: Outputs of the float model.
        rounded: Outputs of the quantized model.
    """

    tensors: Sequence[ErrorSums | str]
    outputs: Sequence[ErrorSums]
    exact: Mapping[str, Array]
    rounded: Mapping[str, Array]


@dataclass(kw_only=True)
class _Seen:
    """What all samples so far have shown, and the histograms that are collected meanwhile."""

    plan: _Plan
    metrics: Mapping[str, Metric]
    samples: int = 0
    agreeing: int = 0
    votes: int = 0
    tensors: list[ErrorSums] = field(default_factory=list)
    outputs: list[ErrorSums] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)
    odd: dict[int, str] = field(default_factory=dict)
    gathered: list[dict[str, Gatherer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tensors = [NO_SUMS] * len(self.plan.matches)
        self.outputs = [NO_SUMS] * len(self.plan.outputs)

    def add(self, batch: Batch, sample: _Sample) -> None:
        """Add one more sample."""
        self.samples += 1
        self.dtypes = {name: value.dtype.name for name, value in sample.exact.items()}
        for index, sums in enumerate(sample.tensors):
            if isinstance(sums, str):
                self.odd.setdefault(index, sums)
            else:
                self.tensors[index] = added(self.tensors[index], sums)
        self.outputs = [added(sums, more) for sums, more in zip(self.outputs, sample.outputs, strict=True)]
        votes = _votes(sample.exact[self.plan.outputs[0]], sample.rounded[self.plan.outputs[0]])
        self.agreeing, self.votes = self.agreeing + int(votes.sum()), self.votes + votes.size
        for metric in self.metrics.values():
            metric.update(sample.exact, sample.rounded, batch)

    @property
    def agreement(self) -> float | None:
        """Share of rows on which the first outputs prefer the same class."""
        return self.agreeing / self.votes if self.votes else None

    def rows(self) -> list[TensorError]:
        """Return one row a rounded tensor."""
        counted = self._histograms()
        return [
            TensorError(
                name=str(each.name),
                kind="activation",
                node=each.step.node.name if each.step is not None else "",
                op_type=each.step.node.op_type if each.step is not None else "",
                dtype=each.rounded.grid.spec.dtype.name,
                grid=each.rounded.grid,
                histogram=counted.get(str(each.name)),
                **numbers(sums),
            )
            for index, (each, sums) in enumerate(zip(self.plan.matches, self.tensors, strict=True))
            if index not in self.odd
        ]

    def output_rows(self) -> tuple[TensorError, ...]:
        """Return one row an output."""
        makers = {name: node for node in self.plan.exact.graph.node for name in node.output}
        empty = onnx.NodeProto()
        return tuple(
            TensorError(
                name=name,
                kind="output",
                node=makers.get(name, empty).name,
                op_type=makers.get(name, empty).op_type,
                dtype=self.dtypes[name],
                grid=None,
                **numbers(sums),
            )
            for name, sums in zip(self.plan.outputs, self.outputs, strict=True)
        )

    def misfits(self) -> Iterator[Unmatched]:
        """Yield the tensors whose partner turned out to have another shape."""
        for index, reason in self.odd.items():
            rounded = self.plan.matches[index].rounded
            yield Unmatched(name=rounded.after or rounded.integers, reason=reason)

    def _histograms(self) -> dict[str, Histogram]:
        found: dict[str, Histogram] = {}
        for worker in self.gathered:
            for name, gathered in worker.items():
                seen = gathered.result()
                assert isinstance(seen, Histogram)
                found[name] = found[name].merge(seen) if name in found else seen
        return found


@dataclass(frozen=True, kw_only=True)
class _Models:
    """Both models, opened, and how the sums of each tensor are taken."""

    plan: _Plan
    exact: Runner
    rounded: Runner
    states: tuple[Recurrence, Recurrence]
    measured: Sequence[Measured]
    choice: kernels.Choice

    def sample(self, batch: Batch, gatherers: SimpleQueue[dict[str, Gatherer]]) -> _Sample:
        """Run both models on a sample and sum up what came out; several threads may do so at once."""
        exact, rounded = self.exact(self.states[0].fed(batch)), self.rounded(self.states[1].fed(batch))
        self.states[0].keep(exact)
        self.states[1].keep(rounded)
        mine = gatherers.get()
        with kernels.using(self.choice):
            for name, gathered in mine.items():
                gathered.add(exact[name])
            tensors = [
                _sums(measured, exact[str(each.name)], rounded[each.rounded.integers])
                for each, measured in zip(self.plan.matches, self.measured, strict=True)
            ]
            outputs = [_output_sums(name, exact[name], rounded[name]) for name in self.plan.outputs]
        gatherers.put(mine)
        own = [{name: values[name] for name in self.plan.outputs} for values in (exact, rounded)]
        return _Sample(tensors=tensors, outputs=outputs, exact=own[0], rounded=own[1])


def _output_sums(name: str, exact: Array, rounded: Array) -> ErrorSums:
    if exact.shape != rounded.shape:
        raise ModelError(f"output {name!r} has shape {exact.shape} in the float model and {rounded.shape} in the other")
    return Measured(None).sums(exact, rounded)


def _sums(measured: Measured, exact: Array, rounded: Array) -> ErrorSums | str:
    if exact.shape != rounded.shape:
        return (
            f"the node at its place in the float model makes an array of shape {exact.shape} instead of "
            f"{rounded.shape}: the float model is not the one that was quantized"
        )
    return measured.sums(exact, rounded)


def _run(
    plan: _Plan, samples: Iterator[Batch], backend: Backend, state: State, *, histograms: bool, seen: _Seen
) -> Iterator[tuple[Batch, _Sample]]:
    """Yield every sample with what it showed, in the order of the samples."""
    first = next(samples, None)
    if first is None:
        return
    models = _Models(
        plan=plan,
        exact=backend.open(plan.exact, [*plan.outputs, *state, *plan.names]),
        rounded=backend.open(plan.rounded, [*plan.outputs, *state, *(each.rounded.integers for each in plan.matches)]),
        states=(Recurrence.of(plan.exact, state, backend), Recurrence.of(plan.rounded, state, backend)),
        measured=[Measured(each.rounded.grid) for each in plan.matches],
        choice=kernels.choice(),
    )
    workers = 1 if state else _workers(plan, first, backend)
    counters: list[dict[str, Gatherer]] = [
        {name: gatherer(Histogram()) for name in plan.names} if histograms else {} for _ in range(workers)
    ]
    free: SimpleQueue[dict[str, Gatherer]] = SimpleQueue()
    for counter in counters:
        free.put(counter)
    running: deque[tuple[Batch, Future[_Sample]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for batch in chain([first], samples):
            own = {name: np.array(value) for name, value in batch.items()}  # a source may use one buffer for all
            running.append((own, pool.submit(models.sample, own, free)))
            if len(running) > workers:
                done, future = running.popleft()
                yield done, future.result()
        while running:
            done, future = running.popleft()
            yield done, future.result()
    seen.gathered = counters


def _workers(plan: _Plan, first: Batch, backend: Backend) -> int:
    """Return how many samples are worked on at once: as many as there are cores, and memory for what they show."""
    shapes = {name: np.shape(value) for name, value in first.items()}
    held = sum(tensor_bytes(plan.exact, shapes, plan.names).values())
    return max(1, min(usable_cores() // backend.cores, BUDGET // max(1, held)))


def _votes(exact: Array, rounded: Array) -> npt.NDArray[np.bool_]:
    """Say for each row of class scores (..., classes) whether both networks prefer the same class."""
    if exact.ndim < 2 or exact.shape[-1] < 2:
        return np.zeros(0, bool)
    same: npt.NDArray[np.bool_] = exact.argmax(axis=-1) == rounded.argmax(axis=-1)
    return same
