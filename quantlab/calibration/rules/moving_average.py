"""The moving-average rule takes the ends of the batches, averaged: outliers of a single batch weigh little.

    constant=None    lo = mean of the batches' minima, hi = mean of their maxima, all batches alike
    constant=c       m <- m + c (new - m) for both ends, batch after batch

Source: `CalibMovingAverage` and `CalibMovingAverageConstant` of onnxruntime.quantization, whose ordinary flow computes
the mean whatever the constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.averages import ExponentialAverage, MovingAverage, require_constant
from quantlab.calibration.rule import about_zero, calibrators, provenance, require_flag, require_values, within
from quantlab.calibration.statistic import Statistic
from quantlab.errors import OptionError


@calibrators.register("moving_average")
@dataclass(frozen=True, kw_only=True)
class MovingAverageRule:
    """Average the ends of the batches.

    Attributes:
        constant: Weight of each new batch, above 0 and at most 1, such as 0.01; None gives all batches the same.
        symmetric: Widen the range until it mirrors at zero.

    Raises:
        OptionError: An option is out of its limits.

    Example:
        >>> import numpy as np
        >>> from quantlab.arrays import INT8
        >>> rule = MovingAverageRule()
        >>> seen = rule.empty().update(np.array([-1.0, 2.0])).update(np.array([-1.0, 4.0]))
        >>> rule.explain(seen, QuantSpec(dtype=INT8))
        'moving_average of 4 values, mean over 2 batches: [-1, 3] of the observed [-1, 4]'
    """

    constant: float | None = None
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.constant is not None:
            require_constant(self.constant)
        require_flag("symmetric", self.symmetric)

    def empty(self) -> MovingAverage | ExponentialAverage:
        """Return an empty `MovingAverage`, or an empty `ExponentialAverage` where there is a constant."""
        return MovingAverage() if self.constant is None else ExponentialAverage(constant=self.constant)

    def _averages(self, seen: Statistic) -> MovingAverage | ExponentialAverage:
        wanted = type(self.empty())
        article = "a" if wanted is MovingAverage else "an"
        if not isinstance(seen, MovingAverage | ExponentialAverage) or not isinstance(seen, wanted):
            raise OptionError(
                f"range rule 'moving_average' with constant={self.constant} needs {article} {wanted.__name__}, got a "
                f"{type(seen).__name__}; collect the statistic that the rule's empty() gives"
            )
        require_values(seen)
        return seen

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the averaged ends.

        Args:
            seen: The statistic that `empty` gives, with at least one finite value.
            spec: The grid to come; it does not matter.

        Returns:
            Float64 ends of shape ().

        Raises:
            DataError: No finite value was seen.
            OptionError: The statistic is of another kind.
        """
        seen = self._averages(seen)
        return about_zero(within(*seen.averages(), seen), self.symmetric)

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        seen = self._averages(seen)
        how = f"mean over {seen.batches:,} batches" if isinstance(seen, MovingAverage) else f"constant {self.constant}"
        return provenance(f"moving_average of {seen.count:,} values, {how}", self.range(seen, spec), seen)
