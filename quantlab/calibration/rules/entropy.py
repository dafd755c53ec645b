"""The entropy rule clips where the quantized distribution tells least apart from the real one.

Take the counts c of |x| on n bins that begin at zero. A threshold after i bins keeps the bins 0..i-1 and lays them on L
levels; bin j goes to level floor(j L / i). With g(j) the bins of j's level, k the last kept bin that is not empty, t
the clipped counts, and 1[...] one where the condition holds and zero elsewhere:

    p_j = c_j + t 1[j = k]                                                         what clipping makes of the data
    q_j = 1[c_j > 0] * sum_{m in g(j)} c_m / sum_{m in g(j)} 1[c_m > 0]            what L levels can tell of it
    D_i = sum_j rel_entr(p_j / sum p, q_j / sum q),     rel_entr(a, b) = a log(a / b)

The threshold is the upper edge of bin i - 1 for the i with the least D_i, L <= i <= n. Three decisions:

- Among divergences equal to within 1e-12 nats, which is above the rounding of the sums, the widest range wins: where
  nothing is gained by clipping, nothing is clipped.
- The bin at zero takes the count of its neighbour. Zero is on every grid and loses nothing, but the many zeros that a
  ReLU makes would count as if smeared over their level, and pull the threshold down: to 42 % of the range for
  max(x, 0) of 500,000 normal numbers on 128 levels, at a hundred times the squared error.
- Clipped counts go to bin k. Migacz adds them to bin i - 1, where they make the divergence infinite if that bin is
  empty, so that a single far outlier leaves no threshold but itself. Where bin i - 1 is not empty, both are the same.

Source: Migacz 2017, "8-bit Inference with TensorRT". The fast form, `quantlab.kernels.kl_divergences`, splits D
into sums over bins and over levels, and takes each from a prefix sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from quantlab import kernels
from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.histogram import DEFAULT_BINS, LEAST_BINS, Histogram
from quantlab.calibration.lattice import Bins
from quantlab.calibration.rule import about_zero, calibrators, provenance, require_flag, require_histogram, within
from quantlab.calibration.statistic import Statistic
from quantlab.errors import OptionError

# Nats by which divergences may differ and still count as equal.
TIE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Search:
    """What the search for a threshold came to.

    Attributes:
        threshold: Upper edge of the last bin kept, in the unit of the values.
        divergence: Its divergence, in nats.
        levels: Levels that the kept bins are laid on.
        tried: How many thresholds were compared.
        size: How many bins there are.
    """

    threshold: float
    divergence: float
    levels: int
    tried: int
    size: int


def search(bins: Bins, levels: int) -> Search:
    """Find the threshold with the least divergence, the widest among equals.

    Args:
        bins: Counts of absolute values from zero on; the last bin is not empty.
        levels: How many levels the kept bins are laid on.

    Returns:
        The threshold and how it was found.
    """
    counts = bins.counts.copy()
    if counts.size > 1:
        counts[0] = counts[1]
    all_divergences = kernels.kl_divergences(counts, levels)
    best = int(np.flatnonzero(all_divergences <= all_divergences.min() + TIE)[-1])
    return Search(
        threshold=bins.edge(0.0, min(levels, len(bins)) + best),
        divergence=float(all_divergences[best]),
        levels=levels,
        tried=all_divergences.size,
        size=len(bins),
    )


def levels_from_zero(seen: Statistic, spec: QuantSpec) -> int:
    """Return how many levels of a grid lie on the side of zero on which the threshold is searched, zero included.

    Args:
        seen: Statistic that tells the signs of the values.
        spec: The grid.

    Returns:
        Half of the levels for a symmetric grid or values of both signs, all for an asymmetric grid and one sign.
    """
    levels = spec.qmax - spec.qmin + 1
    return (levels + 1) // 2 if spec.symmetric or seen.lo < 0 < seen.hi else levels


@calibrators.register("entropy")
@dataclass(frozen=True, kw_only=True)
class EntropyRule:
    """Clip at the threshold of |x| with the least Kullback-Leibler divergence.

    Attributes:
        bins: Most bins from zero to the largest absolute value, at least 8. More than half as many are used. Types
            with as many levels as there are bins, such as int16, leave only one threshold, the largest absolute value.
        symmetric: Widen the range until it mirrors at zero; half of the levels then lie on each side.
        absolute: Count absolute values, in half of the memory and somewhat more time.

    Raises:
        OptionError: `bins` is out of its limits.

    Example:
        >>> from quantlab.arrays import INT8
        >>> rule = EntropyRule()
        >>> values = np.append(np.random.default_rng(0).normal(size=100_000), 50.0)
        >>> clipped = rule.range(rule.empty().update(values), QuantSpec(dtype=INT8, symmetric=True))
        >>> 3 < float(clipped.hi) < 5
        True
    """

    bins: int = DEFAULT_BINS
    symmetric: bool = False
    absolute: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or self.bins < LEAST_BINS:
            raise OptionError(f"bins must be an integer of at least {LEAST_BINS}, got {self.bins!r}")
        require_flag("symmetric", self.symmetric)
        require_flag("absolute", self.absolute)

    def empty(self) -> Histogram:
        """Return an empty `Histogram`, of as many bins for each sign; or of the absolute values."""
        return Histogram(max_bins=self.bins if self.absolute else 2 * self.bins, absolute=self.absolute)

    def _search(self, seen: Statistic, spec: QuantSpec) -> tuple[Histogram, Search]:
        seen = require_histogram(seen, "entropy")
        spec = replace(spec, symmetric=spec.symmetric or self.symmetric)
        return seen, search(seen.folded_from_zero(self.bins), levels_from_zero(seen, spec))

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the range `[-t, t]` of the best threshold t, within the observed ends.

        Args:
            seen: A `Histogram` with at least one finite value.
            spec: The grid to come; its number of levels and its symmetry matter.

        Returns:
            Float64 ends of shape ().

        Raises:
            DataError: No finite value was seen.
            OptionError: The statistic is no histogram.
        """
        seen, found = self._search(seen, spec)
        return about_zero(within(-found.threshold, found.threshold, seen), self.symmetric)

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        seen, found = self._search(seen, spec)
        thresholds = "threshold" if found.tried == 1 else "thresholds"
        return provenance(
            f"entropy of {seen.count:,} values, {found.tried:,} {thresholds} tried on {found.size:,} bins of |x| for "
            f"{found.levels:,} levels, divergence {found.divergence:.3g}",
            about_zero(within(-found.threshold, found.threshold, seen), self.symmetric),
            seen,
        )
