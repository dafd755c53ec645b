"""Zeros of a histogram made positive, so that its divergence from another one is finite.

With z empty and f filled bins, every empty bin gets eps, and every filled one loses eps z / f, so that the sum stays.
Source: Han et al., "Kullback-Leibler Divergence", with the arithmetic of onnxruntime.quantization 1.31.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.errors import DataError


def smooth_distribution(p: npt.NDArray[Any], eps: float = 0.0001) -> npt.NDArray[np.float32] | None:
    """Give empty bins a little of what the filled ones have.

    Args:
        p: Counts, shape (n,).
        eps: What an empty bin gets.

    Returns:
        Float32 array of shape (n,), or None where all bins are empty.

    Raises:
        DataError: So many bins are empty that some filled one would lose all it has.

    Example:
        >>> smooth_distribution(np.array([0, 4]), eps=0.5).tolist()
        [0.5, 3.5]
    """
    empty, filled = (p == 0).astype(np.float32), (p != 0).astype(np.float32)
    count = float(p.size - empty.sum())
    if not count:
        return None
    taken = eps * float(empty.sum()) / count
    smooth = p.astype(np.float32)
    smooth += eps * empty + (-taken) * filled
    if taken >= 1 or (smooth <= 0).any():
        raise DataError(
            f"{int(empty.sum())} empty bins of {p.size} would take {taken:.6g} from each filled one, more than "
            f"the smallest has: give eps below {eps:g}, or fewer bins"
        )
    return smooth
