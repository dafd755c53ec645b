"""Agreement: the share of rows on which the largest entry of both models is the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.errors import DataError
from quantlab.metrics.measure import Seen, Sums, share, task_metrics


@task_metrics.register("top1")
@dataclass(frozen=True, kw_only=True)
class Top1:
    """Share of rows with the same arg-max, in 0..1. No labels.

    Attributes:
        output: Name of the output, shape (rows, ..., classes); the first where it is None.
    """

    output: str | None = None
    higher_is_better: ClassVar[bool] = True
    labelled: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def sums(self, seen: Seen) -> Sums:
        """Return agreeing rows, and all rows."""
        exact, rounded = seen.pair(self.output)
        if exact.ndim < 2:
            raise DataError(f"top1 needs classes along the last axis: the output has shape {exact.shape}")
        same = exact.argmax(axis=-1) == rounded.argmax(axis=-1)
        return np.array([same.sum(), same.size], np.float64)

    def value(self, total: Sums) -> float:
        """Return the share."""
        return share(total)
