"""The plain arrays that a statistic is written as: integers as int64, numbers as float64, and nothing else.

Integers that may need more than 64 bits are written as the bytes of their two's complement, the lowest first.

They are checked when they are read, because a file may have been made by anybody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.errors import DataError

PlainArrays = dict[str, npt.NDArray[Any]]


def integers(*values: int) -> npt.NDArray[np.int64]:
    """Return integers as an int64 array of shape (n,)."""
    return np.array(values, np.int64)


def numbers(*values: float) -> npt.NDArray[np.float64]:
    """Return numbers as a float64 array of shape (n,)."""
    return np.array(values, np.float64)


def long_integer(value: int) -> npt.NDArray[np.uint8]:
    """Return an integer of any size as uint8 of shape (n,), with the least n that holds it.

    Example:
        >>> long_integer(-2).tolist(), long_integer(1 << 64).size
        ([254], 9)
    """
    return np.frombuffer(value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True), np.uint8)


def from_long_integer(array: npt.NDArray[np.uint8]) -> int:
    """Return the integer that `long_integer` wrote."""
    return int.from_bytes(array.tobytes(), "little", signed=True)


def require_arrays(
    arrays: Mapping[str, npt.NDArray[Any]], kind: str, wanted: Mapping[str, tuple[type[np.generic], int | None]]
) -> None:
    """Refuse arrays that are not what a statistic is written as.

    Args:
        arrays: Name to array.
        kind: Kind of the statistic, for the error text.
        wanted: Name to type and length of each array; None stands for any length.

    Raises:
        DataError: A name, a type or a length is wrong.
    """
    if set(arrays) != set(wanted):
        raise DataError(f"a {kind!r} statistic has arrays {sorted(wanted)}, got {sorted(arrays)}")
    for name, (dtype, length) in wanted.items():
        array = arrays[name]
        if array.dtype != dtype or array.ndim != 1 or length not in (None, array.size):
            size = "n" if length is None else length
            raise DataError(
                f"array {name!r} of a {kind!r} statistic must be {np.dtype(dtype)} of shape ({size},), "
                f"got {array.dtype} of shape {array.shape}"
            )


def require_ends(kind: str, counts: npt.NDArray[np.int64], lo: float, hi: float) -> None:
    """Refuse ends and counts that no stream of arrays can have.

    Args:
        kind: Kind of the statistic, for the error text.
        counts: Finite, NaN and infinite elements, of shape (3,).
        lo: Smallest finite element.
        hi: Largest finite element.

    Raises:
        DataError: A count is negative, or the ends do not belong to that many elements.
    """
    empty = (lo, hi) == (math.inf, -math.inf)
    proper = math.isfinite(lo) and math.isfinite(hi) and lo <= hi
    negative_zero = any(end == 0 and math.copysign(1.0, end) < 0 for end in (lo, hi))
    if (counts < 0).any() or not (proper if counts[0] else empty) or negative_zero:
        raise DataError(
            f"a {kind!r} statistic of {counts[0]} finite, {counts[1]} NaN and {counts[2]} infinite elements cannot "
            f"have the ends [{lo}, {hi}]; what it was read from is damaged"
        )
