"""Models are timed in turns, round by round, so that a change of clock speed or another process meets all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.backend import Batch, latencies

Seconds = npt.NDArray[np.float64]


def interleaved(
    sessions: Sequence[Any], batches: Sequence[Batch], *, rounds: Iterable[int], runs: int, warm_up: int
) -> Seconds:
    """Time sessions in turns.

    Args:
        sessions: What `OrtBackend.session` returned, one a model.
        batches: What each is fed.
        rounds: One item a round.
        runs: Timed runs of each model in a round.
        warm_up: Runs before them, in every round.

    Returns:
        Seconds of every timed run, shape (rounds, models, runs).
    """
    pairs = list(zip(sessions, batches, strict=True))
    return np.array(
        [[latencies(session, batch, runs=runs, warm_up=warm_up) for session, batch in pairs] for _ in rounds]
    )


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as fast a model is as the first one: ratios of medians within a round.

    Attributes:
        median: Median over the rounds; above 1 the model is faster than the first.
        low: Lower quartile.
        high: Upper quartile.
    """

    median: float
    low: float
    high: float


def ratios(seconds: Seconds) -> list[Ratio]:
    """Compare each model with the first.

    Args:
        seconds: Shape (rounds, models, runs).

    Returns:
        One ratio a model; that of the first is 1.

    Example:
        >>> ratios(np.array([[[2.0, 4.0], [1.0, 2.0]]]))[1].median
        2.0
    """
    medians = np.median(seconds, axis=2)
    quartiles = np.percentile(medians[:, :1] / medians, (25, 50, 75), axis=0)
    return [Ratio(low=float(low), median=float(median), high=float(high)) for low, median, high in quartiles.T]
