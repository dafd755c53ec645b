"""Batch ends are the smallest and largest element of each batch, one by one and in their order.

For rules whose result depends on that order, such as sums in float32. It is the one statistic that grows with the data:
by two numbers a batch, or two a channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt

from quantlab import kernels
from quantlab.calibration.channels import require_axis
from quantlab.calibration.plain import PlainArrays, integers, require_arrays
from quantlab.calibration.statistic import FloatArray, MinMax, WithEnds, checked, statistics
from quantlab.errors import DataError, OptionError

EMPTY = np.zeros((0, 0), np.float32)


@statistics.register("batch_ends")
@dataclass(frozen=True, kw_only=True, eq=False)
class BatchEnds(WithEnds):
    """The ends of each batch that had a finite element, in the type of the data.

    Attributes:
        ends: Observed ends of all and the numbers of finite, NaN and infinite elements.
        axis: Axis of channels that are watched each on its own, or None.
        los: Smallest finite elements, of shape (B, C) for B batches; C is 1 without an axis.
        his: Largest finite elements, likewise.

    Raises:
        OptionError: The axis is no integer.

    Example:
        >>> seen = BatchEnds().update(np.array([-1.0, 2.0])).update(np.array([0.0, 3.0]))
        >>> seen.los.tolist(), seen.his.tolist()
        ([[-1.0], [0.0]], [[2.0], [3.0]])
    """

    kind: ClassVar[str] = "batch_ends"
    ordered: ClassVar[bool] = True

    axis: int | None = None
    los: FloatArray = field(default_factory=lambda: EMPTY)
    his: FloatArray = field(default_factory=lambda: EMPTY)

    def __post_init__(self) -> None:
        if self.axis is not None:
            require_axis(self.axis)
        for name in ("los", "his"):
            copy = np.array(getattr(self, name))
            copy.flags.writeable = False
            object.__setattr__(self, name, copy)

    def _image(self) -> tuple[object, ...]:
        return self.ends, self.axis, self.los.dtype, self.los.shape, self.los.tobytes(), self.his.tobytes()

    def __eq__(self, other: object) -> bool:
        return self._image() == other._image() if isinstance(other, BatchEnds) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._image())

    def update(self, x: FloatArray) -> Self:
        """Return the statistic with one more batch in it.

        Args:
            x: Float16, float32 or float64 array; of any shape without an axis, else with C entries along it.

        Returns:
            A new statistic.

        Raises:
            DataError: The array has another type than those before, no such axis, or another number of channels.
        """
        x = checked(x)
        new = MinMax().update(x)
        if not new.count:
            return replace(self, ends=self.ends.merge(new))
        lo, hi = self._of(x, new)
        if self.los.size and (self.los.shape[1] != lo.size or self.los.dtype != x.dtype):
            raise DataError(
                f"a batch of {x.dtype} with {lo.size} channels came after batches of {self.los.dtype} with "
                f"{self.los.shape[1]}; give one type and one number of channels only"
            )
        los, his = (np.concatenate([old, [row]]) if old.size else np.array([row])
                    for old, row in ((self.los, lo), (self.his, hi)))  # fmt: skip
        return replace(self, ends=self.ends.merge(new), los=los.astype(x.dtype), his=his.astype(x.dtype))

    def _of(self, x: FloatArray, ends: MinMax) -> tuple[FloatArray, FloatArray]:
        if self.axis is None:
            return np.array([ends.lo], x.dtype), np.array([ends.hi], x.dtype)
        if not -x.ndim <= self.axis < x.ndim:
            raise DataError(f"an array of shape {x.shape} has no axis {self.axis} to take channels from")
        seen = kernels.min_max_axis(x, self.axis)
        return seen.lo.astype(x.dtype), seen.hi.astype(x.dtype)

    def merge(self, other: Self) -> NoReturn:
        """Refuse: the order of two streams is not known.

        Raises:
            OptionError: Always.
        """
        raise OptionError(
            "ends of batches in their order cannot be merged, because nobody knows which stream came first; "
            "read the data in one stream"
        )

    def arrays(self) -> PlainArrays:
        """Return `counts` and `ends` as `MinMax` does, `los` and `his` row by row, `form` (axis?, axis, C, bits)."""
        has_axis, axis = (0, 0) if self.axis is None else (1, self.axis)
        form = integers(has_axis, axis, self.los.shape[1], 8 * self.los.dtype.itemsize)
        own = {"los": self.los.astype(np.float64).ravel(), "his": self.his.astype(np.float64).ravel()}
        return {**self.ends.arrays(), **own, "form": form}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        size = arrays["los"].size if "los" in arrays else None
        wanted: dict[str, tuple[type[np.generic], int | None]] = {"counts": (np.int64, 3), "ends": (np.float64, 2)}
        wanted |= {"los": (np.float64, size), "his": (np.float64, size), "form": (np.int64, 4)}
        require_arrays(arrays, cls.kind, wanted)
        ends = MinMax.from_arrays({name: arrays[name] for name in ("counts", "ends")})
        los, his, (has_axis, axis, channels, bits) = arrays["los"], arrays["his"], arrays["form"].tolist()
        fitting = los.size % channels == 0 if channels > 0 else los.size == 0 == channels
        whole = (los.min(), his.max()) == (ends.lo, ends.hi) if los.size else not ends.count
        if not fitting or not whole or bits not in (16, 32, 64) or has_axis not in (0, 1):
            raise DataError(
                f"the {los.size} ends of batches of {channels} channels of a {cls.kind!r} statistic of {ends.count} "
                "values do not fit together; what it was read from is damaged"
            )
        rows = (-1, channels) if channels else (0, 0)
        los, his = (array.astype(f"float{bits}").reshape(rows) for array in (los, his))
        return cls(ends=ends, axis=axis if has_axis else None, los=los, his=his)
