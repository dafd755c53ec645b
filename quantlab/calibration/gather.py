"""A gatherer takes in the arrays of one worker, one after the other, and hands out a statistic at the end.

    gatherer(s).add(x_1) ... add(x_n), result()  =  s.update(x_1) ... .update(x_n)      to the byte

A statistic is a value, and making a new one for every array costs more than counting a small array. A gatherer writes
into memory of its own instead. It belongs to one thread, and what it hands out is a value again.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from quantlab.calibration.statistic import FloatArray, Statistic


class Gatherer(Protocol):
    """What every gatherer can do."""

    @property
    def nan_count(self) -> int:
        """How many elements were NaN, with those of the statistic that it began with."""

    @property
    def inf_count(self) -> int:
        """How many elements were infinite, with those of the statistic that it began with."""

    def add(self, x: FloatArray) -> None:
        """Take in one more array; raises what the statistic's `update` raises, and is then as it was."""

    def result(self) -> Statistic:
        """Return the statistic of all, which no later `add` changes."""


@runtime_checkable
class Gathered(Protocol):
    """A statistic that has a faster gatherer than one that updates it."""

    def gather(self) -> Gatherer:
        """Return a gatherer that begins with this statistic."""


def gatherer(start: Statistic) -> Gatherer:
    """Return a gatherer that begins with a statistic.

    Args:
        start: Any statistic; it stays as it is.

    Returns:
        The statistic's own gatherer where it has one, else one that updates it.

    Example:
        >>> import numpy as np
        >>> from quantlab.calibration.histogram import Histogram
        >>> seen = gatherer(Histogram(max_bins=8))
        >>> for x in (np.array([0.0, 0.5, 1.0, 2.5]), np.array([-2.0])):
        ...     seen.add(x)
        >>> seen.result().counts.tolist()
        [1, 0, 2, 1, 1]
    """
    return start.gather() if isinstance(start, Gathered) else Updating(start)


class Updating:
    """The gatherer of a statistic that has none of its own."""

    def __init__(self, start: Statistic) -> None:
        self._seen = start

    @property
    def nan_count(self) -> int:
        """See `Gatherer`."""
        return self._seen.nan_count

    @property
    def inf_count(self) -> int:
        """See `Gatherer`."""
        return self._seen.inf_count

    def add(self, x: FloatArray) -> None:
        """See `Gatherer`."""
        self._seen = self._seen.update(x)

    def result(self) -> Statistic:
        """See `Gatherer`."""
        return self._seen
