"""The min-max rule takes the observed ends as they are, lo = min x and hi = max x: nothing that was seen is clipped."""

from __future__ import annotations

from dataclasses import dataclass

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.rule import calibrators, provenance, require_values, within
from quantlab.calibration.statistic import MinMax, Statistic


@calibrators.register("minmax")
@dataclass(frozen=True, kw_only=True)
class MinMaxRule:
    """Take exactly the observed ends.

    Example:
        >>> import numpy as np
        >>> from quantlab.arrays import INT8
        >>> rule = MinMaxRule()
        >>> seen = rule.empty().update(np.array([-1.0, 0.5, 3.0], np.float32))
        >>> rule.explain(seen, QuantSpec(dtype=INT8))
        'minmax of 3 values: [-1, 3] of the observed [-1, 3]'
    """

    def empty(self) -> MinMax:
        """Return an empty `MinMax`."""
        return MinMax()

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the observed ends.

        Args:
            seen: Any statistic with at least one finite value.
            spec: The grid to come. A symmetric one spreads the range around zero itself, so the ends are the same.

        Returns:
            Float64 ends of shape ().

        Raises:
            DataError: No finite value was seen.
        """
        require_values(seen)
        return within(seen.lo, seen.hi, seen)

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        return provenance(f"minmax of {seen.count:,} values", self.range(seen, spec), seen)
