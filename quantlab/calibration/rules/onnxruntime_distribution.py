"""The distribution rule of onnxruntime.quantization 1.31.1, bit for bit: made for float8 grids.

With the middles v of its histogram's bins, all in the type of the data:

    scenario="same"    deviation of v                        scenario="p3"    deviation of sign(v) |v|**(1/3)

    float8e4m3fn       scale = deviation / 100.05772, the deviation of the finite values of the type; the range is
                       what the grid of that scale spans, [-448 scale, 448 scale]
    integers           the outer edges of the histogram, [-T, T] with T = max |x|: the deviation has no part in it

Source: `DistributionCalibrater` and `compute_scale_zp_float8` of that version. Under "p3" the deviation of cube roots
is divided by that of the values themselves, so that the scale does not follow the data's unit; quantlab's own
`distribution` takes cube roots of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quantlab.arrays import FLOAT8E4M3FN, QuantSpec, Range, float8_levels
from quantlab.calibration.joined import JoinedHistogram
from quantlab.calibration.peer import OnnxruntimeHistogram, require_peer_histogram
from quantlab.calibration.rule import calibrators, provenance
from quantlab.calibration.rules.distribution import require_scenario
from quantlab.calibration.statistic import MinMax, Statistic
from quantlab.errors import DataError, OptionError

# The peer refuses fewer.
LEAST_BINS = 512


@calibrators.register("onnxruntime_distribution")
@dataclass(frozen=True, kw_only=True)
class OnnxruntimeDistributionRule:
    """Take the range of the scale that onnxruntime gives to a float8 tensor.

    Attributes:
        num_bins: Bins of the histogram, at least 512.
        scenario: `"same"` or `"p3"`.

    Raises:
        OptionError: An option is out of its limits.

    Example:
        >>> rule = OnnxruntimeDistributionRule()
        >>> seen = rule.empty().update(np.random.default_rng(0).normal(size=1000).astype(np.float32))
        >>> round(float(rule.range(seen, QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True)).hi) / 448, 6)
        0.009762
    """

    num_bins: int = 2048
    scenario: str = "same"

    def __post_init__(self) -> None:
        require_scenario(self.scenario)
        self.empty()
        if self.num_bins < LEAST_BINS:
            raise OptionError(f"num_bins must be at least {LEAST_BINS}, got {self.num_bins}: onnxruntime refuses fewer")

    def empty(self) -> OnnxruntimeHistogram:
        """Return an empty `OnnxruntimeHistogram`, for one pass."""
        return OnnxruntimeHistogram(bins=self.num_bins)

    def first(self) -> MinMax:
        """Return an empty `MinMax`, for the first of two passes."""
        return MinMax()

    def second(self, seen: Statistic) -> JoinedHistogram:
        """Return an empty `JoinedHistogram` over what the first pass saw."""
        return JoinedHistogram.after(seen, self.num_bins)

    def moments(self, seen: Statistic) -> tuple[np.floating[Any], np.floating[Any]]:
        """Return the peer's average and deviation, in the type of the data.

        Args:
            seen: A statistic that `empty` or `second` gave, with at least one finite value.

        Returns:
            Scalars; the deviation of equal values may be NaN, as the peer's is.

        Raises:
            DataError: No finite value was seen.
            OptionError: The statistic is of another kind.
        """
        seen = require_peer_histogram(seen, "onnxruntime_distribution", False)
        edges, total = seen.edges, seen.counts.sum()
        middles = (edges[:-1] + edges[1:]) * 0.5
        if self.scenario == "p3":
            middles = np.abs(middles) ** (1.0 / 3.0) * np.where(middles < 0, -1, 1).astype(edges.dtype)
        average = (seen.counts * middles).sum() / total
        with np.errstate(invalid="ignore"):
            deviation = ((seen.counts * middles**2).sum() / total - average**2) ** 0.5
        return edges.dtype.type(average), edges.dtype.type(deviation)

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the peer's range.

        Args:
            seen: A statistic that `empty` or `second` gave, with at least one finite value.
            spec: The grid to come: of float8e4m3fn, or of integers.

        Returns:
            Float64 ends of shape (); of a float8 grid they give the peer's scale to the bit.

        Raises:
            DataError: No finite value was seen, or the values are all equal and a float8 scale has no size.
            OptionError: The statistic is of another kind, or the grid of another float8 type.
        """
        deviation = self.moments(seen)[1]
        seen = require_peer_histogram(seen, "onnxruntime_distribution", False)
        if not spec.dtype.is_float:
            return Range(*seen.edges[[0, -1]].astype(np.float64))
        if spec.dtype != FLOAT8E4M3FN:
            raise OptionError(f"onnxruntime has no distribution for {spec.dtype}: take {FLOAT8E4M3FN}")
        levels = float8_levels(spec.dtype).astype(np.float32)
        scale = float(np.array(deviation / np.std(levels), deviation.dtype))
        if not scale > 0:
            raise DataError(f"the values lie so close together that onnxruntime's float8 scale is {scale}")
        return Range(np.array(scale * spec.qmin), np.array(scale * spec.qmax))

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        chosen, deviation = self.range(seen, spec), self.moments(seen)[1]
        seen = require_peer_histogram(seen, "onnxruntime_distribution", False)
        how = f"onnxruntime_distribution {self.scenario!r} of {seen.count:,} values in {seen.counts.size:,} bins"
        return provenance(f"{how}, deviation {float(deviation):.6g}", chosen, seen)
