"""Relative entropy of two distributions, the sum of p log(p / q) in nats, as scipy.stats defines it.

A bin with p = 0 adds nothing; in onnxruntime.quantization 1.31.1 it adds infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.errors import OptionError


def rel_entr(pk: npt.NDArray[Any], qk: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return p log(p / q), element by element.

    Args:
        pk: Float array of any shape.
        qk: Float array of the same shape.

    Returns:
        Array of the shape and type of `pk`: 0 where p = 0 <= q, infinite where p or q is no share.

    Example:
        >>> rel_entr(np.array([0.5, 0.0, 0.5]), np.array([0.25, 0.5, 0.0])).round(4).tolist()
        [0.3466, 0.0, inf]
    """
    found = np.full(pk.shape, np.inf, dtype=pk.dtype)
    found[(pk == 0) & (qk >= 0)] = 0
    both = (pk > 0) & (qk > 0)
    found[both] = pk[both] * np.log(pk[both] / qk[both])
    return found


def entropy(pk: npt.ArrayLike, qk: npt.ArrayLike, base: float | None = None, axis: int = 0) -> Any:
    """Return the relative entropy of two distributions, which are scaled to sum 1 first.

    Args:
        pk: Counts or shares.
        qk: Counts or shares that `pk` can be compared with.
        base: Of the logarithm; e by default.
        axis: The axis to sum along.

    Returns:
        Float32 number, or array where there are more axes.

    Raises:
        OptionError: The base is not positive.

    Example:
        >>> float(entropy([1, 1], [1, 3], base=2)).__round__(4)
        0.2075
    """
    if base is not None and base <= 0:
        raise OptionError(f"base must be a number above 0 or none, got {base!r}")
    p, q = np.broadcast_arrays(np.asarray(pk, np.float32), np.asarray(qk, np.float32))
    shares = [one / np.sum(one, axis=axis, keepdims=True) for one in (p, q)]
    found = np.sum(rel_entr(*shares), axis=axis)
    return (found if base is None else found / np.log(base)).astype(np.float32)
