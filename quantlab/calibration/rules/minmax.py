"""The min-max rule takes the observed ends as they are, lo = min x and hi = max x: nothing that was seen is clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.channels import PerChannelMinMax, require_axis
from quantlab.calibration.rule import about_zero, calibrators, provenance, require_flag, require_values, within
from quantlab.calibration.statistic import MinMax, Statistic
from quantlab.errors import DataError, OptionError


@calibrators.register("minmax")
@dataclass(frozen=True, kw_only=True)
class MinMaxRule:
    """Take exactly the observed ends.

    Attributes:
        axis: Watch each channel along this axis on its own; a grid per channel of that axis then gets a range for each
            channel. A grid per tensor gets the ends of all channels together.
        symmetric: Widen the range until it mirrors at zero.

    Raises:
        OptionError: An option is of the wrong type.

    Example:
        >>> from quantlab.arrays import INT8
        >>> rule = MinMaxRule()
        >>> seen = rule.empty().update(np.array([-1.0, 0.5, 3.0], np.float32))
        >>> rule.explain(seen, QuantSpec(dtype=INT8))
        'minmax of 3 values: [-1, 3] of the observed [-1, 3]'
        >>> rule = MinMaxRule(axis=0)
        >>> seen = rule.empty().update(np.array([[-1.0, 0.5], [3.0, 4.0]], np.float32))
        >>> rule.range(seen, QuantSpec(dtype=INT8, axis=0))
        Range(lo=array([-1.,  3.]), hi=array([0.5, 4. ]))
    """

    axis: int | None = None
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.axis is not None:
            require_axis(self.axis)
        require_flag("symmetric", self.symmetric)

    def empty(self) -> MinMax | PerChannelMinMax:
        """Return an empty `MinMax`, or an empty `PerChannelMinMax` where there is an axis."""
        return MinMax() if self.axis is None else PerChannelMinMax(axis=self.axis)

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the observed ends.

        Args:
            seen: Any statistic with at least one finite value, or in each channel one.
            spec: The grid to come. A symmetric one spreads the range around zero itself, so the ends are the same.

        Returns:
            Float64 ends of shape (), or (C,) for a grid per channel.

        Raises:
            DataError: No finite value was seen; the text names the channel.
            OptionError: The grid is per channel, and the statistic is not per channel of the same axis.
        """
        require_values(seen)
        if spec.axis is None:
            return about_zero(within(seen.lo, seen.hi, seen), self.symmetric)
        if not isinstance(seen, PerChannelMinMax) or seen.axis != spec.axis:
            own = f"channels along axis {seen.axis}" if isinstance(seen, PerChannelMinMax) else f"a {seen.kind!r}"
            raise OptionError(
                f"a grid per channel of axis {spec.axis} needs the ends of these channels, and the statistic is "
                f"{own}; give 'minmax' the option axis={spec.axis}"
            )
        empty = np.flatnonzero(seen.counts[0] == 0)
        if empty.size:
            raise DataError(
                f"no finite value was seen in channel {empty[0]} of {seen.channels} along axis {seen.axis}, so there "
                "is no range for it; give calibration data that reaches it"
            )
        return about_zero(Range(seen.los, seen.his), self.symmetric)

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        chosen = self.range(seen, spec)
        if not isinstance(seen, PerChannelMinMax) or not chosen.lo.ndim:
            return provenance(f"minmax of {seen.count:,} values", chosen, seen)
        words = f"minmax of {seen.count:,} values, each of {seen.channels:,} channels of axis {seen.axis} on its own"
        return provenance(f"{words}, together", Range(chosen.lo.min(), chosen.hi.max()), seen)
