"""The histogram of onnxruntime.quantization 1.31.1, bit for bit: bins over the first array's range, stretched later.

Of values (entropy, percentile at each end), with T the largest absolute value so far:

    first array    n bins over [-T, T]
    T grows        bins of the old width are added in pairs, one at each end, until they reach the new T

Of absolute values (percentile by magnitude): n bins from the smallest to the largest; bins are added above, and later
values below the first bin are lost. All arithmetic is in the type of the data. One `update` stands for one call of
`HistogramCollector.collect`; a calibrator of the peer makes one call for all samples of a `collect_data`, for which
`JoinedHistogram` stands. The result depends on the order of the arrays, which is why quantlab's own rules use
`Histogram`.

Different from the peer: infinities, on which it fails, and empty arrays, which it takes for a zero, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt

from quantlab.arrays import Range
from quantlab.calibration.joined import JoinedHistogram
from quantlab.calibration.lattice import Counts
from quantlab.calibration.plain import PlainArrays, integers, numbers, require_arrays
from quantlab.calibration.rule import require_values
from quantlab.calibration.statistic import FloatArray, MinMax, Statistic, WithEnds, checked, statistics
from quantlab.errors import DataError, OptionError

# The peer's histogram has no upper limit, and a first array of tiny values makes it need more than any memory.
MOST_BINS = 1 << 24


@statistics.register("onnxruntime_histogram")
@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxruntimeHistogram(WithEnds):
    """Counts as onnxruntime.quantization makes them.

    Invariants:
        * `counts` and `edges` are read-only, of shape (n,) and (n + 1,), or both of shape (0,) before the first value.

    Attributes:
        bins: How many bins the first array gets.
        absolute: Whether absolute values are counted.
        ends: Observed ends and the numbers of finite, NaN and infinite elements.
        counts: How many values fell into each bin.
        edges: Bin edges, in the type of the data.
        threshold: T; 0 where absolute values are counted.

    Raises:
        OptionError: `bins` is no integer or below 1.

    Example:
        >>> seen = OnnxruntimeHistogram(bins=4).update(np.array([-1.0, 0.75], np.float32))
        >>> seen.update(np.array([1.5], np.float32)).edges.tolist()
        [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
    """

    kind: ClassVar[str] = "onnxruntime_histogram"
    ordered: ClassVar[bool] = True

    bins: int
    absolute: bool = False
    counts: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    edges: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or self.bins < 1:
            raise OptionError(f"bins must be an integer of at least 1, got {self.bins!r}")
        for name in ("counts", "edges"):
            copy = np.array(getattr(self, name))
            copy.flags.writeable = False
            object.__setattr__(self, name, copy)

    def _image(self) -> tuple[object, ...]:
        arrays = self.counts.tobytes(), self.edges.dtype.str, self.edges.tobytes()
        return self.bins, self.absolute, self.ends, self.threshold, *arrays

    def __eq__(self, other: object) -> bool:
        return self._image() == other._image() if isinstance(other, OnnxruntimeHistogram) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._image())

    def update(self, x: FloatArray) -> Self:
        """Return the statistic with one more array in it, as after one more call of `collect`.

        Args:
            x: Float16, float32 or float64 array of any shape, empty ones included; always of one type.

        Returns:
            A new statistic.

        Raises:
            DataError: The array has another type than those before, or the peer's bins are impossible: too many, too
                wide, or too narrow for the type (2,048 bins of float16).
        """
        x = checked(x)
        ends = self.ends.merge(MinMax().update(x))
        values = x[np.isfinite(x)].ravel()
        if not values.size:
            return self._with(ends, self.counts, self.edges, self.threshold)
        if self.count and values.dtype != self.edges.dtype:
            raise DataError(f"an array of {values.dtype} came after arrays of {self.edges.dtype}; give one type only")
        try:
            with np.errstate(all="ignore"):
                return self._of_magnitudes(np.abs(values), ends) if self.absolute else self._of_values(values, ends)
        except ValueError as error:
            raise DataError(
                f"onnxruntime's histogram fails on {values.dtype} values in [{ends.lo:.6g}, {ends.hi:.6g}] ({error}); "
                "use one of quantlab's own rules, or fewer bins"
            ) from error

    def _of_values(self, x: FloatArray, ends: MinMax) -> Self:
        # Scalars of NumPy, so that its arithmetic stays in the type of the data, as the peer's does.
        number: Any = x.dtype.type
        reach, old = number(max(abs(x.min()), abs(x.max()))), number(self.threshold)
        if not self.count:
            return self._counted(x, ends, self.bins, reach)
        if reach <= old:
            counts = np.histogram(x, self.counts.size, range=(-old, old))[0]
            return self._with(ends, counts + self.counts, self.edges, self.threshold)
        if old == 0:
            return self._counted(x, ends, self.counts.size, reach)
        width = 2 * old / self.counts.size
        added = int(min((reach - old) // width + 1, MOST_BINS))
        return self._counted(x, ends, self.counts.size + 2 * added, added * width + old, added)

    def _counted(self, x: FloatArray, ends: MinMax, bins: int, reach: Any, before: int = 0) -> Self:
        """Count an array on bins over [-reach, reach], and add the old counts from bin number `before` on."""
        _require_possible(bins, 2 * reach, x.dtype)
        counts, edges = np.histogram(x, bins, range=(-reach, reach))
        counts[before : before + self.counts.size] += self.counts
        return self._with(ends, counts, edges, float(reach))

    def _of_magnitudes(self, x: FloatArray, ends: MinMax) -> Self:
        if not self.count:
            _require_possible(self.bins, x.max(), x.dtype)
            counts, edges = np.histogram(x, bins=self.bins)
            return self._with(ends, counts, edges.astype(x.dtype), 0.0)
        edges, largest = self.edges, x.max()
        if largest > edges[-1]:
            width = edges[1] - edges[0]
            _require_possible(edges.size + float(largest - edges[-1]) / float(width), largest + width, x.dtype)
            edges = np.hstack((edges, np.arange(edges[-1] + width, largest + width, width)))
        counts, edges = np.histogram(x, bins=edges)
        counts[: self.counts.size] += self.counts
        return self._with(ends, counts, edges.astype(x.dtype), 0.0)

    def _with(self, ends: MinMax, counts: Counts, edges: FloatArray, threshold: float) -> Self:
        return type(self)(
            bins=self.bins, absolute=self.absolute, ends=ends, counts=counts, edges=edges, threshold=threshold
        )

    def merge(self, other: Self) -> NoReturn:
        """Refuse: the histogram of two streams is not known from those of each.

        Raises:
            OptionError: Always.
        """
        raise OptionError(
            "onnxruntime's histograms cannot be merged, because they depend on the order of the data; "
            "read the data in one stream, or use a rule of quantlab's own"
        )

    def arrays(self) -> PlainArrays:
        """Return `counts` and `ends` as `MinMax` does, `bins`, `edges`, `threshold`, `form` (bins, absolute, bits)."""
        form = integers(self.bins, self.absolute, 8 * self.edges.dtype.itemsize)
        own = {"bins": self.counts, "edges": self.edges.astype(np.float64), "threshold": numbers(self.threshold)}
        return {**self.ends.arrays(), **own, "form": form}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        wanted: dict[str, tuple[type[np.generic], int | None]] = {"counts": (np.int64, 3), "ends": (np.float64, 2)}
        wanted |= {"bins": (np.int64, None), "edges": (np.float64, None), "threshold": (np.float64, 1)}
        require_arrays(arrays, cls.kind, {**wanted, "form": (np.int64, 3)})
        ends = MinMax.from_arrays({name: arrays[name] for name in ("counts", "ends")})
        counts, edges, threshold = arrays["bins"], arrays["edges"], float(arrays["threshold"][0])
        bins, absolute, bits = arrays["form"].tolist()
        size = counts.size + 1 if ends.count else 0
        proper = edges.size == size and np.isfinite(edges).all() and (np.diff(edges) >= 0).all() and threshold >= 0
        if not proper or bins < 1 or bits not in (16, 32, 64) or absolute not in (0, 1) or (counts < 0).any():
            raise DataError(
                f"the {counts.size} bins and {edges.size} edges of a {cls.kind!r} statistic of {ends.count} values do "
                "not fit together; what it was read from is damaged"
            )
        own = edges.astype(f"float{bits}")
        return cls(bins=bins, absolute=bool(absolute), ends=ends, counts=counts, edges=own, threshold=threshold)


def _require_possible(bins: float, span: np.floating[Any], dtype: np.dtype[Any]) -> None:
    """Refuse bins on which the peer would fail or take all memory."""
    if bins > MOST_BINS or not np.isfinite(span):
        raise DataError(
            f"onnxruntime's histogram of {dtype} would need {bins:,.0f} bins over a span of {float(span):.6g}, "
            f"and at most {MOST_BINS:,} over a finite one are made; use one of quantlab's own rules"
        )


PeerHistogram = OnnxruntimeHistogram | JoinedHistogram


def require_peer_histogram(seen: Statistic, rule: str, absolute: bool) -> PeerHistogram:
    """Return a statistic as the histogram that it must be for a rule of the peer.

    Args:
        seen: Any statistic.
        rule: Name of the rule, for the error text.
        absolute: Whether absolute values must have been counted.

    Returns:
        The same statistic.

    Raises:
        OptionError: It is of another kind, or counted the other values.
        DataError: It has seen no finite value, or not the same ones in both passes.
    """
    if not isinstance(seen, PeerHistogram) or seen.absolute != absolute:
        got = f"one with absolute={not absolute}" if isinstance(seen, PeerHistogram) else type(seen).__name__
        raise OptionError(
            f"range rule {rule!r} needs an OnnxruntimeHistogram or JoinedHistogram with absolute={absolute}, got "
            f"{got}; collect the statistic that the rule's empty() or second() gives"
        )
    if isinstance(seen, JoinedHistogram):
        seen.require_whole()
    require_values(seen)
    return seen


def peer_range(lo: float, hi: float, seen: PeerHistogram) -> Range:
    """Return the range `[lo, hi]` with each end moved past no observed end, as the peer moves it.

    The peer moves the lower end up and the upper end down only, so that the lower one may come to lie above the upper
    one. It then widens the range to contain zero, which this function anticipates for such a range.

    Args:
        lo: Lower end.
        hi: Upper end.
        seen: The histogram they come from.

    Returns:
        Float64 ends of shape (), with the grid of the peer's.
    """
    low, high = max(float(lo), seen.lo) + 0.0, min(float(hi), seen.hi) + 0.0
    if low > high:
        low, high = min(low, max(high, 0.0)), max(high, min(low, 0.0))
    return Range(np.array(low), np.array(high))
