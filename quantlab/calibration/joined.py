"""The histogram that onnxruntime.quantization 1.31.1 makes of all samples at once, from two passes over them.

Its calibrators keep the activations of every sample, join them, and give them to one `HistogramCollector.collect`:

    values         n equal bins over [-T, T], T = max |x|
    magnitudes     n equal bins over [min |x|, max |x|], of |x|

Here nothing is kept. A first pass finds the ends (`MinMax`, or `Magnitudes`), a second one counts. `numpy.histogram`
chooses the bin of an element by the element and the edges alone, so that the counts of the samples add up to those of
the joined array, whatever the order; all arithmetic is in the type of the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from quantlab.calibration.lattice import Counts
from quantlab.calibration.plain import PlainArrays, integers, numbers, require_arrays
from quantlab.calibration.statistic import FloatArray, MinMax, Statistic, WithEnds, checked, statistics
from quantlab.errors import DataError, OptionError


@statistics.register("magnitudes")
@dataclass(frozen=True, kw_only=True)
class Magnitudes(WithEnds):
    """The ends of what was seen, and the smallest absolute value.

    Attributes:
        ends: Observed ends and the numbers of finite, NaN and infinite elements.
        least: Smallest absolute value; +inf where nothing finite was seen.

    Example:
        >>> seen = Magnitudes().update(np.array([-3.0, 0.5])).update(np.array([-0.25, np.nan]))
        >>> seen.lo, seen.hi, seen.least
        (-3.0, 0.5, 0.25)
    """

    kind: ClassVar[str] = "magnitudes"
    ordered: ClassVar[bool] = False

    least: float = math.inf

    def update(self, x: FloatArray) -> Self:
        """Return the statistic with one more array in it.

        Args:
            x: Float16, float32 or float64 array of any shape, empty ones included.

        Returns:
            A new statistic.

        Raises:
            DataError: The array has another type.
        """
        ends = MinMax().update(x)
        return self.merge(type(self)(ends=ends, least=float(np.min(np.abs(x), initial=np.inf, where=np.isfinite(x)))))

    def merge(self, other: Self) -> Self:
        """Return the statistic of both streams.

        Args:
            other: Another `Magnitudes`.

        Returns:
            A new statistic; the order of the two does not matter.

        Raises:
            OptionError: `other` is a statistic of another kind.
        """
        if not isinstance(other, Magnitudes):
            raise OptionError(
                f"Magnitudes cannot be merged with a {type(other).__name__}; merge statistics of one kind"
            )
        return type(self)(ends=self.ends.merge(other.ends), least=min(self.least, other.least))

    def arrays(self) -> PlainArrays:
        """Return `counts` and `ends` as `MinMax` does, and `least`."""
        return {**self.ends.arrays(), "least": numbers(self.least)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        wanted = {"counts": (np.int64, 3), "ends": (np.float64, 2), "least": (np.float64, 1)}
        require_arrays(arrays, cls.kind, wanted)
        ends = MinMax.from_arrays({name: arrays[name] for name in ("counts", "ends")})
        least = float(arrays["least"][0])
        nearest = min(abs(ends.lo), abs(ends.hi))
        # Between ends of different signs lies any value as near to zero as the nearer of them; else that is an end.
        proper = 0 <= least <= nearest if ends.lo <= 0 <= ends.hi else least == nearest
        if not proper:
            raise DataError(
                f"a {cls.kind!r} statistic with the ends [{ends.lo}, {ends.hi}] cannot have the least absolute value "
                f"{least}; what it was read from is damaged"
            )
        return cls(ends=ends, least=least)


@statistics.register("onnxruntime_joined")
@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedHistogram(WithEnds):
    """Counts of a second pass, on the bins that onnxruntime gives to everything a first pass saw.

    Invariants:
        * `counts` is read-only and of shape (n,); its sum is `count`.
        * `first <= last` are the outer edges, but for equal ones, around which NumPy makes bins 1 wide in all.

    Attributes:
        ends: Observed ends of the second pass and its numbers of finite, NaN and infinite elements.
        whole: The same of the first pass.
        absolute: Whether absolute values are counted.
        first: Lower edge of the first bin.
        last: Upper edge of the last bin.
        counts: How many values fell into each bin.
        bits: Width of the type of the data; 0 before the first value.

    Example:
        >>> samples = [np.array([-1.0, 0.75], np.float32), np.array([2.0], np.float32)]
        >>> seen = JoinedHistogram.after(MinMax().update(samples[0]).update(samples[1]), bins=4)
        >>> seen = seen.update(samples[1]).merge(seen.update(samples[0]))
        >>> seen.counts.tolist(), seen.edges.tolist()
        ([0, 1, 1, 1], [-2.0, -1.0, 0.0, 1.0, 2.0])
    """

    kind: ClassVar[str] = "onnxruntime_joined"
    ordered: ClassVar[bool] = False

    whole: MinMax
    absolute: bool = False
    first: float
    last: float
    counts: Counts = field(repr=False)
    bits: int = 0

    def __post_init__(self) -> None:
        counts = np.array(self.counts, np.int64)
        counts.flags.writeable = False
        object.__setattr__(self, "counts", counts)

    @classmethod
    def after(cls, seen: Statistic, bins: int) -> Self:
        """Return the empty histogram for data whose ends are known.

        Args:
            seen: A `MinMax` of all data to count values, a `Magnitudes` to count absolute values.
            bins: How many bins.

        Returns:
            A histogram without counts.

        Raises:
            OptionError: The statistic is of another kind.
        """
        if not isinstance(seen, MinMax | Magnitudes):
            raise OptionError(
                f"a second pass needs the MinMax or Magnitudes of the first, got a {type(seen).__name__}; "
                "collect the statistic that the rule's first() gives"
            )
        reach = max(abs(seen.lo), abs(seen.hi)) if seen.count else 0.0
        least = seen.least if isinstance(seen, Magnitudes) and seen.count else -reach
        return cls(
            whole=seen if isinstance(seen, MinMax) else seen.ends,
            absolute=isinstance(seen, Magnitudes),
            first=(least if seen.count else 0.0) + 0.0,
            last=reach,
            counts=np.zeros(bins, np.int64),
        )

    def _image(self) -> tuple[object, ...]:
        return self.ends, *self._bins(), self.bits, self.counts.tobytes()

    def _bins(self) -> tuple[object, ...]:
        return self.whole, self.absolute, self.first, self.last, self.bins

    def __eq__(self, other: object) -> bool:
        return self._image() == other._image() if isinstance(other, JoinedHistogram) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._image())

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return int(self.counts.size)

    @property
    def edges(self) -> FloatArray:
        """Bin edges, of shape (n + 1,) in the type of the data; shape (0,) before the first value."""
        if not self.bits:
            return np.zeros(0, np.float32)
        return self._histogram(np.zeros(0, f"float{self.bits}"))[1]

    def _histogram(self, values: FloatArray) -> tuple[Counts, FloatArray]:
        """Do what the peer does, with its scalars: ends of the same type keep all arithmetic in that type."""
        number: Any = values.dtype.type
        with np.errstate(all="ignore"):
            counts, edges = np.histogram(values, self.bins, range=(number(self.first), number(self.last)))
        return counts, edges

    def update(self, x: FloatArray) -> Self:
        """Return the statistic with one more array in it.

        Args:
            x: Float16, float32 or float64 array of any shape, empty ones included; always of one type.

        Returns:
            A new statistic.

        Raises:
            DataError: The array has another type than those before, or values that the first pass did not have; or the
                peer's bins are too narrow for the type (2,048 bins of float16).
        """
        x = checked(x)
        ends = self.ends.merge(MinMax().update(x))
        values = x[np.isfinite(x)].ravel()
        if not values.size:
            return replace(self, ends=ends)
        bits = 8 * x.dtype.itemsize
        if self.bits not in (0, bits):
            raise DataError(f"an array of {x.dtype} came after arrays of float{self.bits}; give one type only")
        try:
            counts = self._histogram(np.abs(values) if self.absolute else values)[0]
        except ValueError as error:
            raise DataError(
                f"onnxruntime's histogram fails on {x.dtype} values in [{self.whole.lo:.6g}, {self.whole.hi:.6g}] "
                f"({error}); use one of quantlab's own rules, or fewer bins"
            ) from error
        if counts.sum() != values.size:
            raise DataError(self._changed(ends))
        return replace(self, ends=ends, counts=self.counts + counts, bits=bits)

    def _changed(self, ends: MinMax) -> str:
        return (
            f"the second pass over the data had {ends.count:,} values in [{ends.lo:.6g}, {ends.hi:.6g}], the first "
            f"{self.whole.count:,} in [{self.whole.lo:.6g}, {self.whole.hi:.6g}]; give the same data each time"
        )

    def require_whole(self) -> None:
        """Refuse counts of other data than the first pass saw.

        Raises:
            DataError: The two passes differ.
        """
        if self.ends != self.whole:
            raise DataError(self._changed(self.ends))

    def merge(self, other: Self) -> Self:
        """Return the statistic of both streams.

        Args:
            other: Another `JoinedHistogram` on the same bins.

        Returns:
            A new statistic; the order of the two does not matter.

        Raises:
            OptionError: `other` is a statistic of another kind, or has other bins.
            DataError: It is one of data of another type.
        """
        if not isinstance(other, JoinedHistogram) or other._bins() != self._bins():
            what = "one on other bins" if isinstance(other, JoinedHistogram) else f"a {type(other).__name__}"
            raise OptionError(f"a JoinedHistogram cannot be merged with {what}; merge those of one first pass")
        if 0 not in (self.bits, other.bits) and self.bits != other.bits:
            raise DataError(f"counts of float{other.bits} came after those of float{self.bits}; give one type only")
        ends, bits = self.ends.merge(other.ends), max(self.bits, other.bits)
        return replace(self, ends=ends, counts=self.counts + other.counts, bits=bits)

    def arrays(self) -> PlainArrays:
        """Return `counts`, `ends`, `whole_counts`, `whole_ends`, `bins`, `span` and `form` (absolute, bits)."""
        whole = {f"whole_{name}": array for name, array in self.whole.arrays().items()}
        span, form = numbers(self.first, self.last), integers(self.absolute, self.bits)
        return {**self.ends.arrays(), **whole, "bins": self.counts, "span": span, "form": form}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        wanted: dict[str, tuple[type[np.generic], int | None]] = {"bins": (np.int64, None), "span": (np.float64, 2)}
        for prefix in ("", "whole_"):
            wanted |= {f"{prefix}counts": (np.int64, 3), f"{prefix}ends": (np.float64, 2)}
        require_arrays(arrays, cls.kind, {**wanted, "form": (np.int64, 2)})
        ends, whole = (
            MinMax.from_arrays({name: arrays[prefix + name] for name in ("counts", "ends")})
            for prefix in ("", "whole_")
        )
        counts, (first, last), (absolute, bits) = arrays["bins"], arrays["span"].tolist(), arrays["form"].tolist()
        proper = math.isfinite(first) and math.isfinite(last) and first <= last and counts.size and (counts >= 0).all()
        proper = proper and bits in ((16, 32, 64) if ends.count else (0,)) and absolute in (0, 1)
        if not proper or counts.sum() != ends.count:
            raise DataError(
                f"the {counts.size} bins over [{first}, {last}] of a {cls.kind!r} statistic of {ends.count} values do "
                "not fit together; what it was read from is damaged"
            )
        return cls(
            ends=ends, whole=whole, absolute=bool(absolute), first=first, last=last, counts=counts, bits=int(bits)
        )
