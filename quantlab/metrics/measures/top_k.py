"""Top-k accuracy: the share of rows whose class is among the k largest entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.errors import DataError, OptionError
from quantlab.metrics.labels import DEFAULT, labels_of, names_of
from quantlab.metrics.measure import Array, Seen, Sums, chosen, share, task_metrics


@task_metrics.register("top_k")
@dataclass(frozen=True, kw_only=True, eq=False)
class TopK:
    """Share of rows whose label is among the k largest entries, in 0..1; of equal entries the earlier one counts more.

    Attributes:
        k: How many entries count.
        labels: Name of the labels in the batch, or all labels, shape (rows,).
        output: Name of the output, shape (rows, classes); the first where it is None.
    """

    k: int = 5
    labels: str | Array = DEFAULT
    output: str | None = None
    higher_is_better: ClassVar[bool] = True
    labelled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise OptionError(f"top_k: k={self.k!r} is not allowed; give a positive integer, such as 5")

    @property
    def reads(self) -> tuple[str, ...]:
        """The labels' name, if they stand in the batch."""
        return names_of(self.labels)

    def sums(self, seen: Seen) -> Sums:
        """Return hits, and all rows."""
        scores, truth = chosen(seen.rounded, self.output), labels_of(self.labels, seen).reshape(-1)
        if scores.ndim != 2 or len(scores) != len(truth) or truth.dtype.kind not in "iub":
            raise DataError(
                f"top_k needs an output (rows, classes) and an integer a row: got {scores.shape} and labels "
                f"{truth.shape} of type {truth.dtype.name}"
            )
        if truth.size and not 0 <= truth.min() <= truth.max() < scores.shape[1]:
            raise DataError(f"labels run from {truth.min()} to {truth.max()}: the model has {scores.shape[1]} classes")
        own = np.take_along_axis(scores, truth[:, None].astype(np.int64), axis=1)
        earlier = np.arange(scores.shape[1]) < truth[:, None]
        rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
        return np.array([(rank < self.k).sum(), truth.size], np.float64)

    def value(self, total: Sums) -> float:
        """Return the share."""
        return share(total)
