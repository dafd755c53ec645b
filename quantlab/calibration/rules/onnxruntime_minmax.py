"""The min-max rule of onnxruntime.quantization 1.31.1, bit for bit, its averages and its lost samples included.

    otherwise             lo = min of the samples' minima         hi = max of their maxima
    moving_average        lo = mean of the samples' minima        hi = mean of their maxima
    symmetric             both are then widened to [-a, a], a = max(|lo|, |hi|)

With a stride s this is done for each s samples, as `CalibStridedMinMax` does, and their results are joined in turn:
by min and max, or by m + c (new - m) where there is a moving average, the only place where its constant c acts. Means
and joins are in the type of the data. `max_intermediate_outputs` = k empties the peer's buffer, unread, whenever it
holds k samples: what counts is the rest, the last (samples modulo k) of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.batch_ends import BatchEnds
from quantlab.calibration.channels import PerChannelMinMax
from quantlab.calibration.rule import calibrators, provenance, require_flag, require_values
from quantlab.calibration.rules.minmax import MinMaxRule
from quantlab.calibration.statistic import FloatArray, MinMax, Statistic
from quantlab.errors import DataError, OptionError

Ends = tuple[FloatArray, FloatArray]

# The peer reduces every axis but this one.
CHANNELS = 1


@calibrators.register("onnxruntime_minmax")
@dataclass(frozen=True, kw_only=True)
class OnnxruntimeMinMaxRule:
    """Take the ends that onnxruntime's `MinMaxCalibrater` takes.

    Attributes:
        symmetric: Widen the range until it mirrors at zero.
        moving_average: Take the mean of the samples' ends.
        averaging_constant: From 0 to 1; how much each stride after the first moves the average.
        max_intermediate_outputs: The peer forgets this many samples at a time; None for none.
        per_channel: Watch each channel along axis 1 on its own.
        stride: Samples in one call of `collect_data`; None for all.

    Raises:
        OptionError: An option is out of its limits, or two exclude each other.

    Example:
        >>> from quantlab.arrays import INT8
        >>> rule = OnnxruntimeMinMaxRule(moving_average=True)
        >>> seen = rule.empty().update(np.array([-1, 2], np.float32)).update(np.array([-2, 3], np.float32))
        >>> rule.range(seen, QuantSpec(dtype=INT8))
        Range(lo=array(-1.5), hi=array(2.5))
    """

    symmetric: bool = False
    moving_average: bool = False
    averaging_constant: float = 0.01
    max_intermediate_outputs: int | None = None
    per_channel: bool = False
    stride: int | None = None

    def __post_init__(self) -> None:
        for name in ("symmetric", "moving_average", "per_channel"):
            require_flag(name, getattr(self, name))
        for name in ("max_intermediate_outputs", "stride"):
            given = getattr(self, name)
            if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
                raise OptionError(f"{name} must be an integer of at least 1 or none, got {given!r}")
        constant = self.averaging_constant
        if isinstance(constant, bool) or not isinstance(constant, int | float) or not 0 <= constant <= 1:
            raise OptionError(f"averaging_constant must be a number from 0 to 1, got {constant!r}")
        if self.per_channel and self.stride is not None:
            raise OptionError("per_channel and stride exclude each other: onnxruntime joins strides per tensor only")

    @property
    def _by_sample(self) -> bool:
        return self.moving_average or self.max_intermediate_outputs is not None

    def empty(self) -> MinMax | PerChannelMinMax | BatchEnds:
        """Return an empty `BatchEnds` where single samples matter, else `MinMax` or `PerChannelMinMax`."""
        axis = CHANNELS if self.per_channel else None
        return BatchEnds(axis=axis) if self._by_sample else self._plain().empty()

    def _plain(self) -> MinMaxRule:
        return MinMaxRule(axis=CHANNELS if self.per_channel else None, symmetric=self.symmetric)

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the peer's ends.

        Args:
            seen: The statistic that `empty` gives, with at least one finite value; each update is one sample.
            spec: The grid to come. One per channel of axis 1 gets a range for each channel, one per tensor the ends
                of all.

        Returns:
            Float64 ends of shape (), or (C,) for a grid per channel.

        Raises:
            DataError: No finite value was seen, the samples are no multiple of the stride, or the peer has forgotten
                them all.
            OptionError: The statistic is of another kind.
        """
        if not self._by_sample:
            return self._plain().range(seen, spec)
        if not isinstance(seen, BatchEnds):
            raise OptionError(
                f"range rule 'onnxruntime_minmax' with moving_average={self.moving_average} and "
                f"max_intermediate_outputs={self.max_intermediate_outputs} needs BatchEnds, got a "
                f"{type(seen).__name__}; collect the statistic that the rule's empty() gives"
            )
        require_values(seen)
        lo, hi = (end.astype(np.float64) + 0.0 for end in self._joined(seen))
        return Range(lo, hi) if spec.axis == seen.axis == CHANNELS else Range(lo.min(), hi.max())

    def _joined(self, seen: BatchEnds) -> Ends:
        """Return the ends of all strides, of shape (C,) in the type of the data."""
        samples = len(seen.los)
        stride = self.stride or samples
        if samples % stride:
            raise DataError(f"{samples} samples cannot be cut into strides of {stride}: onnxruntime refuses them too")
        found: Ends | None = None
        for start in range(0, samples, stride):
            new = self._of_stride(seen.los[start : start + stride], seen.his[start : start + stride])
            if new is not None:
                found = new if found is None else self._step(found, new)
            elif found is None:
                raise DataError(
                    f"of {stride} samples none is left with max_intermediate_outputs={self.max_intermediate_outputs}: "
                    "onnxruntime drops so many at a time, and fails with 'No data is collected'; leave the option out"
                )
        if found is None:
            raise DataError("no sample had a finite value; give calibration data that reaches this tensor")
        return found

    def _of_stride(self, los: FloatArray, his: FloatArray) -> Ends | None:
        dropped = len(los) - len(los) % self.max_intermediate_outputs if self.max_intermediate_outputs else 0
        los, his = los[dropped:], his[dropped:]
        if not len(los):
            return None
        # The mean of NumPy on arrays of these shapes adds in the order in which the peer's adds.
        lo, hi = (np.nanmean(los, axis=0), np.nanmean(his, axis=0)) if self.moving_average else (los.min(0), his.max(0))
        if not self.symmetric:
            return lo, hi
        largest = np.maximum(np.abs(lo), np.abs(hi))
        return -largest, largest

    def _step(self, old: Ends, new: Ends) -> Ends:
        if self.moving_average:
            lo, hi = (a + self.averaging_constant * (b - a) for a, b in zip(old, new, strict=True))
            return lo, hi
        return np.minimum(old[0], new[0]), np.maximum(old[1], new[1])

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about; arguments and errors as for `range`."""
        chosen = self.range(seen, spec)
        how = f"onnxruntime_minmax of {seen.count:,} values"
        if isinstance(seen, BatchEnds):
            how += f" in {len(seen.los):,} samples" + (", mean of their ends" if self.moving_average else "")
        return provenance(how, Range(chosen.lo.min(), chosen.hi.max()), seen)
