"""Mean squared error between the outputs of both models over all the data: mean((x - y)^2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.metrics.measure import Seen, Sums, share, task_metrics


@task_metrics.register("mse")
@dataclass(frozen=True, kw_only=True)
class Mse:
    """Mean squared error, in the square of the output's unit; 0 where nothing changed. No labels.

    Attributes:
        output: Name of the output, of any shape; the first where it is None.
    """

    output: str | None = None
    higher_is_better: ClassVar[bool] = False
    labelled: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def sums(self, seen: Seen) -> Sums:
        """Return the sum of squared differences, and the number of elements."""
        x, y = (np.ravel(array).astype(np.float64) for array in seen.pair(self.output))
        return np.array([(x - y) @ (x - y), x.size], np.float64)

    def value(self, total: Sums) -> float:
        """Return the mean."""
        return share(total)
