"""Cross entropy of logits and true classes, the loss that classifiers are trained with: mean(log sum_k e^s_k - s_t)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.errors import DataError
from quantlab.metrics.labels import DEFAULT, classes_and_labels, names_of
from quantlab.metrics.measure import Array, Seen, Sums, chosen, share, task_metrics


@task_metrics.register("cross_entropy")
@dataclass(frozen=True, kw_only=True, eq=False)
class CrossEntropy:
    """Mean cross entropy in nats; 0 for a model that is certain and right.

    Attributes:
        labels: Name of the labels in the batch, or all labels, shape (rows,).
        output: Name of the output with logits, shape (rows, ..., classes); the first where it is None.
    """

    labels: str | Array = DEFAULT
    output: str | None = None
    higher_is_better: ClassVar[bool] = False
    labelled: ClassVar[bool] = True

    @property
    def reads(self) -> tuple[str, ...]:
        """The labels' name, if they stand in the batch."""
        return names_of(self.labels)

    def sums(self, seen: Seen) -> Sums:
        """Return the sum of the rows' entropies, and the number of rows."""
        scores = chosen(seen.rounded, self.output).astype(np.float64)
        if scores.ndim < 2 or scores.shape[-1] < 2:
            raise DataError(f"cross_entropy needs logits of two or more classes: the output has shape {scores.shape}")
        _, truth = classes_and_labels(self.output, self.labels, 0.0, seen)
        classes = scores.shape[-1]
        if truth.size and not 0 <= truth.min() <= truth.max() < classes:
            raise DataError(f"labels run from {truth.min()} to {truth.max()}: the model has {classes} classes")
        rows = scores.reshape(-1, classes)
        # The largest logit is taken off first: e^s would overflow.
        shifted = rows - rows.max(axis=-1, keepdims=True)
        entropies = np.log(np.exp(shifted).sum(axis=-1)) - np.take_along_axis(shifted, truth[:, None], -1)[:, 0]
        return np.array([entropies.sum(), truth.size], np.float64)

    def value(self, total: Sums) -> float:
        """Return the mean."""
        return share(total)
