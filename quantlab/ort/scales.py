"""Scales and zero points under the peer's names: its arguments go in, its arrays come out, our formulas are between.

The numbers are those of onnxruntime.quantization 1.31.1 (`quant_utils.py`) to the bit, except where they are wrong.
There the right ones are given, with a `QuantlabWarning` that says what the peer gives:

    float16 ranges below 6.1e-05 a step     the peer takes scale 1, at which every value becomes 0
    symmetric grids of an all-zero range    the peer takes zero point 0 where all others have the middle
    spans of signed types                   the peer computes 127 - (-128) in int8, which is -1
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import (
    FLOAT8E4M3FN,
    INT32,
    DType,
    QuantSpec,
    Range,
    block_range,
    float8_levels,
    qparams_from_range,
)
from quantlab.arrays.qparams import Array
from quantlab.errors import OptionError, QuantlabWarning, RangeError
from quantlab.ort.kinds import numpy_type, row_of


def warn(text: str) -> None:
    """Tell whoever called the public function that a number differs from the peer's."""
    warnings.warn(text, QuantlabWarning, stacklevel=3)


def spec_of(code: int, *, symmetric: bool = False, reduce_range: bool = False) -> QuantSpec:
    """Return the grid that the peer means by a type and two flags; a reduced range wins over a mirrored one.

    Raises:
        OptionError: The type is unknown or float8, which has no span of integers.
    """
    row = row_of(code)
    if row.is_float:
        raise OptionError(f"{row} has no span of integers: its scale comes from compute_scale_zp_float8")
    narrow = symmetric and not reduce_range and row.signed and row.bits > 4
    return QuantSpec(dtype=row, symmetric=symmetric, narrow_range=narrow, reduce_range=reduce_range)


def get_qmin_qmax_for_qType(  # the peer's spelling
    qType: int,
    reduce_range: bool = False,
    symmetric: bool = False,
) -> tuple[Array, Array]:
    """Return the ends of the integers that a range is spread over.

    Args:
        qType: `onnx.TensorProto.DataType`.
        reduce_range: Give one bit away.
        symmetric: Leave out the most negative value of int8 and int16.

    Returns:
        Arrays of shape () in the type itself.

    Raises:
        OptionError: The type is unknown, or float8; it is a ValueError too.

    Example:
        >>> low, high = get_qmin_qmax_for_qType(3, symmetric=True)
        >>> int(low), int(high)
        (-127, 127)
    """
    spec, kind = spec_of(qType, symmetric=symmetric, reduce_range=reduce_range), numpy_type(qType)
    return np.array(spec.qmin, dtype=kind), np.array(spec.qmax, dtype=kind)


def get_qrange_for_qType(  # the peer's spelling
    qType: int,
    reduce_range: bool = False,
    symmetric: bool = False,
) -> Any:
    """Return how many steps lie between the two ends.

    Args:
        qType: `onnx.TensorProto.DataType`.
        reduce_range: Give one bit away.
        symmetric: Leave out the most negative value of int8 and int16.

    Returns:
        A NumPy scalar: of the type itself where the number fits into it, else int32.

    Raises:
        OptionError: The type is unknown, or float8.
    """
    low, high = get_qmin_qmax_for_qType(qType, reduce_range, symmetric)
    steps, theirs = int(high) - int(low), high - low
    if int(theirs) == steps:
        return theirs
    warn(f"{row_of(qType)} has {steps} steps between {low} and {high}; the peer's difference overflows to {theirs}")
    return np.int32(steps)


def _grid_type(low: int, high: int) -> DType:
    """Return a type whose limits are those given, since the peer leaves them to the caller."""
    return replace(INT32, name=f"integers {low}..{high}", qmin=low, qmax=high)


def compute_scale_zp(
    rmin: npt.ArrayLike,
    rmax: npt.ArrayLike,
    qmin: npt.ArrayLike,
    qmax: npt.ArrayLike,
    symmetric: bool = False,
    min_real_range: float | None = None,
) -> list[Array]:
    """Compute zero point and scale of a grid `qmin..qmax` that spans a range and zero.

    Args:
        rmin: Lower end of the range, shape ().
        rmax: Upper end; its type becomes the scale's.
        qmin: Smallest integer, at most 0; its type becomes the zero point's.
        qmax: Largest integer, at least 0.
        symmetric: Spread the range evenly around zero.
        min_real_range: Least width of the range.

    Returns:
        `[zero_point, scale]`, arrays of shape ().

    Raises:
        OptionError: Zero is not between `qmin` and `qmax`; it is a ValueError too.
        RangeError: An end is NaN or infinite; it is a ValueError too.

    Example:
        >>> zero_point, scale = compute_scale_zp(np.float32(-1), np.float32(3), np.uint8(0), np.uint8(255))
        >>> int(zero_point), float(scale)
        (64, 0.01568627543747425)
    """
    low, high, lo, hi = np.asarray(qmin), np.asarray(qmax), np.asarray(rmin), np.asarray(rmax)
    if int(low) > 0 or int(high) < 0:
        raise OptionError(f"a grid from {low} to {high} has no integer for 0: give qmin <= 0 <= qmax")
    spec = QuantSpec(dtype=_grid_type(int(low), int(high)), symmetric=symmetric)
    # The peer takes ends in any order that zero puts right, such as [5, 3] for [0, 3].
    values = Range(np.minimum(lo, lo.dtype.type(0)), np.maximum(hi, hi.dtype.type(0)))
    peers = qparams_from_range(values, spec, min_real_range=min_real_range, degenerate="onnxruntime")
    right = qparams_from_range(values, spec, min_real_range=min_real_range)
    if peers.scale != right.scale:
        warn(f"range [{lo}, {hi}] in float16 gets scale {right.scale}; the peer takes 1, which makes every value 0")
        peers = right
    elif symmetric and peers.zero_point != right.zero_point:
        warn(f"a symmetric grid {low}..{high} keeps zero point {right.zero_point} for all zeros; the peer takes 0")
        peers = right
    return [np.array(int(peers.zero_point), dtype=low.dtype), np.array(peers.scale, dtype=hi.dtype)]


def snap_zero_point_to_uint8(
    rmin: npt.ArrayLike,
    rmax: npt.ArrayLike,
    qmin: int = 0,
    qmax: int = 255,
    min_real_range: float | None = None,
) -> tuple[Array, Array]:
    """Put the zero point at `qmin` for a range without negative values, else in the middle, and cover the range.

    Args:
        rmin: Lower end of the range.
        rmax: Upper end.
        qmin: Smallest integer.
        qmax: Largest integer.
        min_real_range: Least width of the range, and least scale times `qmax - qmin`.

    Returns:
        Zero point (uint8) and scale (float32), arrays of shape ().

    Raises:
        RangeError: An end is NaN or infinite.

    Example:
        >>> zero_point, scale = snap_zero_point_to_uint8(-1.0, 2.54)
        >>> int(zero_point), round(float(scale), 6)
        (128, 0.02)
    """
    lo, hi = (float(np.squeeze(np.asarray(end))) for end in (rmin, rmax))
    if not (np.isfinite(lo) and np.isfinite(hi)):
        raise RangeError(f"range [{lo}, {hi}] must be finite")
    lo, hi, width = min(lo, 0.0), max(hi, 0.0), min_real_range or 0.0
    if width > 0:
        hi = max(hi, lo + width)
    middle = (int(qmin) + int(qmax) + 1) // 2
    zero = int(qmin) if lo >= 0 else middle
    step = hi / (qmax - zero) if lo >= 0 else max(-lo / (middle - qmin), hi / (qmax - middle))
    scale = np.float32(step if hi > lo else 1.0 / (qmax - qmin))
    least = width / (qmax - qmin)
    scale = np.float32(least) if float(scale) < least else scale
    if scale == 0:
        scale = np.float32(1.0 / (qmax - qmin))
        warn(f"range [{lo}, {hi}] is too narrow for a float32 scale and is taken for zeros; the peer takes scale 0")
    return np.array(zero, dtype=np.uint8), np.array(scale)


def compute_scale_zp_float8(element_type: int, std: Any) -> list[Array]:
    """Compute the scale that gives values the deviation of the float8 type's own levels.

    Args:
        element_type: `onnx.TensorProto.FLOAT8E4M3FN`.
        std: Deviation of the values, a NumPy scalar; its type becomes the scale's.

    Returns:
        `[zero_point, scale]`, arrays of shape (); the zero point is 0.

    Raises:
        OptionError: The type is another.
        RangeError: The deviation is NaN, infinite or negative.
    """
    if element_type != FLOAT8E4M3FN.onnx_code:
        raise OptionError(f"float8 scales are there for {FLOAT8E4M3FN} ({FLOAT8E4M3FN.onnx_code}), got {element_type}")
    std = np.asarray(std)
    if not np.isfinite(std) or std < 0:
        raise RangeError(f"the deviation of the values must be finite and at least 0, got {std}")
    scale = np.array(std / np.std(float8_levels(FLOAT8E4M3FN)), dtype=std.dtype)
    if scale == 0:
        warn(f"values with the deviation {std} get scale 1; the peer takes 0, which makes every value NaN")
        scale = np.array(1, dtype=std.dtype)
    return [np.array(0, dtype=numpy_type(element_type)), scale]


def compute_scale_zp_blocked(
    weight: npt.NDArray[np.floating[Any]], quant_type: int, axis: int, block_size: int, symmetric: bool
) -> tuple[Array, Array]:
    """Compute zero point and scale of every block of neighbours along an axis.

    Args:
        weight: Float array of one dimension or more.
        quant_type: `onnx.TensorProto.DataType`.
        axis: The axis that is cut into blocks.
        block_size: Neighbours that share a scale; the last block may be shorter.
        symmetric: Spread ranges evenly around zero.

    Returns:
        Zero points and scales, of `weight`'s shape with the number of blocks along the axis.

    Raises:
        OptionError: The type is unknown or float8.
        RangeError: The array has NaN or infinity.
        ShapeError: The axis is out of range, or the block size below 1.

    Example:
        >>> zero_points, scales = compute_scale_zp_blocked(np.ones((4, 3), np.float32), 22, 0, 2, True)
        >>> scales.shape
        (2, 3)
    """
    spec, kind = spec_of(quant_type, symmetric=symmetric), numpy_type(quant_type)
    found = block_range(weight, axis, block_size)
    lo, hi = np.minimum(found.lo, weight.dtype.type(0)), np.maximum(found.hi, weight.dtype.type(0))
    if symmetric:
        hi = np.maximum(-lo, hi)
        lo = -hi
    step = _steps(lo, hi, spec)
    scale = np.where(step == 0, 1, step).astype(weight.dtype)
    # The peer divides by the rounded scale here, and by the exact one in compute_scale_zp.
    zero = np.rint(spec.qmin - lo.astype(np.float64) / scale.astype(np.float64))
    zero = np.where(step == 0, 0, np.clip(zero, spec.qmin, spec.qmax))
    if symmetric:
        zero = np.full_like(zero, np.rint((spec.qmin + spec.qmax) / 2.0))
    return zero.astype(kind), scale


def _steps(lo: Array, hi: Array, spec: QuantSpec) -> Array:
    """Return the blocks' scales in the type of the ends; 0 where a block is too narrow to have one."""
    with np.errstate(over="ignore"):
        # The peer subtracts in the type of the weight.
        span = (hi - lo).astype(np.float64)
    wide = np.isinf(span)
    if wide.any():
        warn(f"{wide.sum()} blocks of {lo.dtype} span more than the type holds; the peer's scales there are infinite")
        span = np.where(wide, hi.astype(np.float64) - lo.astype(np.float64), span)
    step = (span / np.float64(spec.qmax - spec.qmin)).astype(lo.dtype)
    small = step < np.finfo(lo.dtype).tiny
    if lo.dtype != np.float16:
        return np.where(small, lo.dtype.type(0), step)
    lost = small & (step > 0)
    if lost.any():
        warn(f"{lost.sum()} blocks of float16 below 6.1e-05 a step keep their scales; the peer makes their values 0")
    return step


def compute_data_quant_params(
    data: npt.NDArray[np.floating[Any]],
    quant_type: int,
    symmetric: bool,
    reduce_range: bool = False,
    min_real_range: float | None = None,
    rmin_override: float | None = None,
    rmax_override: float | None = None,
) -> tuple[Array, Array]:
    """Compute zero point and scale of a constant.

    Args:
        data: Float array of any shape.
        quant_type: `onnx.TensorProto.DataType`.
        symmetric: Spread the range evenly around zero.
        reduce_range: Give one bit away.
        min_real_range: Least width of the range.
        rmin_override: Lower end to take in place of the smallest value.
        rmax_override: Upper end to take in place of the largest value.

    Returns:
        Zero point and scale, arrays of shape ().

    Raises:
        TypeError: `data` is no array.
        OptionError: The type is unknown, or is float8 and shall have a reduced range.
        RangeError: The data has NaN or infinity.
    """
    if not isinstance(data, np.ndarray):
        raise TypeError(f"a weight must be given as an array, not as a {type(data).__name__}")
    row = row_of(quant_type)
    if row.is_float:
        if reduce_range:
            raise OptionError(f"reduce_range is for integers: {row} has one span")
        zero, scale = compute_scale_zp_float8(quant_type, np.std(data) if data.size else data.dtype.type(1))
        return zero, scale if data.size else np.ones_like(scale)
    low, high = get_qmin_qmax_for_qType(quant_type, reduce_range, symmetric)
    if not data.size:
        return np.array(0, dtype=low.dtype), np.array(1, dtype=data.dtype)
    lo = np.array(data.min() if rmin_override is None else rmin_override, dtype=data.dtype)
    hi = np.array(data.max() if rmax_override is None else rmax_override, dtype=data.dtype)
    zero, scale = compute_scale_zp(lo, hi, low, high, symmetric, min_real_range)
    return zero, scale
