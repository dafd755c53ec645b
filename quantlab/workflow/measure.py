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

import numpy as np
import onnx

from quantlab.backend import Backend, Batch, Runner, usable_cores
from quantlab.calibration import RangeRule, Statistic
from quantlab.errors import DataError, ModelError
from quantlab.graph.sizes import tensor_bytes
from quantlab.plan import Calibrated, QuantPlan
from quantlab.progress import Track, quiet

BUDGET = 512 * 2**20
"""Bytes of observed activations that may be in memory at a time, unless told otherwise."""

Statistics = dict[str, Statistic]


def measure(
    backend: Backend,
    model: onnx.ModelProto,
    empty: Mapping[str, Statistic],
    batches: Iterable[Batch],
    *,
    budget: int = BUDGET,
    workers: int | None = None,
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
            to the result.
        track: Shows progress.
        total: How many batches there are, if known.

    Returns:
        Tensor to statistic, in the order of `empty`.

    Raises:
        DataError: There was no batch, or some tensor became NaN; the text names it and the sample.
        ModelError: The model does not load or fails on a sample; the text names the sample.
    """
    source = iter(batches)
    first = next(source, None)
    if first is None:
        raise DataError("there is no calibration data: give at least one sample")
    sizes = tensor_bytes(model, {name: np.shape(value) for name, value in first.items()}, empty)
    groups = grouped(sizes, budget)
    heaviest = max((sum(sizes[name] for name in group) for group in groups), default=0)
    workers = workers or max(1, min(usable_cores() // backend.cores, budget // max(1, heaviest)))
    runners = [backend.open(model, group) for group in groups]
    feed = Feed(iter(track(chain([first], source), f"calibrating {len(empty)} tensors", total)))
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda _: _observe(runners, feed, empty), range(workers)))
    if feed.failures:
        raise feed.failures[min(feed.failures)]
    return merged(empty, parts)


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


def merged(empty: Mapping[str, Statistic], parts: Sequence[Mapping[str, Statistic]]) -> Statistics:
    """Merge what several workers have seen.

    Args:
        empty: Tensor to the statistic that everybody started from.
        parts: One mapping a worker.

    Returns:
        Tensor to the statistic of all.
    """
    seen = dict(empty)
    for part in parts:
        for name, statistic in part.items():
            seen[name] = seen[name].merge(statistic)
    return seen


@dataclass
class Feed:
    """Numbered samples for several threads, each handed out once.

    Samples are copied on the way, since a source may use one buffer for all of them. After a failure nothing more is
    handed out; every sample before the one that failed has been.
    """

    source: Iterator[Batch]
    failures: dict[int, Exception] = field(default_factory=dict)
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> tuple[int, Batch] | None:
        """Return the next sample with its number, or None at the end."""
        with self._lock:
            if self.failures:
                return None
            index = self._next
            try:
                batch = next(self.source)
            except StopIteration:
                return None
            except Exception as error:
                self.failures[index] = error
                return None
            self._next += 1
            return index, {name: np.array(value) for name, value in batch.items()}

    def fail(self, index: int, error: Exception) -> None:
        """Note that a sample failed."""
        with self._lock:
            self.failures[index] = error


def _observe(runners: Sequence[Runner], feed: Feed, empty: Mapping[str, Statistic]) -> Statistics:
    """Work on samples until there are no more, and return what they showed."""
    seen = dict(empty)
    while (taken := feed.take()) is not None:
        index, batch = taken
        try:
            for run in runners:
                for name, value in run(batch).items():
                    seen[name] = seen[name].update(value)
                    if seen[name].nan_count:
                        raise DataError(
                            f"tensor {name!r} contains NaN in sample {index} although the model's inputs do not: "
                            "run the float model on that sample, or exclude the node that makes it"
                        )
        except ModelError as error:
            feed.fail(index, ModelError(f"sample {index}: {error}"))
        except Exception as error:
            feed.fail(index, error)
    return seen


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
