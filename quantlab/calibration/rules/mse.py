"""The mse rule clips where the mean squared error of quantizing is least: rounding inside the range, clipping outside.

With the values of a histogram's bin taken at its middle x_j, counts n_j, N values in all, and fq the grid of a range:

    E(lo, hi) = sum_j n_j (fq(x_j) - x_j)**2 / N            the range with the least E wins

Ends lie on bin edges, within the observed ends. Where there is one end to choose, t of [-t, t], [0, t] or [-t, 0], all
are tried; where there are two, every 64th part of each side with every one of the other, and then ever finer edges
around the best. Three decisions:

- Values in the two bins next to zero count as zero, which is on every grid and loses nothing: a bin's middle would
  charge the many zeros that a ReLU makes.
- Among errors equal to within 1e-12 of the mean square of the values (120 dB below them), which is above the rounding
  of the sums, the widest range wins, then the one that reaches higher.
- The grid is that of exact arithmetic: its scale is not yet rounded to the type of the tensor.

The distance of a value to the nearest level changes no faster than the value. The root mean squared error of any range
tried, measured on the data itself, therefore lies within one bin width of the one computed from the histogram.

The criterion is that of Banner et al. 2019, "Post training 4-bit quantization of convolutional networks for
rapid-deployment", who minimise it for a fitted density; here it is computed from the counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantlab import kernels
from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.histogram import DEFAULT_BINS, Histogram
from quantlab.calibration.lattice import bin_of, bins_between, lattice_exponent
from quantlab.calibration.rule import about_zero, calibrators, provenance, require_flag, require_histogram, within
from quantlab.calibration.statistic import Statistic

Floats = npt.NDArray[np.float64]

# Share of the mean square by which errors may differ and still count as equal.
TIE = 1e-12
# Numbers to work on at a time: few enough to stay in the cache of one core.
BLOCK = 1 << 15
# Parts into which each side of zero is cut for the first search of two ends, and by which each next one is finer.
COARSE, FINER = 64, 8


@dataclass(frozen=True, kw_only=True)
class Points:
    """A histogram as points on the line, in units of its bin width.

    Attributes:
        x: Middles of the bins that are not empty, ascending, shape (n,), without the two next to zero.
        counts: How many values are in each of them, shape (n,).
        total: How many values there are in all.
        lo: Distance from zero to the lower observed end, 0 if that is above zero.
        hi: The same to the upper one.
        exponent: The bin width is 2**exponent.
    """

    x: Floats
    counts: Floats
    total: int
    lo: float
    hi: float
    exponent: int

    def mean_square(self) -> float:
        """Return the mean square of all values, in squared bin widths."""
        return float(np.sum(self.counts * self.x**2)) / self.total


def points(seen: Histogram) -> Points:
    """Lay a histogram on the lattice that reaches from zero over all values, and take the middles of its bins.

    Args:
        seen: Histogram with at least one finite value.

    Returns:
        At most `seen.max_bins` points, each inside its bin.
    """
    lo, hi = min(seen.lo, 0.0), max(seen.hi, 0.0)
    exponent = lattice_exponent(lo, hi, seen.max_bins)
    if seen.bins is None or lo == hi:
        nothing = np.zeros(0)
        return Points(x=nothing, counts=nothing, total=seen.count, lo=0.0, hi=0.0, exponent=exponent)
    exponent = max(exponent, seen.bins.exponent)
    bins = seen.bins.on(exponent, bin_of(lo, exponent), bins_between(lo, hi, exponent))
    filled = np.flatnonzero(bins.counts)
    number = bins.first + filled
    # The first and the last bin hold no values beyond the observed ends.
    least, largest = (math.ldexp(end, -exponent) for end in (seen.lo, seen.hi))
    middle = (np.clip(number, least, largest) + np.clip(number + 1, least, largest)) / 2
    # An end just below an edge has a middle that rounds to the edge, which is in the next bin.
    middle = np.minimum(middle, np.nextafter(number + 1.0, -np.inf))
    far = (number < -1) | (number > 0)
    return Points(
        x=middle[far],
        counts=bins.counts[filled[far]].astype(np.float64),
        total=seen.count,
        lo=math.ldexp(-lo, -exponent),
        hi=math.ldexp(hi, -exponent),
        exponent=exponent,
    )


def errors(seen: Points, lo: Floats, hi: Floats, spec: QuantSpec) -> Floats:
    """Compute the mean squared error of many ranges.

    Args:
        seen: The values.
        lo: Distances from zero to the lower ends, shape (T,).
        hi: Distances from zero to the upper ends, shape (T,); not both 0.
        spec: The grid.

    Returns:
        Mean squared errors in squared bin widths, shape (T,).
    """
    if spec.symmetric:
        lo = hi = np.maximum(lo, hi)
    step = (lo + hi) / (spec.qmax - spec.qmin)
    middle = np.rint((spec.qmin + spec.qmax) / 2)
    zero_point = np.full_like(step, middle) if spec.symmetric else np.rint(spec.qmin + lo / step)
    first, levels = spec.dtype.qmin - zero_point, spec.dtype.qmax - spec.dtype.qmin + 1
    if levels < seen.x.size:
        return kernels.mse_curve(seen.x, seen.counts, step, first, levels) / seen.total
    rows = max(1, BLOCK // max(1, seen.x.size))
    parts = [slice(start, start + rows) for start in range(0, step.size, rows)]
    return np.concatenate([_errors_by_point(seen, step[part], first[part], levels) for part in parts])


def _errors_by_point(seen: Points, step: Floats, first: Floats, levels: int) -> Floats:
    """Round every point to every grid: less work than `mse_curve` where there are more levels than points."""
    step, first = step[:, None], first[:, None]
    level = np.clip(np.rint(seen.x / step), first, first + (levels - 1))
    return np.asarray(np.sum(seen.counts * (level * step - seen.x) ** 2, axis=1) / seen.total)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search came to.

    Attributes:
        lo: Distance from zero to the lower end, in bin widths.
        hi: Distance from zero to the upper end, in bin widths.
        error: Mean squared error, in squared bin widths.
        tried: How many ranges were compared.
    """

    lo: float
    hi: float
    error: float
    tried: int


def search(seen: Points, spec: QuantSpec, mirrored: bool) -> Found:
    """Find the range with the least mean squared error, the widest among equals.

    Args:
        seen: The values.
        spec: The grid.
        mirrored: Whether only ranges that mirror at zero are tried.

    Returns:
        The range and how it was found.
    """
    limits = seen.lo, seen.hi
    if max(limits) == 0:
        return Found(lo=0.0, hi=0.0, error=0.0, tried=1)
    if mirrored or min(limits) == 0:
        ends = _edges(max(limits), 1, 0.0, max(limits))[1:]
        nothing = np.zeros_like(ends)
        return _best(seen, ends if mirrored or limits[0] else nothing, ends if mirrored or limits[1] else nothing, spec)
    strides = [max(1, 2 ** math.ceil(math.log2(limit / COARSE))) for limit in limits]
    windows = [(0.0, limit) for limit in limits]
    tried = 0
    while True:
        axes = [_edges(limit, k, *window) for limit, k, window in zip(limits, strides, windows, strict=True)]
        lo, hi = (ends.ravel() for ends in np.meshgrid(*axes, indexing="ij"))
        # Ranges narrower than a bin hold no more than zero, and their steps may be too small for a number.
        some = lo + hi >= min(1.0, max(limits))
        best = _best(seen, lo[some], hi[some], spec)
        tried += best.tried
        if max(strides) == 1:
            return Found(lo=best.lo, hi=best.hi, error=best.error, tried=tried)
        windows = [(end - k, end + k) for end, k in zip((best.lo, best.hi), strides, strict=True)]
        strides = [max(1, k // FINER) for k in strides]


def _edges(limit: float, stride: int, start: float, stop: float) -> Floats:
    """Return the multiples of a stride from `start` to `stop` within 0..limit, and the limit if it is among them."""
    low, high = math.ceil(max(start, 0.0) / stride), math.ceil(min(stop, limit) / stride)
    edges = np.minimum(np.arange(low, high + 1) * float(stride), limit)
    return np.unique(edges[edges <= stop])


def _best(seen: Points, lo: Floats, hi: Floats, spec: QuantSpec) -> Found:
    found = errors(seen, lo, hi, spec)
    equal = np.flatnonzero(found <= found.min() + TIE * seen.mean_square())
    best = equal[np.lexsort((hi[equal], (lo + hi)[equal]))[-1]]
    return Found(lo=float(lo[best]), hi=float(hi[best]), error=float(found[best]), tried=lo.size)


@calibrators.register("mse")
@dataclass(frozen=True, kw_only=True)
class MseRule:
    """Clip where the mean squared quantization error is least.

    Attributes:
        max_bins: Most bins of the histogram; the ends are searched among their edges.
        symmetric: Search among the ranges that mirror at zero only.

    Raises:
        OptionError: An option is out of its limits.

    Example:
        >>> from quantlab.arrays import INT4
        >>> rule = MseRule()
        >>> seen = rule.empty().update(np.random.default_rng(0).normal(size=100_000))
        >>> clipped = rule.range(seen, QuantSpec(dtype=INT4, symmetric=True))
        >>> 2 < float(clipped.hi) < 3 < seen.hi
        True
    """

    max_bins: int = DEFAULT_BINS
    symmetric: bool = False

    def __post_init__(self) -> None:
        Histogram(max_bins=self.max_bins)
        require_flag("symmetric", self.symmetric)

    def empty(self) -> Histogram:
        """Return an empty `Histogram`."""
        return Histogram(max_bins=self.max_bins)

    def _search(self, seen: Statistic, spec: QuantSpec) -> tuple[Range, Points, Found]:
        seen = require_histogram(seen, "mse", signed=True)
        values = points(seen)
        found = search(values, spec, spec.symmetric or self.symmetric)
        ends = -math.ldexp(found.lo, values.exponent), math.ldexp(found.hi, values.exponent)
        return about_zero(within(*ends, seen), self.symmetric), values, found

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the range with the least error, within the observed ends.

        Args:
            seen: A `Histogram` with at least one finite value.
            spec: The grid to come; all of it matters but its axis.

        Returns:
            Float64 ends of shape ().

        Raises:
            DataError: No finite value was seen.
            OptionError: The statistic is no histogram.
        """
        return self._search(seen, spec)[0]

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        chosen, values, found = self._search(seen, spec)
        error = math.ldexp(math.sqrt(found.error), values.exponent)
        ranges = "range" if found.tried == 1 else "ranges"
        how = f"{found.tried:,} {ranges} tried, root mean squared error {error:.3g}"
        return provenance(f"mse of {seen.count:,} values, {how}", chosen, seen)
