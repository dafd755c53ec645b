"""The ends of each channel along one axis: what `MinMax` is to a tensor, to each of its C slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from quantlab import kernels
from quantlab.calibration.plain import PlainArrays, integers, require_arrays, require_ends
from quantlab.calibration.statistic import FloatArray, checked, statistics
from quantlab.errors import DataError, OptionError


def _read_only(values: npt.ArrayLike, dtype: type[np.generic]) -> npt.NDArray[Any]:
    array = np.array(values, dtype)
    array.flags.writeable = False
    return array


@statistics.register("per_channel_minmax")
@dataclass(frozen=True, kw_only=True, eq=False)
class PerChannelMinMax:
    """The ends of what was seen in each channel, and how much was seen.

    Invariants:
        * All arrays are read-only and of shape (C,), or of shape (0,) before the first update.
        * Channel by channel, the ends are those of a `MinMax`.

    Attributes:
        axis: Axis of the channels; negative counts from the last.
        counts: Finite, NaN and infinite elements of each channel, int64 of shape (3, C).
        los: Smallest finite element of each channel, float64 of shape (C,); +inf where there was none.
        his: Largest finite element of each channel, float64 of shape (C,); -inf where there was none.

    Raises:
        OptionError: The axis is no integer.

    Example:
        >>> seen = PerChannelMinMax(axis=0).update(np.array([[1.5, -2.0], [np.nan, 4.0]], np.float32))
        >>> seen.los.tolist(), seen.his.tolist(), seen.counts[1].tolist(), seen.count
        ([-2.0, 4.0], [1.5, 4.0], [0, 1], 3)
    """

    kind: ClassVar[str] = "per_channel_minmax"
    ordered: ClassVar[bool] = False

    axis: int
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 0), np.int64))
    los: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    his: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        require_axis(self.axis)
        object.__setattr__(self, "counts", _read_only(self.counts, np.int64))
        object.__setattr__(self, "los", _read_only(self.los, np.float64))
        object.__setattr__(self, "his", _read_only(self.his, np.float64))

    def _image(self) -> tuple[int, bytes, bytes, bytes]:
        return self.axis, self.counts.tobytes(), self.los.tobytes(), self.his.tobytes()

    def __eq__(self, other: object) -> bool:
        return self._image() == other._image() if isinstance(other, PerChannelMinMax) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._image())

    def __reduce__(self) -> tuple[Any, ...]:
        # Built anew when unpickled, so that the arrays are read-only in the other process too.
        return _rebuilt, (type(self), self.axis, self.counts, self.los, self.his)

    @property
    def channels(self) -> int:
        """How many channels there are; 0 before the first update."""
        return self.los.size

    @property
    def count(self) -> int:
        """How many finite elements were seen, in all channels."""
        return int(self.counts[0].sum())

    @property
    def nan_count(self) -> int:
        """How many elements were NaN, in all channels."""
        return int(self.counts[1].sum())

    @property
    def inf_count(self) -> int:
        """How many elements were infinite, in all channels."""
        return int(self.counts[2].sum())

    @property
    def lo(self) -> float:
        """Smallest finite element seen in any channel; +inf where there was none."""
        return float(self.los.min(initial=math.inf))

    @property
    def hi(self) -> float:
        """Largest finite element seen in any channel; -inf where there was none."""
        return float(self.his.max(initial=-math.inf))

    def update(self, x: FloatArray) -> Self:
        """Return the statistic with one more array in it.

        Args:
            x: Float16, float32 or float64 array with C entries along the axis.

        Returns:
            A new statistic.

        Raises:
            DataError: The array has another type, no such axis, or another number of channels.
        """
        x = checked(x)
        if not -x.ndim <= self.axis < x.ndim:
            raise DataError(f"an array of shape {x.shape} has no axis {self.axis} to take channels from")
        seen = kernels.min_max_axis(x, self.axis)
        size = x.size // seen.lo.size if seen.lo.size else 0
        return self.merge(
            type(self)(
                axis=self.axis,
                counts=np.stack([size - seen.nan_count - seen.inf_count, seen.nan_count, seen.inf_count]),
                # Adding 0.0 turns negative zero into zero.
                los=seen.lo.astype(np.float64) + 0.0,
                his=seen.hi.astype(np.float64) + 0.0,
            )
        )

    def merge(self, other: Self) -> Self:
        """Return the statistic of both streams.

        Args:
            other: Another `PerChannelMinMax` of the same axis.

        Returns:
            A new statistic; the order of the two does not matter.

        Raises:
            OptionError: `other` is a statistic of another kind or of another axis.
            DataError: `other` has another number of channels.
        """
        if not isinstance(other, PerChannelMinMax) or other.axis != self.axis:
            what = f"one of axis {other.axis}" if isinstance(other, PerChannelMinMax) else f"a {type(other).__name__}"
            raise OptionError(
                f"a PerChannelMinMax of axis {self.axis} cannot be merged with {what}; merge statistics of one kind"
            )
        if not self.channels or not other.channels:
            return other if other.channels else self
        if self.channels != other.channels:
            raise DataError(
                f"channels along axis {self.axis}: {other.channels} in one array, {self.channels} in those before; "
                "choose an axis whose length is fixed"
            )
        return type(self)(
            axis=self.axis,
            counts=self.counts + other.counts,
            los=np.minimum(self.los, other.los),
            his=np.maximum(self.his, other.his),
        )

    def arrays(self) -> PlainArrays:
        """Return `axis`, `finite`, `nan`, `inf`, `los` and `his`, of shape (C,) but for the axis."""
        finite, nan, inf = self.counts
        counted = {"axis": integers(self.axis), "finite": finite, "nan": nan, "inf": inf}
        return {**counted, "los": self.los, "his": self.his}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        size = arrays["los"].size if "los" in arrays else None
        counted = dict.fromkeys(("finite", "nan", "inf"), (np.int64, size))
        ends = dict.fromkeys(("los", "his"), (np.float64, size))
        require_arrays(arrays, cls.kind, {"axis": (np.int64, 1), **counted, **ends})
        counts = np.stack([arrays[name] for name in counted])
        for channel in zip(counts.T, arrays["los"].tolist(), arrays["his"].tolist(), strict=True):
            require_ends(cls.kind, *channel)
        return cls(axis=int(arrays["axis"][0]), counts=counts, los=arrays["los"], his=arrays["his"])


def _rebuilt(kind: type[PerChannelMinMax], axis: int, *arrays: npt.NDArray[Any]) -> PerChannelMinMax:
    counts, los, his = arrays
    return kind(axis=axis, counts=counts, los=los, his=his)


def require_axis(axis: object) -> None:
    """Refuse an axis that is no integer.

    Args:
        axis: What was given.

    Raises:
        OptionError: It is no integer.
    """
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise OptionError(f"axis must be an integer, got {axis!r}")
