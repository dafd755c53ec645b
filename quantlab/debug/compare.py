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
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue

import numpy as np
import onnx

from quantlab import kernels
from quantlab.backend import Array, Backend, Batch, OrtBackend, Runner, usable_cores
from quantlab.calibration import Histogram
from quantlab.calibration.gather import Gatherer, gatherer
from quantlab.debug.constants import constant_row
from quantlab.debug.findings import Comparison, Unmatched
from quantlab.debug.matching import Matching
from quantlab.debug.models import common_outputs, matched
from quantlab.debug.seen import NO_METRICS, Metric, Seen, Shown, Task
from quantlab.debug.sums import Measured
from quantlab.errors import DataError, ModelError
from quantlab.graph.sizes import tensor_bytes
from quantlab.kernels import ErrorSums
from quantlab.progress import Track, known_total, quiet
from quantlab.workflow.measure import BUDGET
from quantlab.workflow.recurrence import NO_STATE, Recurrence, State


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
    task = Task(
        exact=exact,
        rounded=quantized_model,
        matches=tuple(each for each in found.tensors if each.name is not None and not each.constant),
        outputs=tuple(common_outputs(exact, quantized_model)),
    )
    seen = Seen(task=task, metrics=metrics) if batches is not None else None
    if seen is not None and batches is not None:
        total = known_total(batches)
        samples = track(batches, f"comparing {len(task.matches)} tensors", total)
        for batch, sample in _run(task, samples, backend, state, histograms=histograms, seen=seen):
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


def _unmatched(found: Matching) -> Iterator[Unmatched]:
    for each in found.tensors:
        if each.name is None:
            yield Unmatched(name=each.rounded.after or each.rounded.integers, reason=each.reason)


@dataclass(frozen=True, kw_only=True)
class _Models:
    """Both models, opened, and how the sums of each tensor are taken."""

    task: Task
    exact: Runner
    rounded: Runner
    states: tuple[Recurrence, Recurrence]
    measured: Sequence[Measured]
    choice: kernels.Choice

    def sample(self, batch: Batch, gatherers: SimpleQueue[dict[str, Gatherer]]) -> Shown:
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
                for each, measured in zip(self.task.matches, self.measured, strict=True)
            ]
            outputs = [_output_sums(name, exact[name], rounded[name]) for name in self.task.outputs]
        gatherers.put(mine)
        own = [{name: values[name] for name in self.task.outputs} for values in (exact, rounded)]
        return Shown(tensors=tensors, outputs=outputs, exact=own[0], rounded=own[1])


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
    task: Task, samples: Iterator[Batch], backend: Backend, state: State, *, histograms: bool, seen: Seen
) -> Iterator[tuple[Batch, Shown]]:
    """Yield every sample with what it showed, in the order of the samples."""
    first = next(samples, None)
    if first is None:
        return
    models = _Models(
        task=task,
        exact=backend.open(task.exact, [*task.outputs, *state, *task.names]),
        rounded=backend.open(task.rounded, [*task.outputs, *state, *(each.rounded.integers for each in task.matches)]),
        states=(Recurrence.of(task.exact, state, backend), Recurrence.of(task.rounded, state, backend)),
        measured=[Measured(each.rounded.grid) for each in task.matches],
        choice=kernels.choice(),
    )
    workers = 1 if state else _workers(task, first, backend)
    counters: list[dict[str, Gatherer]] = [
        {name: gatherer(Histogram()) for name in task.names} if histograms else {} for _ in range(workers)
    ]
    free: SimpleQueue[dict[str, Gatherer]] = SimpleQueue()
    for counter in counters:
        free.put(counter)
    running: deque[tuple[Batch, Future[Shown]]] = deque()
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


def _workers(task: Task, first: Batch, backend: Backend) -> int:
    """Return how many samples are worked on at once: as many as there are cores, and memory for what they show."""
    shapes = {name: np.shape(value) for name, value in first.items()}
    held = sum(tensor_bytes(task.exact, shapes, task.names).values())
    return max(1, min(usable_cores() // backend.cores, BUDGET // max(1, held)))
