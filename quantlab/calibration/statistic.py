"""A statistic is a value that tells what a stream of arrays has held so far, in memory that does not grow.

    update(x)      the statistic of everything seen before and of `x`
    merge(other)   the statistic of both streams: associative, commutative, exact, with the empty one neutral

so that any split of the data into batches, any order and any tree of merges end in the same bytes. A statistic that
says `ordered` depends on the order by its definition, and refuses to be merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from quantlab import kernels
from quantlab.calibration.plain import PlainArrays, integers, numbers, require_arrays, require_ends
from quantlab.errors import DataError, OptionError
from quantlab.registry import Registry

FloatArray = npt.NDArray[np.floating[Any]]


class Statistic(Protocol):
    """What every statistic can do; a range rule names the one that it needs.

    Attributes:
        kind: Name in the table `statistics`, by which it is restored.
        ordered: Whether the order of the data matters, so that parts cannot be merged.
    """

    kind: ClassVar[str]
    ordered: ClassVar[bool]

    @property
    def count(self) -> int:
        """How many finite elements were seen."""

    @property
    def nan_count(self) -> int:
        """How many elements were NaN."""

    @property
    def inf_count(self) -> int:
        """How many elements were infinite."""

    @property
    def lo(self) -> float:
        """Smallest finite element seen; +inf where there was none."""

    @property
    def hi(self) -> float:
        """Largest finite element seen; -inf where there was none."""

    def update(self, x: FloatArray) -> Self:
        """Return the statistic with one more array in it."""

    def merge(self, other: Self) -> Self:
        """Return the statistic of both streams."""

    def arrays(self) -> PlainArrays:
        """Return everything that the statistic holds, as plain arrays."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays."""


statistics: Registry[type[Statistic]] = Registry("statistic", "quantlab.calibration")
"""Statistics by kind."""


def restore(kind: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Statistic:
    """Return the statistic that was written as plain arrays.

    Args:
        kind: Its `kind`.
        arrays: What its `arrays()` returned.

    Returns:
        An equal statistic.

    Raises:
        OptionError: There is no such kind.
        DataError: The arrays are not those of a statistic of that kind.

    Example:
        >>> seen = MinMax().update(np.array([1.5, -2.0], np.float32))
        >>> restore(seen.kind, seen.arrays()) == seen
        True
    """
    return statistics[kind].from_arrays(arrays)


@statistics.register("minmax")
@dataclass(frozen=True, kw_only=True)
class MinMax:
    """The ends of what was seen, and how much was seen.

    Invariants:
        * `lo <= hi` are finite if `count > 0`, otherwise `lo = +inf` and `hi = -inf`.
        * Neither end is negative zero, whose bits would depend on the order of the data.

    Attributes:
        count: Finite elements.
        nan_count: Elements that were NaN.
        inf_count: Elements that were infinite.
        lo: Smallest finite element.
        hi: Largest finite element.

    Example:
        >>> seen = MinMax().update(np.array([1.5, -2.0, np.nan], np.float32))
        >>> seen.lo, seen.hi, seen.count, seen.nan_count
        (-2.0, 1.5, 2, 1)
    """

    kind: ClassVar[str] = "minmax"
    ordered: ClassVar[bool] = False

    count: int = 0
    nan_count: int = 0
    inf_count: int = 0
    lo: float = math.inf
    hi: float = -math.inf

    def update(self, x: FloatArray) -> MinMax:
        """Return the statistic with one more array in it.

        Args:
            x: Float16, float32 or float64 array of any shape, empty ones included.

        Returns:
            A new statistic.

        Raises:
            DataError: The array has another type.
        """
        seen = self.gather()
        seen.add(x)
        return seen.result()

    def gather(self) -> MinMaxGatherer:
        """Return a gatherer that begins with this statistic; see `quantlab.calibration.gather`."""
        return MinMaxGatherer(self)

    def merge(self, other: Self) -> Self:
        """Return the statistic of both streams.

        Args:
            other: Another `MinMax`.

        Returns:
            A new statistic; the order of the two does not matter.

        Raises:
            OptionError: `other` is a statistic of another kind.
        """
        if not isinstance(other, MinMax):
            raise OptionError(f"a MinMax cannot be merged with a {type(other).__name__}; merge statistics of one kind")
        return type(self)(
            count=self.count + other.count,
            nan_count=self.nan_count + other.nan_count,
            inf_count=self.inf_count + other.inf_count,
            lo=min(self.lo, other.lo),
            hi=max(self.hi, other.hi),
        )

    def arrays(self) -> PlainArrays:
        """Return `counts` (finite, NaN, infinite) and `ends` (lo, hi)."""
        return {
            "counts": integers(self.count, self.nan_count, self.inf_count),
            "ends": numbers(self.lo, self.hi),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        require_arrays(arrays, cls.kind, {"counts": (np.int64, 3), "ends": (np.float64, 2)})
        count, nan_count, inf_count = arrays["counts"].tolist()
        lo, hi = arrays["ends"].tolist()
        require_ends(cls.kind, arrays["counts"], lo, hi)
        return cls(count=count, nan_count=nan_count, inf_count=inf_count, lo=lo, hi=hi)


class MinMaxGatherer:
    """The gatherer of `MinMax`, with the attributes of its results.

    Attributes:
        count: Finite elements.
        nan_count: Elements that were NaN.
        inf_count: Elements that were infinite.
        lo: Smallest finite element.
        hi: Largest finite element.
    """

    def __init__(self, start: MinMax) -> None:
        self.count, self.nan_count, self.inf_count = start.count, start.nan_count, start.inf_count
        self.lo, self.hi = start.lo, start.hi

    def add(self, x: FloatArray) -> None:
        """Take in one more array, as `MinMax.update` does."""
        x = checked(x)
        self.take(kernels.min_max(x), x.size)

    def take(self, seen: kernels.MinMax, size: int) -> None:
        """Take in what a kernel found in one more array.

        Args:
            seen: Ends and numbers of NaN and infinities.
            size: How many elements the array has.
        """
        nan_count, inf_count = int(seen.nan_count), int(seen.inf_count)
        self.count += size - nan_count - inf_count
        self.nan_count += nan_count
        self.inf_count += inf_count
        # Adding 0.0 turns negative zero into zero.
        self.lo = min(self.lo, float(seen.lo) + 0.0)
        self.hi = max(self.hi, float(seen.hi) + 0.0)

    def result(self) -> MinMax:
        """Return the statistic of all arrays."""
        return MinMax(count=self.count, nan_count=self.nan_count, inf_count=self.inf_count, lo=self.lo, hi=self.hi)


@dataclass(frozen=True, kw_only=True)
class WithEnds:
    """The observed ends beside something else, under the names of the `Statistic` protocol.

    Attributes:
        ends: Observed ends and the numbers of finite, NaN and infinite elements.
    """

    ends: MinMax = field(default_factory=MinMax)

    @property
    def count(self) -> int:
        """How many finite elements were seen."""
        return self.ends.count

    @property
    def nan_count(self) -> int:
        """How many elements were NaN."""
        return self.ends.nan_count

    @property
    def inf_count(self) -> int:
        """How many elements were infinite."""
        return self.ends.inf_count

    @property
    def lo(self) -> float:
        """Smallest finite element seen; +inf where there was none."""
        return self.ends.lo

    @property
    def hi(self) -> float:
        """Largest finite element seen; -inf where there was none."""
        return self.ends.hi


def checked(x: FloatArray | np.floating[Any]) -> FloatArray:
    """Return an array that a statistic can take.

    Args:
        x: Anything that came out of a model.

    Returns:
        The same array; NumPy's scalars become arrays of shape ().

    Raises:
        DataError: It is no NumPy array of float16, float32 or float64.
    """
    if isinstance(x, np.ndarray | np.generic) and x.dtype in (np.float16, np.float32, np.float64):
        return np.asarray(x)
    kind = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
    raise DataError(
        f"a statistic takes NumPy arrays of float16, float32 or float64, got {kind}; convert it first "
        "(bfloat16 to float32 loses nothing)"
    )
