"""An observer belongs to one tensor: arrays pass through it, and it knows the tensor's grid afterwards.

It is a range rule, the statistic that the rule needs, and the grid to come, held together for those who run a network
by themselves; `quantlab.observe` attaches observers to the tensors of an ONNX model. What the field calls them:

    min_max_observer                             rule minmax
    moving_average_min_max_observer              rule moving_average, m <- m + c (new - m)
    histogram_observer                           rule mse: the range of least squared error on a histogram
    per_channel_min_max_observer                 rule minmax, for each channel of the grid's axis
    moving_average_per_channel_min_max_observer  rule moving_average, for each channel of the grid's axis

Source: the observers of PyTorch's `torch.ao.quantization.observer`, whose names these are in small letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QParams, QuantSpec, Range, qparams_from_range, stack_ranges
from quantlab.calibration.gather import Gatherer, gatherer
from quantlab.calibration.rule import RangeRule, TwoPassRule, calibrator
from quantlab.calibration.statistic import FloatArray, checked
from quantlab.errors import DataError, OptionError


class Observer(Protocol):
    """What every observer can do."""

    def observe(self, x: FloatArray) -> FloatArray:
        """Take in one more array of the tensor, and return it as it is."""
        ...

    def qparams(self) -> QParams:
        """Return the tensor's grid from all that was observed."""
        ...


class RuleObserver:
    """Observes for a range rule.

    Args:
        rule: Registered name such as `"percentile"`, or a rule.
        spec: The grid to come. With an axis, the rule is applied to each channel on its own.
        options: Values for fields of the named rule.

    Raises:
        OptionError: There is no such rule or option, the rule reads its data twice, or the grid is one of blocks.

    Example:
        >>> from quantlab.arrays import INT8
        >>> observer = RuleObserver("minmax", QuantSpec(dtype=INT8, symmetric=True))
        >>> for x in (np.array([1.0, -2.54]), np.array([0.5, 2.0])):
        ...     x = observer.observe(x)
        >>> observer.range(), f"{observer.qparams().scale:.4f}"
        (Range(lo=array(-2.54), hi=array(2.)), '0.0199')
    """

    def __init__(self, rule: str | RangeRule, spec: QuantSpec, options: Mapping[str, object] | None = None) -> None:
        self.rule = calibrator(rule, options)
        self.spec = spec
        if isinstance(self.rule, TwoPassRule):
            raise OptionError(f"{self.rule!r} reads its data twice, and an observer sees it once; take another rule")
        if spec.block_size is not None:
            raise OptionError(f"an observer takes a grid per tensor or per channel, got {spec}; drop block_size")
        self._seen: list[Gatherer] = [] if spec.per_channel else [gatherer(self.rule.empty())]

    def observe(self, x: FloatArray) -> FloatArray:
        """Take in one more array.

        Args:
            x: Float16, float32 or float64 array; for a grid per channel, with the same C entries along its axis.

        Returns:
            The same array.

        Raises:
            DataError: The array has another type, no such axis, or another number of channels.
        """
        x = checked(x)
        if self.spec.axis is None:
            self._seen[0].add(x)
            return x
        if not -x.ndim <= self.spec.axis < x.ndim:
            raise DataError(f"an array of shape {x.shape} has no axis {self.spec.axis} to take channels from")
        channels = np.moveaxis(x, self.spec.axis, 0)
        if not self._seen:
            self._seen = [gatherer(self.rule.empty()) for _ in channels]
        if len(channels) != len(self._seen):
            raise DataError(
                f"channels along axis {self.spec.axis}: {len(channels)} in one array, {len(self._seen)} in those "
                "before; choose an axis whose length is fixed"
            )
        for seen, channel in zip(self._seen, channels, strict=True):
            seen.add(channel)
        return x

    def range(self) -> Range:
        """Return the range that the rule takes.

        Returns:
            Float64 ends of shape (), or (C,) for a grid per channel.

        Raises:
            DataError: No finite value was observed.
        """
        if not self._seen:
            raise DataError("nothing was observed yet, so there is no range; call observe with the tensor's arrays")
        grid = replace(self.spec, axis=None)
        found = [self.rule.range(seen.result(), grid) for seen in self._seen]
        return stack_ranges(found) if self.spec.per_channel else found[0]

    def qparams(self) -> QParams:
        """Return the grid: float32 scales and zero points of shape (), or (C,).

        Raises:
            DataError: No finite value was observed.
        """
        values = self.range()
        return qparams_from_range(Range(values.lo.astype(np.float32), values.hi.astype(np.float32)), self.spec)


def min_max_observer(spec: QuantSpec) -> RuleObserver:
    """Return an observer of the smallest and the largest value of a tensor."""
    return RuleObserver("minmax", _of_the_tensor(spec, "min_max_observer"))


def moving_average_min_max_observer(spec: QuantSpec, averaging_constant: float = 0.01) -> RuleObserver:
    """Return an observer of the ends of the batches, each new batch weighing `averaging_constant`."""
    spec = _of_the_tensor(spec, "moving_average_min_max_observer")
    return RuleObserver("moving_average", spec, {"constant": averaging_constant})


def histogram_observer(spec: QuantSpec) -> RuleObserver:
    """Return an observer that takes the range of least squared error."""
    return RuleObserver("mse", _of_the_tensor(spec, "histogram_observer"))


def per_channel_min_max_observer(spec: QuantSpec) -> RuleObserver:
    """Return an observer of the smallest and the largest value of each channel."""
    return RuleObserver("minmax", _of_channels(spec, "min_max_observer"))


def moving_average_per_channel_min_max_observer(spec: QuantSpec, averaging_constant: float = 0.01) -> RuleObserver:
    """Return an observer of each channel's ends of the batches, each new batch weighing `averaging_constant`."""
    spec = _of_channels(spec, "moving_average_min_max_observer")
    return RuleObserver("moving_average", spec, {"constant": averaging_constant})


def _of_the_tensor(spec: QuantSpec, name: str) -> QuantSpec:
    if spec.axis is not None:
        raise OptionError(f"{name} takes a grid for the whole tensor, got {spec}; drop the axis")
    return spec


def _of_channels(spec: QuantSpec, tensor_name: str) -> QuantSpec:
    if not spec.per_channel:
        raise OptionError(f"an observer per channel takes a grid with an axis, got {spec}; or take {tensor_name}")
    return spec


class FixedQParamsObserver:
    """Knows the grid beforehand, as that of a Sigmoid or a Softmax: scale 1/256, zero point 0 for uint8.

    Args:
        fixed: The grid.
    """

    def __init__(self, fixed: QParams) -> None:
        self.fixed = fixed

    def observe(self, x: FloatArray) -> FloatArray:
        """Return the array; there is nothing to learn from it."""
        return x

    def qparams(self) -> QParams:
        """Return the grid that was given."""
        return self.fixed


class NoopObserver:
    """Stands where an observer is wanted and nothing is to be quantized; also called a placeholder."""

    def observe(self, x: FloatArray) -> FloatArray:
        """Return the array."""
        return x

    def qparams(self) -> QParams:
        """Refuse.

        Raises:
            OptionError: Always; there is no grid.
        """
        raise OptionError("a NoopObserver has no grid: its tensor stays as it is")


class RecordingObserver:
    """Keeps a copy of every array, for looking at; its memory grows with the data.

    Attributes:
        arrays: What was observed, in order.
    """

    def __init__(self) -> None:
        self.arrays: list[npt.NDArray[Any]] = []

    def observe(self, x: FloatArray) -> FloatArray:
        """Keep a copy of the array, and return the array."""
        self.arrays.append(np.array(x))
        return x

    def qparams(self) -> QParams:
        """Refuse.

        Raises:
            OptionError: Always; there is no grid.
        """
        raise OptionError("a RecordingObserver keeps arrays and has no grid; give its .arrays to another observer")


class ReuseInputObserver:
    """Takes the grid of another tensor, for operators that only move values, such as Reshape.

    Args:
        source: Observer of the operator's input.
    """

    def __init__(self, source: Observer) -> None:
        self.source = source

    def observe(self, x: FloatArray) -> FloatArray:
        """Return the array; the input's observer has seen its values."""
        return x

    def qparams(self) -> QParams:
        """Return the grid of the input."""
        return self.source.qparams()
