"""The lattice is the line of real numbers cut into bins of width 2**exponent, with one bin edge at zero.

    bin of v = floor(v / 2**exponent)          bin b covers [b * 2**exponent, (b + 1) * 2**exponent)

The cuts do not depend on the data, and a coarser lattice joins neighbours of a finer one in pairs:
floor(floor(v / 2**e) / 2) = floor(v / 2**(e + 1)). Counts on a lattice therefore add up without any rounding, in
whatever order they come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantlab.errors import RangeError

Counts = npt.NDArray[np.int64]

# 2**-exponent stays a normal float64; all numbers below 2**-1022 share the bins next to zero.
LEAST_EXPONENT = -1022
# Bins stay countable in float64 without rounding: |bin| <= 2**53.
SIGNIFICANT_BITS = 52


def bin_of(value: float, exponent: int) -> int:
    """Return the lattice bin of one finite number, in exact integer arithmetic.

    Args:
        value: Any finite number.
        exponent: Power of two that is the bin width.

    Returns:
        `floor(value / 2**exponent)`.

    Example:
        >>> bin_of(0.75, -1), bin_of(-5e-324, 10)
        (1, -1)
    """
    numerator, denominator = value.as_integer_ratio()
    if exponent >= 0:
        return numerator // (denominator << exponent)
    return (numerator << -exponent) // denominator


def bins_between(lo: float, hi: float, exponent: int) -> int:
    """Return how many bins of width `2**exponent` it takes to hold both `lo` and `hi`, `lo <= hi`."""
    return bin_of(hi, exponent) - bin_of(lo, exponent) + 1


def lattice_exponent(lo: float, hi: float, max_bins: int) -> int:
    """Choose the finest lattice on which an interval fits into a number of bins.

    The choice depends on nothing but the interval, and a wider interval never gets a finer lattice.

    Args:
        lo: Lower end, finite.
        hi: Upper end, finite, not below `lo`.
        max_bins: Most bins allowed, at least 2.

    Returns:
        The smallest exponent with at most `max_bins` bins from `lo` to `hi`, but not so small that a bin number would
        need more than 53 bits.

    Example:
        >>> lattice_exponent(0.0, 1.0, 4096)
        -11
        >>> lattice_exponent(0.0, 0.999, 4096)
        -12
    """
    largest = max(-lo, hi)
    # frexp gives a fraction below 1, hence the 1.
    exponent = math.frexp(largest)[1] - 1 - SIGNIFICANT_BITS if largest else LEAST_EXPONENT
    lo_over, lo_under = lo.as_integer_ratio()
    hi_over, hi_under = hi.as_integer_ratio()
    width = hi_over * lo_under - lo_over * hi_under
    if width:
        # 2**bits <= hi - lo, and more than (hi - lo) / 2**e bins are needed: no exponent below this start can do.
        bits = width.bit_length() - (lo_under * hi_under).bit_length()
        exponent = max(exponent, bits - (max_bins - 1).bit_length() + 1)
    exponent = max(exponent, LEAST_EXPONENT)
    while bins_between(lo, hi, exponent) > max_bins:
        exponent += 1
    return exponent


@dataclass(frozen=True, eq=False)
class Bins:
    """Counts on neighbouring bins of one lattice.

    Invariants:
        * `counts` is a read-only int64 array of shape (n,), n >= 1, none below 0.
        * `counts[i]` belongs to bin `first + i`, which covers `[first + i, first + i + 1) * 2**exponent`.

    Attributes:
        exponent: Power of two that is the bin width.
        first: Number of the first bin; bin 0 begins at zero.
        counts: How many values fell into each bin.
    """

    exponent: int
    first: int
    counts: Counts

    def __post_init__(self) -> None:
        counts = self.counts
        # Counts that nobody can write to are kept, all others are copied.
        if counts.flags.writeable or counts.base is not None or counts.dtype != np.int64:
            counts = np.array(counts, np.int64)
            counts.flags.writeable = False
            object.__setattr__(self, "counts", counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bins):
            return NotImplemented
        return (self.exponent, self.first) == (other.exponent, other.first) and np.array_equal(
            self.counts, other.counts
        )

    def __hash__(self) -> int:
        return hash((self.exponent, self.first, self.counts.tobytes()))

    def __len__(self) -> int:
        return int(self.counts.size)

    def __reduce__(self) -> tuple[type[Bins], tuple[int, int, Counts]]:
        # Built anew when unpickled, so that the counts are read-only in the other process too.
        return Bins, (self.exponent, self.first, self.counts)

    @property
    def width(self) -> float:
        """Width of one bin, in the unit of the values."""
        return math.ldexp(1.0, self.exponent)

    def edges(self) -> npt.NDArray[np.float64]:
        """Return the n + 1 bin edges, exact but for edges beyond the largest float64, which stop there."""
        with np.errstate(over="ignore"):
            edges = np.ldexp(self.first + np.arange(len(self) + 1, dtype=np.int64).astype(np.float64), self.exponent)
        largest = np.finfo(np.float64).max
        return np.asarray(np.clip(edges, -largest, largest))

    def edge(self, position: float, index: int) -> float:
        """Return the point that lies `position` bin widths above the lower edge of the bin `counts[index]`.

        Args:
            position: Fraction of a bin width, from -1 to 1.
            index: From 0 to n; n names the upper edge of the last bin.

        Returns:
            The point, rounded once, saturating at the largest float64.
        """
        largest = float(np.finfo(np.float64).max)
        half = math.ldexp(float(self.first + index), self.exponent - 1) + math.ldexp(position, self.exponent - 1)
        return math.copysign(min(2 * min(abs(half), largest / 2), largest), half)

    def cumulative(self) -> Counts:
        """Return how many values lie below each of the n + 1 edges."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)])

    def plus(self, counts: Counts) -> Bins:
        """Return the bins with as many more counts on them, of shape (n,)."""
        total = self.counts + counts
        total.flags.writeable = False
        return Bins(self.exponent, self.first, total)

    def on(self, exponent: int, first: int, size: int) -> Bins:
        """Lay the counts on another stretch of the same or a coarser lattice.

        Args:
            exponent: Power of two of the new bin width, not below `self.exponent`.
            first: Number of the new first bin.
            size: New number of bins; the new stretch must cover the old one.

        Returns:
            Bins of shape (size,) whose counts have the same total.

        Raises:
            RangeError: The new lattice is finer, or the new stretch does not cover the old one.
        """
        shift = exponent - self.exponent
        start = (self.first >> shift if shift >= 0 else self.first) - first
        stop = ((self.first + len(self) - 1) >> max(shift, 0)) - first
        if shift < 0 or start < 0 or stop >= size:
            raise RangeError(
                f"{len(self)} bins of width 2**{self.exponent} from bin {self.first} do not fit into "
                f"{size} bins of width 2**{exponent} from bin {first}; ask for a coarser and longer stretch"
            )
        counts = np.zeros(size, np.int64)
        if shift == 0:
            counts[start : stop + 1] = self.counts
        else:
            # A shift of 63 bits leaves 0 or -1, as any longer one would.
            targets = ((self.first + np.arange(len(self), dtype=np.int64)) >> min(shift, 63)) - first
            np.add.at(counts, targets, self.counts)
        return Bins(exponent, first, counts)

    def mirrored(self) -> Bins:
        """Return the bins of the negated values. A value on an edge is counted in the bin below its mirror image."""
        return Bins(self.exponent, -(self.first + len(self)), self.counts[::-1])

    def folded(self) -> Bins:
        """Return the bins of the absolute values, on the same lattice.

        Each bin left of zero is laid on its mirror image. A negative value that lies exactly on an edge is thereby
        counted in the bin below that edge; all others are where they belong.

        Returns:
            Bins with `first >= 0` and the same total.

        Example:
            >>> Bins(0, -2, np.array([1, 2, 3, 4])).folded().counts.tolist()
            [5, 5]
        """
        if self.first >= 0:
            return self
        negative = -self.first
        if negative >= len(self):
            return self.mirrored()
        counts = np.zeros(max(negative, len(self) - negative), np.int64)
        counts[: len(self) - negative] += self.counts[negative:]
        counts[:negative] += self.counts[negative - 1 :: -1]
        return Bins(self.exponent, 0, counts)
