"""Accuracy: the share of rows whose class the model finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.metrics.labels import DEFAULT, classes_and_labels, names_of
from quantlab.metrics.measure import Array, Seen, Sums, share, task_metrics


@task_metrics.register("accuracy")
@dataclass(frozen=True, kw_only=True, eq=False)
class Accuracy:
    """Share of labels that are found, in 0..1.

    Attributes:
        labels: Name of the labels in the batch, or all labels, shape (rows,).
        output: Name of the output, shape (rows, classes), or (rows,) for two classes; the first where it is None.
        threshold: Above it a single number stands for class 1: 0 for logits, 0.5 for probabilities.
    """

    labels: str | Array = DEFAULT
    output: str | None = None
    threshold: float = 0.0
    higher_is_better: ClassVar[bool] = True
    labelled: ClassVar[bool] = True

    @property
    def reads(self) -> tuple[str, ...]:
        """The labels' name, if they stand in the batch."""
        return names_of(self.labels)

    def sums(self, seen: Seen) -> Sums:
        """Return hits, and all labels."""
        classes, truth = classes_and_labels(self.output, self.labels, self.threshold, seen)
        return np.array([(classes == truth).sum(), truth.size], np.float64)

    def value(self, total: Sums) -> float:
        """Return the share."""
        return share(total)
