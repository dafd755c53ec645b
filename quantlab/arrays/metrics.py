"""How far an array lies from its reference: plain numbers computed in float64.

    MSE = mean((x - y)^2)        SQNR = 20 log10(|x|_2 / |x - y|_2) dB        cosine = <x, y> / (|x|_2 |y|_2)

SQNR is the ratio of signal power to quantization noise power; more is better, and one bit is worth about 6.02 dB.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.errors import ShapeError

Real = npt.NDArray[np.floating[Any]]


def _pair(reference: Real, other: Real) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if reference.shape != other.shape:
        raise ShapeError(f"cannot compare shape {reference.shape} with {other.shape}")
    return np.ravel(reference).astype(np.float64), np.ravel(other).astype(np.float64)


def mse(reference: Real, other: Real) -> float:
    """Mean squared error, in the square of the tensor's unit; 0.0 for empty arrays.

    Args:
        reference: Array of any shape.
        other: Array of the same shape.

    Returns:
        The mean of the squared differences.

    Raises:
        ShapeError: The shapes differ.
    """
    x, y = _pair(reference, other)
    return float(np.mean((x - y) ** 2)) if x.size else 0.0


def sqnr_from_powers(signal: float, noise: float) -> float:
    """Signal-to-quantization-noise ratio in dB from two sums of squares.

    Args:
        signal: Sum of squares of the reference.
        noise: Sum of squares of the difference.

    Returns:
        `10 log10(signal / noise)`; +inf where there is no noise (an exact zero tensor included), -inf where there is
        noise on a zero signal.

    Example:
        >>> sqnr_from_powers(100.0, 1.0)
        20.0
        >>> sqnr_from_powers(0.0, 0.0)
        inf
    """
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def sqnr(reference: Real, other: Real) -> float:
    """Signal-to-quantization-noise ratio of an array, in dB.

    Args:
        reference: Array of any shape.
        other: Array of the same shape.

    Returns:
        Decibels, see `sqnr_from_powers` for the limits.

    Raises:
        ShapeError: The shapes differ.

    Example:
        >>> sqnr(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
        20.0
    """
    x, y = _pair(reference, other)
    noise = x - y
    return sqnr_from_powers(float(x @ x), float(noise @ noise))


def ratio_from_db(decibels: float) -> float:
    """Ratio of signal norm to noise norm that an SQNR stands for: `10 ** (dB / 20)`.

    Args:
        decibels: SQNR in dB.

    Returns:
        The ratio of norms.

    Example:
        >>> round(ratio_from_db(23), 1), round(ratio_from_db(37), 1)
        (14.1, 70.8)
    """
    return float(10 ** (decibels / 20))


def cosine(reference: Real, other: Real) -> float:
    """Cosine of the angle between two arrays taken as vectors, in -1..1.

    Args:
        reference: Array of any shape.
        other: Array of the same shape.

    Returns:
        The cosine; 1.0 if both are zero, 0.0 if only one is.

    Raises:
        ShapeError: The shapes differ.
    """
    x, y = _pair(reference, other)
    norms = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    if norms == 0:
        return float(not x.any() and not y.any())
    return max(-1.0, min(1.0, float(x @ y) / norms))
