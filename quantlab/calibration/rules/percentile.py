"""The percentile rule cuts a share of the values off the tails, and leaves the rest unclipped.

With N values, a share c = (100 - percent) / 100 and F(t) the number of values below t, linear inside each bin:

    tails="magnitude"    F(t) = N - c N  for |x|; the range is [-t, t] within the observed ends
    tails="each"         F(lo) = c N / 2  and  F(hi) = N - c N / 2  for x, or [-t, t] for a symmetric grid

Cutting by magnitude clips a long tail only: the short side of a skewed tensor stays whole. For a tensor of one sign
both ways are the same. A grid always contains zero, so that nothing can be gained on the side of zero: the whole share
is cut on the other.

Source: the percentile calibration of Wu et al. 2020, "Integer Quantization for Deep Learning Inference: Principles and
Empirical Evaluation", section 5, which is by magnitude, as onnxruntime.quantization's is by default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias, get_args

import numpy as np

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.histogram import DEFAULT_BINS, Histogram
from quantlab.calibration.lattice import Bins
from quantlab.calibration.rule import about_zero, calibrators, provenance, require_flag, require_histogram, within
from quantlab.calibration.statistic import Statistic
from quantlab.errors import OptionError

Tails: TypeAlias = Literal["magnitude", "each"]


def lower_cut(bins: Bins, rank: Fraction) -> float:
    """Return the point below which lie `rank` of the values of a histogram.

    Args:
        bins: Counts with total N.
        rank: From 0 to below N, in values.

    Returns:
        The point with F(t) = rank; where F stays at that number for a while, the last such point, from which on there
        are values again.
    """
    cumulative = bins.cumulative()
    index = int(np.searchsorted(cumulative, math.floor(rank), side="right")) - 1
    inside = (rank - int(cumulative[index])) / int(bins.counts[index])
    return bins.edge(float(inside), index)


def upper_cut(bins: Bins, rank: Fraction) -> float:
    """Return the point above which lie `rank` of the values of a histogram: `lower_cut` seen in a mirror."""
    return -lower_cut(bins.mirrored(), rank)


@calibrators.register("percentile")
@dataclass(frozen=True, kw_only=True)
class PercentileRule:
    """Keep a percentage of the values unclipped.

    Attributes:
        percent: Share of the values to keep, in percent, above 0 and at most 100. It is taken at its decimal meaning:
            99.999 cuts exactly 1 value in 100,000.
        tails: `"magnitude"` cuts the largest absolute values, `"each"` half of the share at each end.
        max_bins: Most bins of the histogram; the cut is exact to one bin.
        symmetric: Widen the range until it mirrors at zero; the tails are then cut by magnitude.
        absolute: Count absolute values, which gives them all of the bins; for cutting by magnitude only.

    Raises:
        OptionError: An option is out of its limits, or `absolute` is asked for with `tails="each"`.

    Example:
        >>> from quantlab.arrays import UINT8
        >>> rule = PercentileRule(percent=99)
        >>> seen = rule.empty().update(np.append(np.linspace(0, 1, 9_999), 500.0))
        >>> 0.9 < float(rule.range(seen, QuantSpec(dtype=UINT8)).hi) < 1.1
        True
    """

    percent: float = 99.999
    tails: Tails = "magnitude"
    max_bins: int = DEFAULT_BINS
    symmetric: bool = False
    absolute: bool = False

    def __post_init__(self) -> None:
        number = isinstance(self.percent, int | float) and not isinstance(self.percent, bool)
        if not number or not 0 < self.percent <= 100:
            raise OptionError(f"percent must be a number above 0 and at most 100, got {self.percent!r}")
        if self.tails not in get_args(Tails):
            raise OptionError(f"tails must be one of {', '.join(map(repr, get_args(Tails)))}, got {self.tails!r}")
        Histogram(max_bins=self.max_bins)
        require_flag("symmetric", self.symmetric)
        require_flag("absolute", self.absolute)
        if self.absolute and self.tails == "each":
            raise OptionError(
                "absolute=True does not go with tails='each', which needs the signs of the values: leave out one"
            )

    def empty(self) -> Histogram:
        """Return an empty `Histogram`."""
        return Histogram(max_bins=self.max_bins, absolute=self.absolute)

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the range that cuts the share off the tails, exact to one bin.

        Args:
            seen: A `Histogram` with at least one finite value.
            spec: The grid to come; only its symmetry matters, and that only with `tails="each"`.

        Returns:
            Float64 ends of shape (), within the observed ends. `percent=100` gives the observed ends.

        Raises:
            DataError: No finite value was seen.
            OptionError: The statistic is no histogram, or one of absolute values where the signs are needed.
        """
        seen = require_histogram(seen, "percentile", signed=not self._by_magnitude(spec))
        return about_zero(self._kept(seen, spec), self.symmetric)

    def _kept(self, seen: Histogram, spec: QuantSpec) -> Range:
        share = (100 - Fraction(str(float(self.percent)))) / 100 * seen.count
        bins = seen.bins
        if not share or bins is None:
            return within(seen.lo, seen.hi, seen)
        if self._by_magnitude(spec):
            threshold = max(upper_cut(seen.folded(), share), seen.abs_lo)
            return within(-threshold, threshold, seen)
        if seen.lo >= 0:
            return within(seen.lo, upper_cut(bins, share), seen)
        if seen.hi <= 0:
            return within(lower_cut(bins, share), seen.hi, seen)
        return within(lower_cut(bins, share / 2), upper_cut(bins, share / 2), seen)

    def _by_magnitude(self, spec: QuantSpec) -> bool:
        return spec.symmetric or self.symmetric or self.tails == "magnitude"

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        chosen, seen = self.range(seen, spec), require_histogram(seen, "percentile")
        size, of = (len(seen.folded()), "absolute values") if self._by_magnitude(spec) else (seen.counts.size, "values")
        return provenance(f"percentile {self.percent} % of {seen.count:,} {of} in {size:,} bins", chosen, seen)
