"""The two formulas that every affine definition shares, on arrays whose scales and zero points broadcast against them.

    q = clip(rint(x / s) + z, qmin, qmax)        dq = (q - z) * s

`reference.quantize` says what becomes of special values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab_kernels.checks import Floats, require_grid


def levels(x: Floats, scale: Floats, zero_point: NDArray[np.int64], qmin: int, qmax: int) -> NDArray[Any]:
    """Round to the grid; the dtype of `scale` selects the rule."""
    require_grid(x, qmin, qmax)
    working = np.dtype(np.float32) if scale.dtype == np.float16 else scale.dtype
    with np.errstate(all="ignore"):
        level = np.asarray(np.divide(x.astype(working, copy=False), scale, dtype=working))
        np.rint(level, out=level)
        if scale.dtype == np.float16:
            fits = np.abs(level) < 2.0**31
            wrapped = np.where(fits, level, -(2.0**31)).astype(np.int32) + zero_point.astype(np.int32)
            return np.asarray(np.clip(wrapped, qmin, qmax))
        level += zero_point.astype(working)
    np.copyto(level, qmin, where=np.isnan(level))
    return np.clip(level, qmin, qmax, out=level)


def values(level: NDArray[Any], scale: Floats, zero_point: NDArray[np.int64]) -> Floats:
    """Return (level - z) * s as float32, or rounded to float16 where the scale is."""
    # float64 holds every difference of a 32-bit integer and a zero point. Integers are copied by the conversion, and
    # float levels are ours: nothing of the caller's is overwritten.
    wide = np.float64 if level.dtype == np.int32 else np.float32
    with np.errstate(all="ignore"):
        steps: NDArray[Any] = level.astype(wide, copy=False)
        steps -= zero_point.astype(wide)
        steps = steps.astype(np.float32, copy=False)
        steps *= scale.astype(np.float32)
        return steps.astype(scale.dtype, copy=False)
