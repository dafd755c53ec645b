"""Times of models over a data set: one model at a time, in turns, reading the data not counted.

The models take turns pass by pass, so that a change of clock speed meets all alike; and nothing else of quantlab
runs meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from quantlab.backend import Batch, OrtBackend, Runner
from quantlab.errors import DataError
from quantlab.graph.files import load

WARM_UP = 2
"""Runs of the first batch before anything is timed: the first ones allocate memory."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One model, once over the data.

    Attributes:
        row: Number of the model.
        seconds: Time spent in the model, all batches together.
    """

    row: int
    seconds: float


def in_turns(
    models: Mapping[int, Path],
    batches: Iterable[Batch],
    backend: OrtBackend,
    *,
    rounds: int,
    done: Mapping[int, int],
) -> Iterator[Timed]:
    """Time models over a data set, in turns.

    Args:
        models: Number to model file.
        batches: The data; it is read once for each model and round.
        backend: Runs the models.
        rounds: How often each model goes over the data.
        done: Number to the rounds that were timed before; the model takes part in the others.

    Yields:
        One time after the other.

    Raises:
        DataError: There is no data.
    """
    for turn in range(rounds):
        for row, path in models.items():
            if done.get(row, 0) <= turn:
                # Opened for its turn only: memory holds one model, however many there are.
                yield Timed(row=row, seconds=seconds_over(backend.open(load(path)), batches))


def seconds_over(run: Runner, batches: Iterable[Batch]) -> float:
    """Return the time that a model takes for all batches; the time in which they are read does not count.

    Args:
        run: The opened model.
        batches: The data.

    Returns:
        Seconds.

    Raises:
        DataError: There is no data.
    """
    total, count = 0.0, 0
    for batch in batches:
        if not count:
            for _ in range(WARM_UP):
                run(batch)
        start = perf_counter()
        run(batch)
        total += perf_counter() - start
        count += 1
    if not count:
        raise DataError("there is no data to take the time over: give at least one sample")
    return total
