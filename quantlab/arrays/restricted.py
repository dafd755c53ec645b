"""Zero points at the lower end or in the middle of the grid, nothing between.

With a grid `qmin..qmax`, `mid = (qmin + qmax + 1) // 2` and a range `[lo, hi]` widened to contain 0:

    lo >= 0     zero_point = qmin    scale = hi / (qmax - qmin)
    otherwise   zero_point = mid     scale = max(-lo / (mid - qmin), hi / (qmax - mid))

Nothing is clipped: the wider side sets the scale. Some accelerators take uint8 activations with zero point 0 or 128
only. Source: onnxruntime.quantization 1.31.1, `quant_utils.snap_zero_point_to_uint8`; same steps in float64, same bits,
except that the scale has the type of the range there too where that is float16.
"""

from __future__ import annotations

import numpy as np

from quantlab.arrays.qparams import QParams, Range
from quantlab.arrays.spec import QuantSpec
from quantlab.errors import RangeError


def restricted_qparams(values: Range, spec: QuantSpec, *, min_real_range: float | None = None) -> QParams:
    """Compute scale and zero point with the zero point at the lower end or in the middle.

    Args:
        values: Range of shape (), in the tensor's unit. Its type becomes the scale's type.
        spec: An asymmetric grid per tensor.
        min_real_range: Least width of the range, in the tensor's unit.

    Returns:
        Scale and zero point, both of shape (). A range of nothing but 0 has scale `1 / (qmax - qmin)`.

    Raises:
        RangeError: The range is not one per tensor, or so narrow that the scale is 0 in its type.

    Example:
        >>> from quantlab.arrays import UINT8
        >>> grid = restricted_qparams(Range(np.float32(-1), np.float32(3)), QuantSpec(dtype=UINT8))
        >>> float(grid.scale), int(grid.zero_point)
        (0.023622047156095505, 128)
    """
    if values.lo.shape != () or not spec.fits(()):
        raise RangeError(f"a restricted zero point needs a range per tensor, got one of shape {values.lo.shape}")
    span, middle = spec.qmax - spec.qmin, (spec.qmin + spec.qmax + 1) // 2
    lo, hi = min(float(values.lo), 0.0), max(float(values.hi), 0.0)
    least = min_real_range or 0.0
    if least > 0:
        hi = max(hi, lo + least)
    if lo >= 0:
        zero, scale = spec.qmin, (hi or 1.0) / span
    else:
        zero, scale = middle, max(-lo / (middle - spec.qmin), hi / (spec.qmax - middle))
    scale = max(scale, least / span)
    return QParams(scale=np.asarray(scale, values.dtype), zero_point=np.asarray(zero), spec=spec)
