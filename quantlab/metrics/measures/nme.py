"""Normalized mean error of landmarks: the mean distance of points from their places, by a distance in the face.

    nme = mean over images of (mean over points of |p - g|) / d        d = |centre(left) - centre(right)|

d is measured on the true points: between the outer corners of the eyes (ocular), or between the pupils (pupil), taken
as the centres of the points around each eye. The smaller d of the pupils makes the larger number of the same error.

Source: the 300-W challenge, Sagonas et al. 2013, whose 68 points the defaults number from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.errors import DataError, OptionError, nearest
from quantlab.metrics.labels import DEFAULT, labels_of, names_of
from quantlab.metrics.measure import Array, Seen, Sums, chosen, share, task_metrics

Points = int | tuple[int, ...]

NORMS: dict[str, tuple[Points, Points]] = {
    "ocular": (36, 45),
    "pupil": (tuple(range(36, 42)), tuple(range(42, 48))),
}
"""Norm to the points at the left and at the right eye, of 68."""

NUMBERED = 68


@task_metrics.register("nme")
@dataclass(frozen=True, kw_only=True, eq=False)
class Nme:
    """Normalized mean error, 0 or more; less is better.

    Attributes:
        norm: `"ocular"`, by the distance of the outer corners of the eyes, or `"pupil"`, by that of the eyes' centres.
        left: Number of the point, or of the points whose centre is meant, at one eye; needed unless there are 68.
        right: The same at the other eye.
        labels: Name of the true points in the batch, or all of them, shape (rows, points, 2).
        output: Name of the output, shape (rows, points, 2) or (rows, points * 2); the first where it is None.
    """

    norm: str = "ocular"
    left: Points | None = None
    right: Points | None = None
    labels: str | Array = DEFAULT
    output: str | None = None
    higher_is_better: ClassVar[bool] = False
    labelled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise OptionError(
                f"nme: norm={self.norm!r} is not known{nearest(str(self.norm), NORMS)} (allowed: {', '.join(NORMS)})"
            )
        if (self.left is None) != (self.right is None):
            raise OptionError("nme: left and right go together: give the points at both eyes, or neither")

    @property
    def reads(self) -> tuple[str, ...]:
        """The name of the true points, if they stand in the batch."""
        return names_of(self.labels)

    def sums(self, seen: Seen) -> Sums:
        """Return the sum of the images' errors, and the number of images."""
        truth = np.asarray(labels_of(self.labels, seen), np.float64)
        found = np.asarray(chosen(seen.rounded, self.output), np.float64)
        truth = truth.reshape(len(truth), -1, 2) if truth.ndim == 2 and truth.shape[1] % 2 == 0 else truth
        if truth.ndim != 3 or truth.shape[2] != 2 or found.size != truth.size or len(found) != len(truth):
            raise DataError(
                f"nme needs points (rows, points, 2): labels have shape {truth.shape}, the output {found.shape}"
            )
        errors = np.linalg.norm(found.reshape(truth.shape) - truth, axis=2).mean(axis=1)
        return np.array([(errors / self._distance(truth)).sum(), len(truth)])

    def _distance(self, truth: Array) -> Array:
        left, right = (_centre(truth, points) for points in self._points(truth.shape[1]))
        distance = np.linalg.norm(left - right, axis=1)
        if not distance.all():
            raise DataError(f"nme: the {self.norm} distance of image {int(np.argmin(distance))} of the batch is 0")
        return np.asarray(distance)

    def _points(self, count: int) -> tuple[Points, Points]:
        if self.left is not None and self.right is not None:
            return self.left, self.right
        if count != NUMBERED:
            raise DataError(
                f"nme: the labels have {count} points, and which of them are at the eyes is known for {NUMBERED} "
                "only: give left and right"
            )
        return NORMS[self.norm]

    def value(self, total: Sums) -> float:
        """Return the mean over images."""
        return share(total)


def _centre(truth: Array, points: Points) -> Array:
    numbers = [points] if isinstance(points, int) else list(points)
    if not numbers or not 0 <= min(numbers) <= max(numbers) < truth.shape[1]:
        raise DataError(f"nme: points {numbers} do not exist: the labels have points 0..{truth.shape[1] - 1}")
    return np.asarray(truth[:, numbers].mean(axis=1))
