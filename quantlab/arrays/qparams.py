"""From a closed range of real numbers to a scale and a zero point.

With a grid `qmin..qmax` and a range `[lo, hi]` widened to contain 0:

    affine (asymmetric)   scale = (hi - lo) / (qmax - qmin)     zero_point = rint(qmin - lo / scale)
    symmetric             lo, hi = -a, a with a = max(|lo|, |hi|); zero_point = rint((qmin + qmax) / 2)

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 2.1; the order and precision of every step are those of onnxruntime.quantization 1.31.1
(`quant_utils.compute_scale_zp`), so that both numbers agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quantlab.arrays.dtypes import DType
from quantlab.arrays.spec import QuantSpec
from quantlab.errors import RangeError

Array = npt.NDArray[Any]
Degenerate = Literal["natural", "onnxruntime"]


# A model may have tens of thousands of grids of one number each, and NumPy takes ten times as long for one number as
# Python does: the checks below look at single numbers first.

_SMALLEST_NORMAL = {np.dtype(kind): float(np.finfo(kind).tiny) for kind in (np.float16, np.float32, np.float64)}
"""The types that ranges and scales may have; below these numbers they lose precision."""


def _frozen(array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Array:
    copy = np.array(array, dtype=dtype)
    copy.setflags(write=False)
    return copy


def _all(good: npt.NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(good) == good.size)


def _place(index: int, shape: tuple[int, ...]) -> str:
    """Name one element of a range or scale."""
    if len(shape) < 2:
        return f"channel {index}"
    return f"block ({', '.join(str(int(i)) for i in np.unravel_index(index, shape))})"


@dataclass(frozen=True, eq=False)
class Range:
    """The closed range `[lo, hi]` of a tensor, or one for each channel or block.

    Invariants:
        * `lo` and `hi` are read-only float16, float32 or float64 arrays of one type and shape: (), (C,), or that of
          the blocks.
        * Both are finite and `lo <= hi` everywhere.

    Raises:
        RangeError: An end is NaN or infinite, or `lo > hi`; the text names the channel or block.
    """

    lo: Array
    hi: Array

    def __post_init__(self) -> None:
        lo, hi = np.asarray(self.lo), np.asarray(self.hi)
        common = lo.dtype if lo.dtype == hi.dtype else np.result_type(lo, hi)
        if common not in _SMALLEST_NORMAL:
            common = np.dtype(np.float64)
        lo, hi = _frozen(lo, common), _frozen(hi, common)
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)
        if lo.shape != hi.shape:
            raise RangeError(f"a range needs two ends of one shape, got {lo.shape} and {hi.shape}")
        if lo.ndim == 0 and -inf < lo.item() <= hi.item() < inf:
            return
        good = np.isfinite(lo) & np.isfinite(hi) & (lo <= hi)
        if not _all(good):
            bad = np.flatnonzero(~good)
            where = f" of {_place(bad[0], lo.shape)}" if lo.ndim else ""
            ends = f"[{np.ravel(lo)[bad[0]]}, {np.ravel(hi)[bad[0]]}]"
            raise RangeError(f"range {ends}{where} must be finite with its lower end first")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Floating-point type of both ends."""
        return self.lo.dtype

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Range):
            return NotImplemented
        return np.array_equal(self.lo, other.lo) and np.array_equal(self.hi, other.hi)

    def __hash__(self) -> int:
        return hash((self.lo.tobytes(), self.hi.tobytes()))

    def astype(self, dtype: npt.DTypeLike) -> Range:
        """Return the range with both ends rounded to another floating-point type."""
        return self if dtype == self.dtype else Range(self.lo.astype(dtype), self.hi.astype(dtype))


@dataclass(frozen=True, eq=False, kw_only=True)
class QParams:
    """A grid with its numbers: real value = scale * (integer - zero_point).

    Invariants:
        * `scale` is a read-only float array, positive and finite, of shape (), (C,), or that of the blocks
          (`quantlab.arrays.block_shape`).
        * `zero_point` has the same shape, the storage type of `spec.dtype`, and lies within the type's limits.
        * `spec.fits(scale.shape)`.

    Raises:
        RangeError: One of these does not hold; the text names the offending value and channel or block.
    """

    scale: Array
    zero_point: Array
    spec: QuantSpec

    def __post_init__(self) -> None:
        scale = _frozen(self.scale)
        raw = np.asarray(self.zero_point)
        if scale.dtype not in _SMALLEST_NORMAL:
            raise RangeError(f"a scale must be a float array, got {scale.dtype}")
        if scale.shape != raw.shape or not self.spec.fits(scale.shape):
            wanted = "vectors of one length" if self.spec.per_channel else "scalars"
            wanted = wanted if self.spec.block_size is None else "arrays of one shape with that axis"
            raise RangeError(f"scale {scale.shape} and zero point {raw.shape} must both be {wanted} for {self.spec}")
        _check_numbers(scale, raw, self.spec.dtype)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", _frozen(raw, self.spec.dtype.storage))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QParams):
            return NotImplemented
        return (
            self.spec == other.spec
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def __hash__(self) -> int:
        return hash((self.scale.tobytes(), self.zero_point.tobytes(), self.spec))

    def span(self) -> Range:
        """Return the smallest and largest real values that the type can represent, one pair a channel or block."""
        zero = self.zero_point.astype(np.float64)
        scale = self.scale.astype(np.float64)
        return Range((self.spec.dtype.qmin - zero) * scale, (self.spec.dtype.qmax - zero) * scale)


def _check_numbers(scale: Array, raw: Array, limits: DType) -> None:
    if not limits.is_float and scale.ndim == 0 and 0 < scale.item() < inf and limits.qmin <= raw.item() <= limits.qmax:
        return
    good = np.isfinite(scale) & (scale > 0)
    if not _all(good):
        bad = np.flatnonzero(~good)
        value, place = np.ravel(scale)[bad[0]], _place(bad[0], scale.shape)
        raise RangeError(f"scale {value} ({place}) must be positive and finite")
    good = (raw >= limits.qmin) & (raw <= limits.qmax)
    if not _all(good):
        bad = np.flatnonzero(~good)
        value, place = np.ravel(raw)[bad[0]], _place(bad[0], raw.shape)
        raise RangeError(f"zero point {value} ({place}) must lie in {limits.qmin}..{limits.qmax}")
    if limits.is_float and raw.any():
        raise RangeError(f"a grid of {limits} has no zero point: give 0, got {np.ravel(raw)[np.ravel(raw) != 0][0]}")


def include_zero(values: Range, min_real_range: float | None = None) -> Range:
    """Widen a range so that it contains 0, and optionally so that it has a least width.

    Args:
        values: Range of any shape.
        min_real_range: Least width in the tensor's own unit; the upper end moves up to reach it.

    Returns:
        The widened range, in the type of `values`.
    """
    return Range(*_around_zero(values, min_real_range))


def _around_zero(values: Range, min_real_range: float | None) -> tuple[Array, Array]:
    kind = values.dtype.type
    lo = np.minimum(values.lo, kind(0))
    hi = np.maximum(values.hi, kind(0))
    if min_real_range is not None:
        hi = np.maximum(hi, lo + kind(min_real_range))
    return lo, hi


def qparams_from_range(
    values: Range,
    spec: QuantSpec,
    *,
    min_real_range: float | None = None,
    degenerate: Degenerate = "natural",
) -> QParams:
    """Compute scale and zero point of a grid that spans a range.

    Args:
        values: Range of shape () for a grid per tensor, (C,) for one per channel, or that of the blocks, as
            `quantlab.arrays.block_range` gives. Its type becomes the scale's type.
        spec: The grid.
        min_real_range: Least width of the range, in the tensor's own unit.
        degenerate: What a range too narrow for any scale gets (an all-zero tensor). Both choices take scale 1.
            `"natural"` follows the formula with that scale, so that a symmetric grid keeps its zero point in the middle
            and a range that starts at 0 keeps its zero point at qmin; `"onnxruntime"` gives zero point 0 whatever the
            grid, and calls float16 ranges degenerate up to 6.1e-05 per step.

    Returns:
        Scale (type of the range) and zero point, both of the range's shape.

    Raises:
        RangeError: The shape of the range does not fit the granularity of the grid.

    Example:
        >>> from quantlab.arrays.dtypes import UINT8
        >>> grid = qparams_from_range(Range(np.float32(-1), np.float32(3)), QuantSpec(dtype=UINT8))
        >>> float(grid.scale), int(grid.zero_point)
        (0.01568627543747425, 64)
    """
    if not spec.fits(values.lo.shape):
        raise RangeError(f"a range of shape {values.lo.shape} does not fit a grid that is {spec}")
    lo, hi = _around_zero(values, min_real_range)
    if spec.symmetric:
        hi = np.maximum(np.abs(lo), np.abs(hi))
        lo = -hi
    lo64, hi64 = lo.astype(np.float64), hi.astype(np.float64)
    with np.errstate(over="ignore"):  # only float64 ranges can; QParams refuses the infinite scale
        step = (hi64 - lo64) / np.float64(spec.qmax - spec.qmin)
    scale = _round_step(step, values.dtype, degenerate)
    tiny = scale == 0
    if too_narrow := np.count_nonzero(tiny):
        step, scale = np.where(tiny, 1.0, step), np.where(tiny, values.dtype.type(1), scale)
    if spec.symmetric:
        zero_point = np.full(step.shape, round((spec.qmin + spec.qmax) / 2))
    else:
        zero_point = np.rint(spec.qmin - lo64 / step)
    if too_narrow and degenerate == "onnxruntime":
        zero_point = np.where(tiny, 0.0, zero_point)
    return QParams(scale=scale, zero_point=zero_point.astype(np.int64), spec=spec)


def _round_step(step: Array, dtype: np.dtype[Any], degenerate: Degenerate) -> Array:
    """Round a float64 step to the scale's type; 0 marks a range that is too narrow for a scale."""
    smallest = _SMALLEST_NORMAL[dtype]
    if dtype == np.float16 and degenerate == "natural":
        # float16 has few normal numbers below 6.1e-05: the subnormal ones are used too, rounded up so as not to clip.
        scale = step.astype(dtype)
        short = (scale < step) & (step < smallest)
        return np.where(short, np.nextafter(scale, dtype.type(np.inf)), scale)
    return np.asarray((step * (step >= smallest)).astype(dtype))


def stack_ranges(ranges: Sequence[Range]) -> Range:
    """Join scalar ranges into one range with a channel each, of shape (C,)."""
    return Range(np.stack([r.lo for r in ranges]), np.stack([r.hi for r in ranges]))
