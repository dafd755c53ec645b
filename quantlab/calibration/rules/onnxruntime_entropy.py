"""The entropy rule of onnxruntime.quantization 1.31.1, bit for bit, for checking one against the other.

With n bins, c = n // 2 and Q quantized bins, the bins from c - i to c + i are kept for each i from Q // 2 to c: p is
their counts, with what lies outside added to the first and the last; q is the kept counts merged into Q runs of equal
length and spread over the non-empty bins of each, truncated to integers. Zeros of both are smoothed, all in float32,
and the first i with the least sum of p log(p / q) wins; both ends are moved within the observed ends. With the
defaults, and data that is counted at once, the only candidate keeps all bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.joined import JoinedHistogram
from quantlab.calibration.lattice import Counts
from quantlab.calibration.peer import OnnxruntimeHistogram, peer_range, require_peer_histogram
from quantlab.calibration.rule import calibrators, provenance
from quantlab.calibration.statistic import MinMax, Statistic
from quantlab.errors import OptionError

# What a smoothed bin without counts gets.
LEAST = 0.0001


def divergence(counts: Counts, first: int, stop: int, quantized: int) -> float:
    """Compute the peer's divergence of keeping some bins.

    Args:
        counts: Shape (n,).
        first: Number of the first bin kept.
        stop: Number of the bin after the last one kept.
        quantized: How many bins they are merged into.

    Returns:
        The divergence in nats, rounded as the peer rounds it; infinite where p or q is nothing but zeros.
    """
    kept = counts[first:stop]
    p = kept.copy()
    p[0] += counts[:first].sum()
    p[-1] += counts[stop:].sum()
    run = kept.size // quantized
    whole = quantized * run
    merged = kept[:whole].reshape(quantized, run).sum(axis=1)
    merged[-1] += kept[whole:].sum()
    filled = np.count_nonzero(p[:whole].reshape(quantized, run), axis=1)
    q = np.zeros_like(p)
    q[:whole] = np.repeat(np.where(filled > 0, merged / np.maximum(filled, 1), 0).astype(np.int64), run)
    return _relative_entropy(_smoothed(p), _smoothed(q)) if p.any() and q.any() else np.inf


def _smoothed(counts: Counts) -> npt.NDArray[np.float32]:
    zero, filled = (counts == 0).astype(np.float32), (counts != 0).astype(np.float32)
    taken = LEAST * float(zero.sum()) / float(counts.size - zero.sum())
    smooth = counts.astype(np.float32)
    smooth += LEAST * zero + (-taken) * filled
    return smooth


def _relative_entropy(p: npt.NDArray[np.float32], q: npt.NDArray[np.float32]) -> float:
    p, q = p / np.sum(p, axis=0, keepdims=True), q / np.sum(q, axis=0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * np.log(p / q)
    terms[~((p > 0) & (q > 0))] = np.inf
    return float(np.sum(terms, axis=0))


@calibrators.register("onnxruntime_entropy")
@dataclass(frozen=True, kw_only=True)
class OnnxruntimeEntropyRule:
    """Take onnxruntime's entropy threshold.

    Attributes:
        num_bins: Bins of the histogram.
        num_quantized_bins: Bins that the kept ones are merged into, at most `num_bins`.

    Raises:
        OptionError: An option is out of its limits.

    Example:
        >>> from quantlab.arrays import INT8
        >>> rule = OnnxruntimeEntropyRule()
        >>> seen = rule.empty().update(np.append(np.random.default_rng(0).normal(size=1000), 50).astype(np.float32))
        >>> float(rule.range(seen, QuantSpec(dtype=INT8)).hi)
        50.0
    """

    num_bins: int = 128
    num_quantized_bins: int = 128

    def __post_init__(self) -> None:
        self.empty()
        given = self.num_quantized_bins
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= self.num_bins:
            raise OptionError(
                f"num_quantized_bins must be an integer from 1 to num_bins={self.num_bins}, got {given!r}"
            )

    def empty(self) -> OnnxruntimeHistogram:
        """Return an empty `OnnxruntimeHistogram`, for one pass."""
        return OnnxruntimeHistogram(bins=self.num_bins)

    def first(self) -> MinMax:
        """Return an empty `MinMax`, for the first of two passes."""
        return MinMax()

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
        seen = require_peer_histogram(seen, "onnxruntime_entropy", False)
        size, middle = seen.counts.size, seen.counts.size // 2
        kept = [(middle - i, min(middle + i + 1, size)) for i in range(self.num_quantized_bins // 2, middle + 1)]
        found = [divergence(seen.counts, first, stop, self.num_quantized_bins) for first, stop in kept]
        # The peer stores divergences in the type of the edges.
        first, stop = kept[int(np.argmin(np.array(found, seen.edges.dtype)))]
        return peer_range(seen.edges[first], seen.edges[stop], seen)

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        chosen, seen = self.range(seen, spec), require_peer_histogram(seen, "onnxruntime_entropy", False)
        how = f"onnxruntime_entropy of {seen.count:,} values in {seen.counts.size:,} bins"
        return provenance(how, chosen, seen)
