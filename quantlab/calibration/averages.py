"""A moving average follows the ends of the batches: their mean over all batches, or one that forgets old batches.

    MovingAverage         lo = sum_b min_b / B,  hi = sum_b max_b / B      over the B batches with a finite value
    ExponentialAverage    m <- m + c (new - m)   for both ends, from the first batch's on

The mean keeps its sums as integers, in units of 2**-1074, of which every float64 is a multiple: they are exact, so that
order and merging leave no trace, and only the division at the end rounds. The exponential form depends on the order by
its definition; each step is computed exactly and rounded once, so that the average never leaves the observed range.

Source: `CalibMovingAverage` and its constant in onnxruntime.quantization.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt

from quantlab.calibration.plain import (
    PlainArrays,
    from_long_integer,
    integers,
    long_integer,
    numbers,
    require_arrays,
)
from quantlab.calibration.statistic import FloatArray, MinMax, WithEnds, statistics
from quantlab.errors import DataError, OptionError

# All float64 numbers are multiples of 2**-1074.
UNIT_BITS = 1074


def in_units(value: float) -> int:
    """Return a finite number as an integer, in units of 2**-1074.

    Example:
        >>> in_units(5e-324), in_units(-1.0) == -(2**1074)
        (1, True)
    """
    numerator, denominator = value.as_integer_ratio()
    return numerator << (UNIT_BITS + 1 - denominator.bit_length())


@statistics.register("moving_average")
@dataclass(frozen=True, kw_only=True)
class MovingAverage(WithEnds):
    """The mean of the smallest and the mean of the largest elements of the batches.

    It depends on where the batches are cut, and on nothing else: each `update` is one batch. A batch without a finite
    element has no ends and is passed over.

    Attributes:
        ends: Observed ends and the numbers of finite, NaN and infinite elements.
        batches: How many batches had a finite element.
        lo_sum: Sum of their smallest elements, in units of 2**-1074.
        hi_sum: Sum of their largest elements, in units of 2**-1074.

    Example:
        >>> seen = MovingAverage().update(np.array([-1.0, 2.0])).update(np.array([-2.0, 3.0]))
        >>> seen.averages()
        (-1.5, 2.5)
    """

    kind: ClassVar[str] = "moving_average"
    ordered: ClassVar[bool] = False

    batches: int = 0
    lo_sum: int = 0
    hi_sum: int = 0

    def averages(self) -> tuple[float, float]:
        """Return the two means, rounded once; (+inf, -inf) where nothing finite was seen."""
        if not self.batches:
            return math.inf, -math.inf
        # True division of integers rounds once, to the nearest float64; adding 0.0 turns negative zero into zero.
        whole = self.batches << UNIT_BITS
        return self.lo_sum / whole + 0.0, self.hi_sum / whole + 0.0

    def update(self, x: FloatArray) -> Self:
        """Return the statistic with one more batch in it.

        Args:
            x: Float16, float32 or float64 array of any shape, empty ones included.

        Returns:
            A new statistic.

        Raises:
            DataError: The array has another type.
        """
        new = MinMax().update(x)
        if not new.count:
            return self.merge(type(self)(ends=new))
        return self.merge(type(self)(ends=new, batches=1, lo_sum=in_units(new.lo), hi_sum=in_units(new.hi)))

    def merge(self, other: Self) -> Self:
        """Return the statistic of both streams of batches.

        Args:
            other: Another `MovingAverage`.

        Returns:
            A new statistic; the order of the two does not matter.

        Raises:
            OptionError: `other` is a statistic of another kind.
        """
        if not isinstance(other, MovingAverage):
            raise OptionError(
                f"a MovingAverage cannot be merged with a {type(other).__name__}; merge statistics of one kind"
            )
        return type(self)(
            ends=self.ends.merge(other.ends),
            batches=self.batches + other.batches,
            lo_sum=self.lo_sum + other.lo_sum,
            hi_sum=self.hi_sum + other.hi_sum,
        )

    def arrays(self) -> PlainArrays:
        """Return `counts` and `ends` as `MinMax` does, `batches`, `lo_sum` and `hi_sum`."""
        sums = {"lo_sum": long_integer(self.lo_sum), "hi_sum": long_integer(self.hi_sum)}
        return {**self.ends.arrays(), "batches": integers(self.batches), **sums}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        wanted: dict[str, tuple[type[np.generic], int | None]] = {"counts": (np.int64, 3), "ends": (np.float64, 2)}
        wanted |= {"batches": (np.int64, 1), "lo_sum": (np.uint8, None), "hi_sum": (np.uint8, None)}
        require_arrays(arrays, cls.kind, wanted)
        ends = MinMax.from_arrays({name: arrays[name] for name in ("counts", "ends")})
        batches = int(arrays["batches"][0])
        lo_sum, hi_sum = from_long_integer(arrays["lo_sum"]), from_long_integer(arrays["hi_sum"])
        if not 0 <= batches <= ends.count or not _possible(ends, batches, lo_sum, hi_sum):
            raise DataError(
                f"the sums of a {cls.kind!r} statistic of {batches} batches do not lie within "
                f"[{ends.lo}, {ends.hi}]; what it was read from is damaged"
            )
        return cls(ends=ends, batches=batches, lo_sum=lo_sum, hi_sum=hi_sum)


def _possible(ends: MinMax, batches: int, lo_sum: int, hi_sum: int) -> bool:
    """Say whether batches within these ends can have these sums."""
    if not ends.count or not batches:
        return (ends.count, batches, lo_sum, hi_sum) == (0, 0, 0, 0)
    return batches * in_units(ends.lo) <= lo_sum <= hi_sum <= batches * in_units(ends.hi)


def require_constant(constant: object) -> None:
    """Refuse a constant that no exponential average can have.

    Args:
        constant: Weight of a new batch.

    Raises:
        OptionError: It is no number above 0 and at most 1.
    """
    if isinstance(constant, bool) or not isinstance(constant, int | float) or not 0 < constant <= 1:
        raise OptionError(f"constant must be a number above 0 and at most 1, got {constant!r}")


@statistics.register("exponential_average")
@dataclass(frozen=True, kw_only=True)
class ExponentialAverage(WithEnds):
    """The ends of the batches, of which each new one counts with the same weight and old ones fade.

    Attributes:
        ends: Observed ends and the numbers of finite, NaN and infinite elements.
        constant: Weight of a new batch, above 0 and at most 1.
        average_lo: Average of the smallest elements; +inf where nothing finite was seen.
        average_hi: Average of the largest elements; -inf where nothing finite was seen.

    Raises:
        OptionError: The constant is out of its limits.

    Example:
        >>> seen = ExponentialAverage(constant=0.25).update(np.array([-1.0, 2.0])).update(np.array([-2.0, 4.0]))
        >>> seen.averages()
        (-1.25, 2.5)
    """

    kind: ClassVar[str] = "exponential_average"
    ordered: ClassVar[bool] = True

    constant: float = 0.01
    average_lo: float = math.inf
    average_hi: float = -math.inf

    def __post_init__(self) -> None:
        require_constant(self.constant)

    def averages(self) -> tuple[float, float]:
        """Return the two averages; (+inf, -inf) where nothing finite was seen."""
        return self.average_lo, self.average_hi

    def update(self, x: FloatArray) -> Self:
        """Return the statistic with one more batch in it.

        Args:
            x: Float16, float32 or float64 array of any shape, empty ones included.

        Returns:
            A new statistic.

        Raises:
            DataError: The array has another type.
        """
        new = MinMax().update(x)
        lo, hi = self.averages()
        if new.count:
            lo, hi = (self._step(lo, new.lo), self._step(hi, new.hi)) if self.count else (new.lo, new.hi)
        return type(self)(ends=self.ends.merge(new), constant=self.constant, average_lo=lo, average_hi=hi)

    def _step(self, old: float, new: float) -> float:
        return float(Fraction(old) + Fraction(self.constant) * (Fraction(new) - Fraction(old))) + 0.0

    def merge(self, other: Self) -> NoReturn:
        """Refuse: the average of two streams is not known from those of each.

        Raises:
            OptionError: Always.
        """
        raise OptionError(
            "exponential averages cannot be merged, because they depend on the order of the batches; "
            "read the data in one stream, or take the mean over batches (constant=None)"
        )

    def arrays(self) -> PlainArrays:
        """Return `counts` and `ends` as `MinMax` does, and `averages` (constant, lo, hi)."""
        return {**self.ends.arrays(), "averages": numbers(self.constant, *self.averages())}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the statistic that gave these arrays.

        Raises:
            DataError: No statistic of this kind gives such arrays.
        """
        wanted = {"counts": (np.int64, 3), "ends": (np.float64, 2), "averages": (np.float64, 3)}
        require_arrays(arrays, cls.kind, wanted)
        ends = MinMax.from_arrays({name: arrays[name] for name in ("counts", "ends")})
        constant, lo, hi = arrays["averages"].tolist()
        within = ends.lo <= lo <= hi <= ends.hi if ends.count else (lo, hi) == (math.inf, -math.inf)
        if not 0 < constant <= 1 or not within:
            raise DataError(
                f"a {cls.kind!r} statistic with the ends [{ends.lo}, {ends.hi}] cannot have the averages [{lo}, {hi}] "
                f"with the constant {constant}; what it was read from is damaged"
            )
        return cls(ends=ends, constant=constant, average_lo=lo, average_hi=hi)
