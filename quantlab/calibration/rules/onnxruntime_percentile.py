"""The percentile rule of onnxruntime.quantization 1.31.1, bit for bit, for checking one against the other.

With the cumulative shares F of its histogram and the lower edge e(i) of bin i:

    symmetric=True     t = e(first i with F(i) >= p / 100);  [-t, t], of the histogram of absolute values
    symmetric=False    e(first i with F(i) >= c), e(first i with F(i) >= 1 - c), c = (100 - p) / 200

and both ends are moved within the observed ends. Since lower edges are taken, percentile=100 still trims a bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.joined import JoinedHistogram, Magnitudes
from quantlab.calibration.peer import OnnxruntimeHistogram, peer_range, require_peer_histogram
from quantlab.calibration.rule import calibrators, provenance, require_flag
from quantlab.calibration.statistic import MinMax, Statistic
from quantlab.errors import OptionError


@calibrators.register("onnxruntime_percentile")
@dataclass(frozen=True, kw_only=True)
class OnnxruntimePercentileRule:
    """Take onnxruntime's percentiles.

    Attributes:
        percentile: Share of the values to keep, in percent, from 0 to 100.
        num_bins: Bins of the histogram.
        symmetric: Count absolute values, as `quantize_static` of onnxruntime does by default.

    Raises:
        OptionError: An option is out of its limits.

    Example:
        >>> from quantlab.arrays import INT8
        >>> rule = OnnxruntimePercentileRule(percentile=100, num_bins=4)
        >>> seen = rule.empty().update(np.array([0, 1, 2, 3, 4], np.float32))
        >>> float(rule.range(seen, QuantSpec(dtype=INT8)).hi)
        3.0
    """

    percentile: float = 99.999
    num_bins: int = 2048
    symmetric: bool = True

    def __post_init__(self) -> None:
        number = isinstance(self.percentile, int | float) and not isinstance(self.percentile, bool)
        if not number or not 0 <= self.percentile <= 100:
            raise OptionError(f"percentile must be a number from 0 to 100, got {self.percentile!r}")
        require_flag("symmetric", self.symmetric)
        self.empty()

    def empty(self) -> OnnxruntimeHistogram:
        """Return an empty `OnnxruntimeHistogram`, for one pass."""
        return OnnxruntimeHistogram(bins=self.num_bins, absolute=self.symmetric)

    def first(self) -> MinMax | Magnitudes:
        """Return an empty `Magnitudes`, or `MinMax` where values are counted, for the first of two passes."""
        return Magnitudes() if self.symmetric else MinMax()

    def second(self, seen: Statistic) -> JoinedHistogram:
        """Return an empty `JoinedHistogram` over what the first pass saw."""
        return JoinedHistogram.after(seen, self.num_bins)

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the peer's range; where its ends are the wrong way round, the one with the same grid.

        Args:
            seen: A statistic that `empty` or `second` gave, with at least one finite value.
            spec: The grid to come; it does not matter.

        Returns:
            Float64 ends of shape ().

        Raises:
            DataError: No finite value was seen.
            OptionError: The statistic is of another kind.
        """
        seen = require_peer_histogram(seen, "onnxruntime_percentile", self.symmetric)
        shares = np.cumsum(seen.counts / seen.counts.sum())
        if self.symmetric:
            end = seen.edges[np.searchsorted(shares, self.percentile / 100.0)]
            return peer_range(-end, end, seen)
        cut = (100.0 - self.percentile) / 200.0
        return peer_range(
            seen.edges[np.searchsorted(shares, cut)], seen.edges[np.searchsorted(shares, 1.0 - cut)], seen
        )

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        chosen, seen = self.range(seen, spec), require_peer_histogram(seen, "onnxruntime_percentile", self.symmetric)
        how = f"onnxruntime_percentile {self.percentile} % of {seen.count:,} values in {seen.counts.size:,} bins"
        return provenance(how, chosen, seen)
