"""A histogram is a constant number of integer counts on an absolute lattice of power-of-two bin widths.

    bin of v = floor(v / 2**e),     e = least exponent with floor(hi / 2**e) - floor(lo / 2**e) + 1 <= max_bins

`e` depends on nothing but the range `[lo, hi]` of everything seen. When the range grows, `e` grows, bins join in pairs
and their counts add. No count is ever split or estimated, which is why the result does not depend on how the data was
cut into batches, in which order they came, or how partial results were merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from quantlab import kernels
from quantlab.calibration.lattice import Bins, Counts, bin_of, bins_between, lattice_exponent
from quantlab.calibration.plain import PlainArrays, integers, require_arrays
from quantlab.calibration.statistic import FloatArray, MinMax, WithEnds, checked, statistics
from quantlab.errors import DataError, OptionError

DEFAULT_BINS = 4096
# With fewer, the bins of the largest float64 numbers would be wider than any float64.
LEAST_BINS = 8


@statistics.register("histogram")
@dataclass(frozen=True, kw_only=True)
class Histogram(WithEnds):
    """Counts of everything seen, between the observed ends.

    At most `max_bins` bins are used, and at least about half as many unless the values lie so close together that a
    float64 has no bits for finer bins (a constant tensor is one bin).

    Invariants:
        * `bins` is None exactly if `count == 0`; otherwise its first bin holds `lo`, its last `hi`, its total is
          `count` and its exponent is `lattice_exponent(lo, hi, max_bins)`.
        * Scaling all values by a power of two changes `lo`, `hi` and the exponent and no count, as long as the values
          stay normal float64 numbers.

    With `absolute=True` the bins are those of |x|, between the least and the largest that the ends allow it to be
    (`abs_lo`, `abs_hi`); all of them are on one side of zero, so that values of both signs are told apart up to twice
    as finely. The ends stay those of the signed values.

    Attributes:
        max_bins: Most bins to be used, at least 8.
        absolute: Whether absolute values are counted.
        ends: Observed ends and the numbers of finite, NaN and infinite elements.
        bins: The counts.

    Raises:
        OptionError: `max_bins` is no integer or below 8, or `absolute` is no bool.

    Example:
        >>> seen = Histogram(max_bins=8).update(np.array([0.0, 0.5, 1.0, 2.5]))
        >>> seen.counts.tolist(), seen.edges().tolist()
        ([1, 1, 1, 0, 0, 1], [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
        >>> seen.update(np.array([-2.0])).counts.tolist()
        [1, 0, 2, 1, 1]
    """

    kind: ClassVar[str] = "histogram"
    ordered: ClassVar[bool] = False

    max_bins: int = DEFAULT_BINS
    absolute: bool = False
    bins: Bins | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_bins, bool) or not isinstance(self.max_bins, int) or self.max_bins < LEAST_BINS:
            raise OptionError(f"max_bins must be an integer of at least {LEAST_BINS}, got {self.max_bins!r}")
        if not isinstance(self.absolute, bool):
            raise OptionError(f"absolute must be true or false, got {self.absolute!r}")

    @property
    def counts(self) -> Counts:
        """Counts of the bins, of shape (n,) with n <= max_bins; n is 0 where nothing finite was seen."""
        return np.zeros(0, np.int64) if self.bins is None else self.bins.counts

    @property
    def abs_lo(self) -> float:
        """The least that the absolute values can be, given the ends: 0 where the ends have different signs."""
        return _reach(self.ends, True)[0] if self.count else math.inf

    @property
    def abs_hi(self) -> float:
        """Largest absolute value seen; -inf where there was none."""
        return max(-self.lo, self.hi)

    def edges(self) -> npt.NDArray[np.float64]:
        """Return the bin edges, of shape (n + 1,); shape (0,) where nothing finite was seen."""
        return np.zeros(0) if self.bins is None else self.bins.edges()

    def cumulative(self) -> Counts:
        """Return how many elements lie below each edge, of shape (n + 1,); shape (0,) where nothing was seen."""
        return np.zeros(0, np.int64) if self.bins is None else self.bins.cumulative()

    def folded(self) -> Bins:
        """Return the counts of the absolute values on the same lattice; where they were counted, the counts.

        Returns:
            Bins of |x|, see `Bins.folded`.

        Raises:
            DataError: No finite value was seen.
        """
        if self.bins is None:
            raise DataError("a histogram that has seen no finite value has no bins; update it with data first")
        return self.bins.folded()

    def folded_from_zero(self, max_bins: int) -> Bins:
        """Return the counts of the absolute values on a lattice that reaches from zero to the largest of them.

        Args:
            max_bins: Most bins wanted, at least 2; more than half as many are used if the histogram is fine enough,
                as it is for `max_bins` up to half its own.

        Returns:
            Bins of |x|, the first of which begins at zero and the last of which is not empty.

        Raises:
            DataError: No finite value was seen.
        """
        bins = self.folded()
        exponent = max(bins.exponent, lattice_exponent(0.0, self.abs_hi, max_bins))
        last = (bins.first + len(bins) - 1) >> (exponent - bins.exponent)
        return bins.on(exponent, 0, last + 1)

    def coarsened(self, max_bins: int) -> Self:
        """Return the histogram that would have come of the same data with fewer bins; bins join, no count is split.

        Args:
            max_bins: Most bins wanted, at least 8 and at most as many as its own.

        Returns:
            A new histogram, equal to one that was collected with `max_bins`.

        Raises:
            OptionError: It has fewer bins than wanted.

        Example:
            >>> seen = Histogram(max_bins=16).update(np.array([0.0, 0.5, 2.5, 3.0]))
            >>> seen.coarsened(8) == Histogram(max_bins=8).update(np.array([0.0, 0.5, 2.5, 3.0]))
            True
        """
        if max_bins > self.max_bins:
            raise OptionError(f"a histogram of at most {self.max_bins} bins cannot be made one of {max_bins}")
        if self.bins is None:
            return type(self)(max_bins=max_bins, absolute=self.absolute, ends=self.ends)
        exponent, first, size = _place(self.ends, max_bins, self.absolute)
        bins = self.bins.on(exponent, first, size)
        return type(self)(max_bins=max_bins, absolute=self.absolute, ends=self.ends, bins=bins)

    def update(self, x: FloatArray) -> Histogram:
        """Return the histogram with one more array in it.

        Args:
            x: Float16, float32 or float64 array of any shape, empty ones included.

        Returns:
            A new histogram.

        Raises:
            DataError: The array has another type.
        """
        seen = self.gather()
        seen.add(x)
        return seen.result()

    def gather(self) -> HistogramGatherer:
        """Return a gatherer that begins with this histogram; see `quantlab.calibration.gather`."""
        return HistogramGatherer(self)

    def merge(self, other: Self) -> Self:
        """Return the histogram of both streams.

        Args:
            other: Another histogram with the same `max_bins`, of absolute values if this one is.

        Returns:
            A new histogram; the order of the two does not matter.

        Raises:
            OptionError: `other` is of another kind, has another `max_bins`, or one of the two counts absolute values.
        """
        if not isinstance(other, Histogram):
            raise OptionError(
                f"a Histogram cannot be merged with a {type(other).__name__}; merge statistics of one kind"
            )
        if other.max_bins != self.max_bins:
            raise OptionError(
                f"histograms of at most {self.max_bins} and {other.max_bins} bins cannot be merged; collect both "
                "with the same max_bins"
            )
        if other.absolute != self.absolute:
            raise OptionError(
                "a histogram of absolute values and one of signed values cannot be merged; collect both alike"
            )
        ends = self.ends.merge(other.ends)
        if other.bins is None:
            return type(self)(max_bins=self.max_bins, absolute=self.absolute, ends=ends, bins=self.bins)
        return self._with(other.bins, ends, lattice_exponent(*_reach(ends, self.absolute), self.max_bins))

    def arrays(self) -> PlainArrays:
        """Return `counts` and `ends` as `MinMax` does, `bins`, and `lattice` (max_bins, exponent, first bin).

        Where absolute values are counted, there is `absolute` (1) too.
        """
        lattice = (0, 0) if self.bins is None else (self.bins.exponent, self.bins.first)
        sign = {"absolute": integers(1)} if self.absolute else {}
        return {**self.ends.arrays(), "bins": self.counts, "lattice": integers(self.max_bins, *lattice), **sign}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        wanted = {"counts": (np.int64, 3), "ends": (np.float64, 2), "bins": (np.int64, None), "lattice": (np.int64, 3)}
        absolute = "absolute" in arrays
        require_arrays(arrays, cls.kind, wanted | ({"absolute": (np.int64, 1)} if absolute else {}))
        ends = MinMax.from_arrays({name: arrays[name] for name in ("counts", "ends")})
        max_bins, exponent, first = arrays["lattice"].tolist()
        if max_bins < LEAST_BINS or [exponent, first, arrays["bins"].size] != _place(ends, max_bins, absolute):
            raise DataError(
                f"{arrays['bins'].size} bins of width 2**{exponent} from bin {first}, at most {max_bins}, are not "
                f"those of a {cls.kind!r} statistic with the ends [{ends.lo}, {ends.hi}]; "
                "what it was read from is damaged"
            )
        if (arrays["bins"] < 0).any() or sum(arrays["bins"].tolist()) != ends.count:
            raise DataError(f"the bins of a {cls.kind!r} statistic of {ends.count} values do not add up to that number")
        bins = Bins(exponent, first, arrays["bins"]) if ends.count else None
        return cls(max_bins=max_bins, absolute=absolute, ends=ends, bins=bins)

    def widened(self, counted: FloatArray, new: MinMax) -> Histogram:
        """Return the histogram with an array in it that its bins do not hold.

        Args:
            counted: The array, or its absolute values where these are counted.
            new: Ends of the array, signed in any case; some element is finite.

        Returns:
            A histogram with bins for both.
        """
        ends = self.ends.merge(new)
        exponent = lattice_exponent(*_reach(ends, self.absolute), self.max_bins)
        return self._with(_counted(counted, new.count, _reach(new, self.absolute), exponent), ends, exponent)

    def _with(self, added: Bins, ends: MinMax, exponent: int) -> Self:
        """Lay the own and the added counts on the lattice of the common range and add them."""
        lo, hi = _reach(ends, self.absolute)
        first, size = bin_of(lo, exponent), bins_between(lo, hi, exponent)
        bins = added.on(exponent, first, size)
        if self.bins is not None:
            bins = bins.plus(self.bins.on(exponent, first, size).counts)
        return type(self)(max_bins=self.max_bins, absolute=self.absolute, ends=ends, bins=bins)


class HistogramGatherer:
    """The gatherer of `Histogram`: arrays that its bins hold, as most of a stream, are counted in place in one pass."""

    def __init__(self, start: Histogram) -> None:
        self._begin(start)

    def _begin(self, start: Histogram) -> None:
        self._start, self._ends, self._counts = start, start.ends.gather(), start.counts.copy()

    @property
    def nan_count(self) -> int:
        """How many elements were NaN."""
        return self._ends.nan_count

    @property
    def inf_count(self) -> int:
        """How many elements were infinite."""
        return self._ends.inf_count

    def add(self, x: FloatArray) -> None:
        """Take in one more array, as `Histogram.update` does."""
        x = checked(x)
        bins, absolute = self._start.bins, self._start.absolute
        counted = np.abs(x) if absolute else x
        ends, held = None, False
        if bins is not None:
            # Most arrays of a stream bring nothing beyond the bins there are: one pass finds that out and counts.
            seen = kernels.min_max_lattice(counted, bins.exponent, bins.first, len(bins), self._counts)
            ends, held = None if absolute else seen.ends, seen.counts is not None
        ends = kernels.min_max(x) if ends is None else ends
        if held or ends.nan_count + ends.inf_count == x.size:
            self._ends.take(ends, x.size)
            return
        new = MinMax().gather()
        new.take(ends, x.size)
        self._begin(self.result().widened(counted, new.result()))

    def result(self) -> Histogram:
        """Return the histogram of all arrays."""
        start, ends = self._start, self._ends.result()
        # Bins copy counts that can be written to, as these are further on.
        bins = None if start.bins is None else Bins(start.bins.exponent, start.bins.first, self._counts)
        return Histogram(max_bins=start.max_bins, absolute=start.absolute, ends=ends, bins=bins)


def _reach(ends: MinMax, absolute: bool) -> tuple[float, float]:
    """Return the ends, or the least and the largest that absolute values can be between them."""
    return (max(ends.lo, -ends.hi, 0.0), max(-ends.lo, ends.hi)) if absolute else (ends.lo, ends.hi)


def _counted(x: FloatArray, count: int, reach: tuple[float, float], exponent: int) -> Bins:
    """Count an array of `count` finite values, all within `reach`, on a lattice."""
    first, size = bin_of(reach[0], exponent), bins_between(*reach, exponent)
    if size == 1:
        return Bins(exponent, first, np.array([count]))
    return Bins(exponent, first, kernels.lattice_histogram(x, exponent, first, size))


def _place(ends: MinMax, max_bins: int, absolute: bool) -> list[int]:
    """Return the exponent, the first bin and the number of bins of a histogram with such ends."""
    if not ends.count:
        return [0, 0, 0]
    reach = _reach(ends, absolute)
    exponent = lattice_exponent(*reach, max_bins)
    return [exponent, bin_of(reach[0], exponent), bins_between(*reach, exponent)]
