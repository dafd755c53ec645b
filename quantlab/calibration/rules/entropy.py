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

Source: Migacz 2017, "8-bit Inference with TensorRT". The fast form splits D into sums over bins and over levels, and
takes each from a prefix sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.histogram import DEFAULT_BINS, LEAST_BINS, Histogram
from quantlab.calibration.lattice import Bins, Counts
from quantlab.calibration.rule import calibrators, provenance, require_histogram, within
from quantlab.calibration.statistic import Statistic
from quantlab.errors import OptionError

Floats = npt.NDArray[np.float64]

# Nats by which divergences may differ and still count as equal.
TIE = 1e-12
# Numbers to work on at a time: few enough to stay in the cache of one core.
BLOCK = 1 << 15


def divergences(counts: Counts, levels: int) -> Floats:
    """Compute the divergence of every threshold, from prefix sums.

    With C, Z, H the prefix sums of c, 1[c > 0] and c log c, N the total, S and z the counts and the non-empty bins of
    a level, and * marking the level of bin k:

        N D_i = H_i - c_k log c_k + (c_k + t) log(c_k + t) - sum_levels S log(S / z) - t log(S* / z*) + N log(C_i / N)

    Args:
        counts: Shape (n,), none below 0, not all 0; the first bin begins at zero.
        levels: How many levels the kept bins are laid on.

    Returns:
        Divergences in nats, of shape (n - min(levels, n) + 1,); the first is that of keeping `min(levels, n)` bins,
        the last that of keeping all. A threshold that keeps no value at all has an infinite one.
    """
    fewest, total = min(levels, counts.size), float(counts.sum())
    below, occupied = _prefix(counts), _prefix((counts > 0).astype(np.int64))
    entropy = np.concatenate([[0.0], np.cumsum(_x_log_x(counts.astype(np.float64)))])
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(counts.size), 0))
    result = np.full(counts.size - fewest + 1, np.inf)
    keeping = np.flatnonzero(below[fewest:] > 0) + fewest
    steps = np.arange(levels + 1)
    rows = max(1, BLOCK // levels)
    for kept in (keeping[start : start + rows] for start in range(0, keeping.size, rows)):
        # Level g holds the bins from ceil(g i / L) on.
        cuts = -(-(steps * kept[:, None]) // levels)
        mass, filled = np.diff(below[cuts]).astype(np.float64), np.diff(occupied[cuts])
        # Empty levels have mass 0 and add nothing, whatever their logarithm.
        log_level = np.log(np.where(filled > 0, mass / np.maximum(filled, 1), 1.0))
        end = last[kept - 1]
        clipped, at_end = total - below[kept], counts[end].astype(np.float64)
        own = entropy[kept] - _x_log_x(at_end) + _x_log_x(at_end + clipped)
        cross = (mass * log_level).sum(axis=1) + clipped * log_level[np.arange(kept.size), end * levels // kept]
        result[kept - fewest] = (own - cross) / total + np.log(below[kept] / total)
    return np.asarray(np.maximum(result, 0.0))


def _prefix(values: Counts) -> Counts:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])


def _x_log_x(x: Floats) -> Floats:
    return x * np.log(np.where(x > 0, x, 1.0))


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
    all_divergences = divergences(counts, levels)
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

    def __post_init__(self) -> None:
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or self.bins < LEAST_BINS:
            raise OptionError(f"bins must be an integer of at least {LEAST_BINS}, got {self.bins!r}")

    def empty(self) -> Histogram:
        """Return an empty `Histogram`, of as many bins for each sign."""
        return Histogram(max_bins=2 * self.bins)

    def _search(self, seen: Statistic, spec: QuantSpec) -> tuple[Histogram, Search]:
        seen = require_histogram(seen, "entropy")
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
        return within(-found.threshold, found.threshold, seen)

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        seen, found = self._search(seen, spec)
        thresholds = "threshold" if found.tried == 1 else "thresholds"
        return provenance(
            f"entropy of {seen.count:,} values, {found.tried:,} {thresholds} tried on {found.size:,} bins of |x| for "
            f"{found.levels:,} levels, divergence {found.divergence:.3g}",
            within(-found.threshold, found.threshold, seen),
            seen,
        )
