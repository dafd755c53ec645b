"""The distribution rule gives a grid the scale at which its levels have the standard deviation of the data.

With L the levels of the grid at scale 1, counted from their middle, and x the data, counted from its mean where the
grid can follow it (asymmetric integers) and from zero where it cannot (symmetric grids, float8):

    scale = (std(root(x)) / std(root(L)))**p          root(v) = sign(v) |v|**(1 / p)
    range = [centre - scale max L, centre + scale max L]

    scenario "same"    p = 1: data and levels are spread alike, scale = std(x) / std(L)
    scenario "p3"      p = 3: the levels lie like cubes of what the data is like, dense near zero

Both ends are moved within the observed ends. Mean and deviations are those of the histogram, each value taken for the
middle of its bin.

Made for float8 grids, whose levels are spread like data: equal steps reach 1.73 deviations, and clip more than most
tensors bear. Source: `compute_scale_zp_float8` of onnxruntime.quantization 1.31.1, scale = std(x) / std(L) for
float8e4m3fn. Under "p3" it divides the deviation of the data's cube roots by that of the levels themselves, which
depends on the data's unit; here both are rooted, and the quotient is cubed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QuantSpec, Range, float8_levels
from quantlab.calibration.histogram import DEFAULT_BINS, Histogram
from quantlab.calibration.lattice import Bins
from quantlab.calibration.rule import about_zero, calibrators, provenance, require_flag, require_histogram, within
from quantlab.calibration.statistic import Statistic
from quantlab.errors import OptionError, nearest

Floats = npt.NDArray[np.float64]

POWERS = {"same": 1, "p3": 3}
"""Scenario to p."""

# Levels of wider integers are so many that fewer of them, further apart, have the same deviation.
MOST_LEVELS = 1 << 16


def require_scenario(scenario: object) -> None:
    """Refuse a scenario that does not exist.

    Args:
        scenario: What was given.

    Raises:
        OptionError: It is neither `"same"` nor `"p3"`.
    """
    if scenario not in POWERS:
        raise OptionError(
            f"unknown scenario {scenario!r}{nearest(str(scenario), POWERS)} (allowed: {', '.join(POWERS)})"
        )


def deviation(values: Floats, weights: npt.NDArray[np.integer] | None = None, p: int = 1) -> float:
    """Compute the standard deviation of signed roots.

    Args:
        values: Shape (n,).
        weights: How often each value occurs, shape (n,); once by default.
        p: 1 for the values themselves, 3 for their cube roots.

    Returns:
        `sqrt(mean((r - mean(r))**2))` with r = sign(v) |v|**(1 / p), in float64.

    Example:
        >>> deviation(np.array([-8.0, 8.0])), deviation(np.array([-8.0, 8.0]), p=3)
        (8.0, 2.0)
    """
    roots = values if p == 1 else np.cbrt(values)
    mean = np.average(roots, weights=weights)
    return float(np.sqrt(np.average((roots - mean) ** 2, weights=weights)))


def reach(spec: QuantSpec, p: int) -> float:
    """Compute how far the levels of a grid reach, in units in which their roots have deviation 1.

    Args:
        spec: The grid.
        p: 1 for the levels themselves, 3 for their cube roots.

    Returns:
        `max L / std(root(L))**p`.

    Example:
        >>> from quantlab.arrays import FLOAT8E4M3FN, INT8
        >>> round(reach(QuantSpec(dtype=INT8), 1), 3)
        1.725
        >>> round(reach(QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True), 1), 3)
        4.477
    """
    if spec.dtype.is_float:
        levels = float8_levels(spec.dtype).astype(np.float64)
    else:
        half = (spec.qmax - spec.qmin) / 2
        levels = np.linspace(-half, half, min(spec.qmax - spec.qmin + 1, MOST_LEVELS))
    return float(levels.max() / deviation(levels, p=p) ** p)


@calibrators.register("distribution")
@dataclass(frozen=True, kw_only=True)
class DistributionRule:
    """Match the deviation of the data with that of the grid's levels.

    Attributes:
        scenario: `"same"` or `"p3"`.
        max_bins: Most bins of the histogram.
        symmetric: Count from zero on every grid, and widen the range until it mirrors at zero.

    Raises:
        OptionError: An option is out of its limits.

    Example:
        >>> from quantlab.arrays import FLOAT8E4M3FN
        >>> rule = DistributionRule()
        >>> seen = rule.empty().update(np.array([-3, -1, 1, 3, 40], np.float32))
        >>> rule.explain(seen, QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True))
        "distribution 'same' of 5 values, mean 8.00781, deviation 16.1245: [-3, 40] of the observed [-3, 40]"
    """

    scenario: str = "same"
    max_bins: int = DEFAULT_BINS
    symmetric: bool = False

    def __post_init__(self) -> None:
        require_scenario(self.scenario)
        require_flag("symmetric", self.symmetric)
        self.empty()

    def empty(self) -> Histogram:
        """Return an empty `Histogram`."""
        return Histogram(max_bins=self.max_bins)

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the range in which the grid's levels have the deviation of the data.

        Args:
            seen: A `Histogram` with at least one finite value.
            spec: The grid to come.

        Returns:
            Float64 ends of shape ().

        Raises:
            DataError: No finite value was seen.
            OptionError: The statistic is of another kind, or tells no signs.
        """
        seen = require_histogram(seen, "distribution", signed=True)
        bins, p = _bins(seen), POWERS[self.scenario]
        middles, mean = _middles(bins)
        fixed = self.symmetric or spec.symmetric
        # All in bin widths, so that the unit of the data leaves no trace in the roundings.
        centred = middles + bins.first if fixed else middles - mean
        half = deviation(centred, bins.counts, p) ** p * reach(spec, p)
        if fixed:
            with np.errstate(over="ignore"):
                end = float(np.ldexp(half, bins.exponent))
            return about_zero(within(-end, end, seen), self.symmetric)
        return within(_point(bins, mean - half), _point(bins, mean + half), seen)

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        chosen, seen = self.range(seen, spec), require_histogram(seen, "distribution", signed=True)
        bins = _bins(seen)
        middles, mean = _middles(bins)
        spread = deviation(middles, bins.counts) * bins.width
        how = f"distribution {self.scenario!r} of {seen.count:,} values, mean {_point(bins, mean):.6g}"
        return provenance(f"{how}, deviation {spread:.6g}", chosen, seen)


def _bins(seen: Histogram) -> Bins:
    bins = seen.bins
    if bins is None:  # refused before; said again for the type checker
        raise OptionError("range rule 'distribution' needs a histogram with bins")
    return bins


def _middles(bins: Bins) -> tuple[Floats, float]:
    """Return the middles of the bins and their mean over the data, in bin widths above the first edge."""
    middles = np.arange(len(bins), dtype=np.float64) + 0.5
    return middles, float(np.average(middles, weights=bins.counts))


def _point(bins: Bins, position: float) -> float:
    """Return the number that lies so many bin widths above the first edge, or the end of the bins it lies beyond."""
    position = min(max(position, 0.0), float(len(bins)))
    return bins.edge(position - int(position), int(position))
