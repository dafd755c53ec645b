"""Cosine between the outputs of both models, over all the data as one vector: <x, y> / (|x| |y|)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.metrics.measure import Seen, Sums, task_metrics


@task_metrics.register("cosine")
@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Cosine of the angle between the outputs, in -1..1; 1 where both are zero. No labels.

    Attributes:
        output: Name of the output, of any shape; the first where it is None.
    """

    output: str | None = None
    higher_is_better: ClassVar[bool] = True
    labelled: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def sums(self, seen: Seen) -> Sums:
        """Return <x, y>, <x, x> and <y, y>."""
        x, y = (np.ravel(array).astype(np.float64) for array in seen.pair(self.output))
        return np.array([x @ y, x @ x, y @ y])

    def value(self, total: Sums) -> float:
        """Return the cosine."""
        norms = math.sqrt(total[1]) * math.sqrt(total[2])
        return max(-1.0, min(1.0, float(total[0]) / norms)) if norms else float(total[1] == total[2])
