"""Measure: stream samples through a model and keep one statistic a tensor, whose memory does not grow with the data.

Samples are worked on side by side, as many as the cores and the memory allow. Each worker keeps statistics of its own,
and they are merged at the end. Merging is exact, so the result has the same bytes whoever worked on which sample.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from time import monotonic

import numpy as np
import onnx

from quantlab import kernels
from quantlab.backend import Array, Backend, Batch, Runner, usable_cores
from quantlab.calibration import RangeRule, Statistic
from quantlab.calibration.gather import Gatherer, gatherer
from quantlab.errors import DataError, ModelError
from quantlab.graph.sizes import tensor_bytes
from quantlab.plan import Calibrated, NonFinite, QuantPlan
from quantlab.progress import Track, quiet
from quantlab.workflow.checkpoint import Checkpoint, Position, batch_hash
from quantlab.workflow.nonfinite import check_finite
from quantlab.workflow.recurrence import NO_STATE, Recurrence, State

BUDGET = 512 * 2**20
"""Bytes of observed activations that may be in memory at a time, unless told otherwise."""

Statistics = dict[str, Statistic]


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """How samples are numbered: `first`, `first + step`, and so on."""

    first: int = 0
    step: int = 1


EVERY_SAMPLE = Numbering()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the tensors, and the opened model that computes it."""

    names: Sequence[str]
    run: Runner


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done with each sample.

    Attributes:
        parts: Parts of the tensors, computed one after the other; the first also computes what is fed back.
        recurrence: What the model is given back of its own outputs.
        nonfinite: What becomes of NaN and infinities.
        choice: Which kernels the caller has chosen; threads do not inherit it by themselves.
    """

    parts: Sequence[Part]
    recurrence: Recurrence
    nonfinite: NonFinite
    choice: kernels.Choice = field(default_factory=kernels.choice)


def measure(
    backend: Backend,
    model: onnx.ModelProto,
    empty: Mapping[str, Statistic],
    batches: Iterable[Batch],
    *,
    budget: int = BUDGET,
    workers: int | None = None,
    checkpoint: Checkpoint | None = None,
    numbers: Numbering = EVERY_SAMPLE,
    nonfinite: NonFinite = "refuse-nan",
    state: State = NO_STATE,
    track: Track = quiet,
    total: int | None = None,
) -> Statistics:
    """Update the statistic of each tensor with every batch.

    Args:
        backend: Runs the model.
        model: The prepared float model.
        empty: Tensor to the statistic to start from; only these tensors are computed and looked at.
        batches: Input name to array, one mapping a sample.
        budget: Bytes of activations that may be held at a time. Where one sample has more, its tensors are computed in
            several runs.
        workers: Samples worked on at once; None for as many as there are cores and budget for. It makes no difference
            to the result. A statistic that depends on the order of the samples gets them one by one.
        checkpoint: Where to save how far the work has come, and to go on from.
        numbers: How samples are numbered in error texts.
        nonfinite: What becomes of NaN and infinities, see `Recipe`.
        state: Output to the input that it becomes with the next sample. Samples are then worked on one by one.
        track: Shows progress.
        total: How many batches there are, if known.

    Returns:
        Tensor to statistic, in the order of `empty`.

    Raises:
        DataError: There was no batch, or some tensor became NaN or infinite where that is refused; the text names it
            and the sample. Or the checkpoint is of something else.
        ModelError: The model does not load or fails on a sample; the text names the sample.
        OptionError: The model has no such output or input to feed back.
    """
    recurrence = Recurrence.of(model, state, backend)
    begun = checkpoint.load() if checkpoint is not None else None
    source = iter(batches)
    first = next(source, None)
    if first is None:
        raise DataError("there is no calibration data: give at least one sample")
    sizes = tensor_bytes(model, {name: np.shape(value) for name, value in recurrence.fed(first).items()}, empty)
    groups = grouped(sizes, budget)
    heaviest = max((sum(sizes[name] for name in group) for group in groups), default=0)
    if state or any(statistic.ordered for statistic in empty.values()):
        workers = 1
    workers = workers or max(1, min(usable_cores() // backend.cores, budget // max(1, heaviest)))
    work = Work(parts=_parts(backend, model, groups, recurrence), recurrence=recurrence, nonfinite=nonfinite)
    samples = iter(track(chain([first], source), f"calibrating {len(empty)} tensors", total))
    feed = Feed(samples, numbers)
    seen = dict(empty)
    if begun is not None and checkpoint is not None:
        feed.skip(begun, checkpoint)
        seen |= begun.statistics
        recurrence.held = dict(begun.state)
    while not feed.exhausted:
        feed.open(checkpoint.every if checkpoint is not None else None)
        with ThreadPoolExecutor(workers) as pool:
            starts = [seen, *[empty] * (workers - 1)]
            parts = list(pool.map(lambda start: _observe(work, feed, start), starts))
        if feed.failures:
            raise feed.failures[min(feed.failures)]
        seen = merged(parts)
        if checkpoint is not None:
            last = batch_hash(feed.last)
            checkpoint.save(Position(samples=feed.taken, last=last, statistics=seen, state=recurrence.held))
    return {name: seen[name] for name in empty}


def _parts(
    backend: Backend, model: onnx.ModelProto, groups: Sequence[Sequence[str]], recurrence: Recurrence
) -> list[Part]:
    opened = [[*group, *(() if index else recurrence.outputs)] for index, group in enumerate(groups)]
    return [
        Part(names=group, run=backend.open(model, list(dict.fromkeys(names))))
        for group, names in zip(groups, opened, strict=True)
    ]


def grouped(sizes: Mapping[str, int], budget: int) -> list[list[str]]:
    """Cut tensors into runs of neighbours that fit into a budget together; a larger one is alone.

    Args:
        sizes: Tensor to bytes.
        budget: Bytes.

    Returns:
        Groups of names, in order.

    Example:
        >>> grouped({"a": 3, "b": 2, "c": 9, "d": 1}, 5)
        [['a', 'b'], ['c'], ['d']]
    """
    groups: list[list[str]] = []
    held = 0
    for name, size in sizes.items():
        if not groups or held + size > budget:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups


def merged(parts: Sequence[Mapping[str, Statistic]]) -> Statistics:
    """Merge what several workers have seen.

    Args:
        parts: Tensor to statistic, one mapping a worker, at least one.

    Returns:
        Tensor to the statistic of all.
    """
    seen = dict(parts[0])
    for part in parts[1:]:
        for name, statistic in part.items():
            seen[name] = seen[name].merge(statistic)
    return seen


@dataclass
class Feed:
    """Samples for several threads, each handed out once.

    Samples are copied on the way, since a source may use one buffer for all of them. After a failure nothing more is
    handed out; every sample before the one that failed has been.

    Attributes:
        source: The samples.
        numbers: How they are numbered.
        failures: Sample number to what went wrong.
        taken: How many samples were handed out.
        last: The last of them.
        exhausted: Whether the source has ended.
        counting: Held while a worker updates its statistics. Updates are many short calls; two workers that make them
            at once pass the interpreter's lock back and forth and are no faster than one. While one of them counts, the
            other's time is better spent in the model.
    """

    source: Iterator[Batch]
    numbers: Numbering = EVERY_SAMPLE
    failures: dict[int, Exception] = field(default_factory=dict)
    taken: int = 0
    last: Batch | None = None
    exhausted: bool = False
    counting: threading.Lock = field(default_factory=threading.Lock)
    _until: float | None = None
    _least: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, seconds: float | None) -> None:
        """Hand out samples for so many seconds, one at least; None for all there are."""
        self._until = None if seconds is None else monotonic() + seconds
        self._least = self.taken + 1

    def _closed(self) -> bool:
        late = self._until is not None and monotonic() > self._until and self.taken >= self._least
        return bool(self.failures) or self.exhausted or late

    def take(self) -> tuple[int, Batch] | None:
        """Return the next sample with its number, or None at the end or when time is up."""
        with self._lock:
            if self._closed():
                return None
            number = self.numbers.first + self.taken * self.numbers.step
            try:
                batch = next(self.source)
            except StopIteration:
                self.exhausted = True
                return None
            except Exception as error:
                self.failures[number] = error
                return None
            self.taken += 1
            self.last = {name: np.array(value) for name, value in batch.items()}
            return number, self.last

    def skip(self, begun: Position, checkpoint: Checkpoint) -> None:
        """Pull the samples that a checkpoint holds, and see that the last of them is the one it ended with.

        Raises:
            DataError: The data has fewer samples, or another one there.
        """
        while self.taken < begun.samples and self.take() is not None:
            pass
        if self.failures:
            raise self.failures[min(self.failures)]
        if self.taken < begun.samples or batch_hash(self.last) != begun.last:
            found = f"sample {begun.samples - 1} is another one" if self.taken == begun.samples else "there are fewer"
            raise DataError(
                f"checkpoint {str(checkpoint.path)!r} holds {begun.samples} samples of other data: here {found}; "
                "give the same data in the same order, or remove the file to begin anew"
            )

    def fail(self, number: int, error: Exception) -> None:
        """Note that a sample failed."""
        with self._lock:
            self.failures[number] = error


def _observe(work: Work, feed: Feed, empty: Mapping[str, Statistic]) -> Statistics:
    """Work on samples until there are no more, and return what they showed."""
    with kernels.using(work.choice):  # looked up once, not for every tensor
        seen = {name: gatherer(statistic) for name, statistic in empty.items()}
        _gather(work, feed, seen)
        return {name: gathered.result() for name, gathered in seen.items()}


def _gather(work: Work, feed: Feed, seen: Mapping[str, Gatherer]) -> None:
    while (taken := feed.take()) is not None:
        index, batch = taken
        try:
            fed, back = work.recurrence.fed(batch), None
            for part in work.parts:
                values = part.run(fed)
                back = back or values
                with feed.counting:
                    _add(seen, {name: values[name] for name in part.names}, index, work.nonfinite)
            work.recurrence.keep(back or {})
        except ModelError as error:
            feed.fail(index, ModelError(f"sample {index}: {error}"))
        except Exception as error:
            feed.fail(index, error)


def _add(seen: Mapping[str, Gatherer], values: Mapping[str, Array], index: int, nonfinite: NonFinite) -> None:
    for name, value in values.items():
        seen[name].add(value)
        check_finite(name, seen[name], nonfinite, index)


def calibrated(plan: QuantPlan, rule: RangeRule, seen: Mapping[str, Statistic]) -> dict[str, Calibrated]:
    """Turn statistics into ranges by one rule.

    Args:
        plan: The refined plan; it says which grid each range is for.
        rule: The range rule.
        seen: Tensor to statistic.

    Returns:
        Tensor to range, with the words that say where it came from.

    Raises:
        DataError: A tensor had no finite value; the text names it.
    """
    specs = {tensor.range_of or name: tensor.spec for name, tensor in plan.tensors.items()}
    ranges = {}
    for name, statistic in seen.items():
        try:
            values = rule.range(statistic, specs[name])
        except DataError as error:
            raise DataError(f"tensor {name!r}: {error}") from error
        ranges[name] = Calibrated(values=values, source=rule.explain(statistic, specs[name]))
    return ranges
