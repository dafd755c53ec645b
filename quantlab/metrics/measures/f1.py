"""F1: the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), of a class or averaged over classes.

Source: Manning, Raghavan and Schuetze, Introduction to Information Retrieval (2008), sections 8.3 and 13.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.errors import DataError, OptionError, nearest
from quantlab.metrics.labels import DEFAULT, classes_and_labels, names_of
from quantlab.metrics.measure import Array, Seen, Sums, chosen, task_metrics

AVERAGES = ("macro", "micro", "binary")


@task_metrics.register("f1")
@dataclass(frozen=True, kw_only=True, eq=False)
class F1:
    """F1, in 0..1.

    Attributes:
        average: `"macro"`: the mean over the classes that occur, in labels or answers; `"micro"`: of the sums over all
            classes, which is the accuracy where every row has one class; `"binary"`: of class 1 alone.
        labels: Name of the labels in the batch, or all labels, shape (rows,).
        output: Name of the output, shape (rows, classes), or (rows,) for two classes; the first where it is None.
        threshold: Above it a single number stands for class 1: 0 for logits, 0.5 for probabilities.
    """

    average: str = "macro"
    labels: str | Array = DEFAULT
    output: str | None = None
    threshold: float = 0.0
    higher_is_better: ClassVar[bool] = True
    labelled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.average not in AVERAGES:
            raise OptionError(
                f"f1: average={self.average!r} is not known{nearest(str(self.average), AVERAGES)} "
                f"(allowed: {', '.join(AVERAGES)})"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """The labels' name, if they stand in the batch."""
        return names_of(self.labels)

    def sums(self, seen: Seen) -> Sums:
        """Return true positives, false positives and false negatives, shape (3, classes)."""
        scores = chosen(seen.rounded, self.output)
        count = scores.shape[-1] if scores.ndim > 1 and scores.shape[-1] > 1 else 2
        classes, truth = classes_and_labels(self.output, self.labels, self.threshold, seen)
        if truth.size and not 0 <= truth.min() <= truth.max() < count:
            raise DataError(f"labels run from {truth.min()} to {truth.max()}: the model has {count} classes")
        if self.average == "binary" and count != 2:
            raise DataError(f"f1: average='binary' is for two classes, and the model has {count}: use macro or micro")
        hits = np.bincount(truth[classes == truth], minlength=count)
        answers, labels = np.bincount(classes, minlength=count), np.bincount(truth, minlength=count)
        return np.stack([hits, answers - hits, labels - hits]).astype(np.float64)

    def value(self, total: Sums) -> float:
        """Return the average over classes."""
        if self.average == "micro":
            return float(_f1(total.sum(axis=1, keepdims=True))[0])
        if self.average == "binary":
            return float(_f1(total)[1])
        occurring = total.sum(axis=0) > 0
        return float(_f1(total)[occurring].mean()) if occurring.any() else float("nan")


def _f1(counts: Sums) -> Sums:
    """Return F1 of each class; 0 where nothing is found and nothing is there."""
    doubled = 2 * counts[0]
    below = doubled + counts[1] + counts[2]
    return np.asarray(np.divide(doubled, below, out=np.zeros_like(doubled), where=below > 0))
