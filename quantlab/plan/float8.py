"""Numbers of float8 grids: a scale for each range, and ranges of constants by their deviation.

    scale = max(|lo|, |hi|) / largest level             the range of a measured tensor, or of a constant by its ends
    scale = std(values) / std(levels)                   a constant by its deviation, range = +-scale * largest level

Source of the second: onnxruntime.quantization 1.31.1, `compute_scale_zp_float8`; same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QParams, QuantSpec, Range, float8_levels, qparams_from_range


def float8_qparams(values: Range, spec: QuantSpec, kind: str, min_real_range: float | None = None) -> QParams:
    """Return the grid whose largest level lies at the end of a range.

    Args:
        values: Range of shape () or (C,), in float64 where its scale shall come out to the last bit.
        spec: The grid, of a float8 type.
        kind: Floating-point type of the tensor, and so of the scale.
        min_real_range: Least width of the range.

    Returns:
        Scale and zero point 0; scale 1 where the range has no width.

    Example:
        >>> from quantlab.arrays import FLOAT8E4M3FN
        >>> spec = QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True)
        >>> float8_qparams(Range(np.float32(-1), np.float32(896)), spec, "float32").scale
        array(2., dtype=float32)
    """
    wide = qparams_from_range(values, spec, min_real_range=min_real_range)
    scale = np.minimum(wide.scale, np.finfo(kind).max).astype(kind)
    return QParams(scale=np.where(scale > 0, scale, scale.dtype.type(1)), zero_point=wide.zero_point, spec=spec)


def deviation_range(values: npt.NDArray[Any], spec: QuantSpec) -> Range:
    """Return the range of a constant, or of each of its channels, whose levels deviate as its values do.

    Values that are all equal do not deviate; theirs is the range that holds them.

    Args:
        values: Float array of any shape.
        spec: The grid, of a float8 type, without blocks.

    Returns:
        Float64 range of shape () or (C,).

    Raises:
        RangeError: The array contains NaN or infinity.

    Example:
        >>> from quantlab.arrays import FLOAT8E4M3FN
        >>> spec = QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True)
        >>> round(float(deviation_range(np.array([-1, 1], np.float32), spec).hi), 4)
        4.4774
    """
    levels = float8_levels(spec.dtype)
    parts = [values] if spec.axis is None else [values.take(i, spec.axis) for i in range(values.shape[spec.axis])]
    ends = []
    for part in parts:
        with np.errstate(all="ignore"):
            scale = float((np.std(part.ravel()) / np.std(levels)).astype(values.dtype)) if part.size else 0.0
        largest = float(np.abs(part).max(initial=0))
        ends.append(scale * spec.qmax if scale > 0 or not np.isfinite(largest) else largest)
    high = np.array(ends if spec.axis is not None else ends[0], np.float64)
    return Range(-high, high)
