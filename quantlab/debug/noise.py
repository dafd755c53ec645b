"""The signal-to-quantization-noise ratio of one array or of a list of arrays, in float64.

SQNR = 20 log10(|x| / |x - y|) dB
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from quantlab.arrays import sqnr_from_powers
from quantlab.errors import ShapeError

Array = npt.NDArray[Any]
Arrays: TypeAlias = Array | Sequence[Array]


def compute_signal_to_quantization_noice_ratio(x: Arrays, y: Arrays) -> float:
    """Return the SQNR of all elements together.

    The name is that of onnxruntime.quantization's function. It floors both norms at 2.2e-16; here no error at all gives
    inf.

    Args:
        x: Reference: an array, or one array a sample.
        y: What it is compared with: as many arrays, of the same shapes.

    Returns:
        Decibels; inf where nothing differs, -inf where a reference of zeros does.

    Raises:
        ShapeError: There are more arrays on one side, or two have different shapes.

    Example:
        >>> compute_signal_to_quantization_noice_ratio(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
        20.0
    """
    signal, noise = powers(x, y)
    return sqnr_from_powers(signal, noise)


def powers(x: Arrays, y: Arrays) -> tuple[float, float]:
    """Return the sums of squares of the reference and of the difference.

    Raises:
        ShapeError: There are more arrays on one side, or two have different shapes.
    """
    left, right = ([side] if isinstance(side, np.ndarray) else list(side) for side in (x, y))
    if len(left) != len(right):
        raise ShapeError(f"cannot compare {len(left)} arrays with {len(right)}: give as many on both sides")
    signal = noise = 0.0
    for index, (one, other) in enumerate(zip(left, right, strict=True)):
        if np.shape(one) != np.shape(other):
            raise ShapeError(f"cannot compare shape {np.shape(one)} with {np.shape(other)} (array {index})")
        exact = np.ravel(one).astype(np.float64)
        error = exact - np.ravel(other)
        signal, noise = signal + float(exact @ exact), noise + float(error @ error)
    return signal, noise
