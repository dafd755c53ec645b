"""Signal-to-quantization-noise ratio of an output over all the data: 10 log10(sum x^2 / sum (x - y)^2) dB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.arrays import sqnr_from_powers
from quantlab.metrics.measure import Seen, Sums, task_metrics


@task_metrics.register("sqnr")
@dataclass(frozen=True, kw_only=True)
class Sqnr:
    """SQNR in dB; inf where nothing changed. No labels.

    Attributes:
        output: Name of the output, of any shape; the first where it is None.
    """

    output: str | None = None
    higher_is_better: ClassVar[bool] = True
    labelled: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def sums(self, seen: Seen) -> Sums:
        """Return the powers of signal and noise."""
        x, y = (np.ravel(array).astype(np.float64) for array in seen.pair(self.output))
        return np.array([x @ x, (x - y) @ (x - y)])

    def value(self, total: Sums) -> float:
        """Return decibels."""
        return sqnr_from_powers(float(total[0]), float(total[1]))
