"""Calibrators that count values: percentile, entropy, and the distribution that float8 scales are made from.

Histograms and ranges are those of onnxruntime.quantization 1.31.1 (`calibrate.py`) to the bit, from our statistic
`OnnxruntimeHistogram` and our `onnxruntime_*` rules. As there, one call of `collect_data` holds what all its samples
show in memory; `quantize_static` reads its samples twice instead.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import INT8, QuantSpec
from quantlab.calibration import (
    MinMax,
    OnnxruntimeDistributionRule,
    OnnxruntimeEntropyRule,
    OnnxruntimeHistogram,
    OnnxruntimePercentileRule,
)
from quantlab.errors import DataError, OptionError, nearest
from quantlab.ort.calibrators import CalibraterBase
from quantlab.ort.readers import CalibrationDataReader
from quantlab.ort.tensors_data import CalibrationMethod, TensorData, TensorsData

Values = npt.NDArray[Any]
Rule = OnnxruntimePercentileRule | OnnxruntimeEntropyRule | OnnxruntimeDistributionRule

METHODS = {
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
    "distribution": CalibrationMethod.Distribution,
}
_GRID = QuantSpec(dtype=INT8)


class CalibrationDataCollector(metaclass=abc.ABCMeta):
    """Takes in arrays by name, and says at the end what follows from them."""

    @abc.abstractmethod
    def collect(self, name_to_arr: Mapping[str, Any]) -> None:
        """Take in an array, or a list of arrays, of each tensor."""

    @abc.abstractmethod
    def compute_collection_result(self) -> Mapping[str, Any]:
        """Return what follows from all arrays, tensor by tensor."""


class HistogramCollector(CalibrationDataCollector):
    """Keeps a histogram of each tensor.

    Args:
        method: `"entropy"`, `"percentile"` or `"distribution"`.
        symmetric: For percentiles, count absolute values.
        num_bins: Bins of the first histogram; more are added as values grow.
        num_quantized_bins: For entropy, bins that the kept ones are merged into.
        percentile: Share of the values to keep, in percent.
        scenario: For distributions, `"same"` or `"p3"`.

    Raises:
        OptionError: There is no such method, or an option is out of its limits; it is a ValueError too.
    """

    def __init__(
        self, method: str, symmetric: bool, num_bins: int, num_quantized_bins: int, percentile: float, scenario: str
    ) -> None:
        if method not in METHODS:
            raise OptionError(f"unknown method {method!r}{nearest(method, METHODS)} (allowed: {', '.join(METHODS)})")
        self.method = method
        self.symmetric = symmetric
        self.num_bins, self.num_quantized_bins = num_bins, num_quantized_bins
        self.percentile, self.scenario = percentile, scenario
        self.histograms: dict[str, OnnxruntimeHistogram] = {}

    def get_histogram_dict(self) -> dict[str, tuple[Any, ...]]:
        """Return counts, edges, smallest and largest value of each tensor; without `symmetric`, the outer edge too."""
        return {name: _image(seen) for name, seen in self.histograms.items()}

    def collect(self, name_to_arr: Mapping[str, Any]) -> None:
        """Take in an array, or a list of arrays that are counted as one, of each tensor.

        Args:
            name_to_arr: Tensor to values in float16 or float32.

        Raises:
            DataError: The peer's histogram is impossible for these values.
        """
        absolute = self.method == "percentile" and self.symmetric
        self._count(name_to_arr, absolute)

    def collect_value(self, name_to_arr: Mapping[str, Any]) -> None:
        """Take in values, to be counted with their signs; see `collect`."""
        self._count(name_to_arr, absolute=False)

    def collect_absolute_value(self, name_to_arr: Mapping[str, Any]) -> None:
        """Take in values, to be counted without their signs; see `collect`."""
        self._count(name_to_arr, absolute=True)

    def _count(self, name_to_arr: Mapping[str, Any], absolute: bool) -> None:
        empty = OnnxruntimeHistogram(bins=self.num_bins, absolute=absolute)
        for name, given in name_to_arr.items():
            values = np.concatenate([np.ravel(one) for one in given]) if isinstance(given, list) else np.asarray(given)
            self.histograms[name] = self.histograms.get(name, empty).update(values)

    def merge_histogram(
        self, old_histogram: tuple[Any, ...], data_arr: Values, new_min: Any, new_max: Any, new_threshold: Any
    ) -> tuple[Any, ...]:
        """Return a histogram of values with one more array in it.

        Args:
            old_histogram: Counts, edges, smallest and largest value, outer edge.
            data_arr: The array; its ends and largest absolute value are computed anew.
            new_min: Not looked at, like those that follow.
            new_max: See above.
            new_threshold: See above.
        """
        return _image(_seen(old_histogram).update(np.asarray(data_arr)))

    def get_entropy_threshold(self, histogram: tuple[Any, ...], num_quantized_bins: int) -> tuple[Any, Any]:
        """Return the range that entropy chooses for a histogram of values.

        Args:
            histogram: Counts, edges, smallest and largest value, outer edge.
            num_quantized_bins: Bins that the kept ones are merged into.

        Raises:
            OptionError: There are fewer bins than that.
        """
        seen = _seen(histogram)
        rule = OnnxruntimeEntropyRule(num_bins=seen.bins, num_quantized_bins=num_quantized_bins)
        found = rule.range(seen, _GRID).astype(seen.edges.dtype.type)
        return found.lo, found.hi

    def compute_collection_result(self) -> dict[str, Any]:
        """Return `(lowest, highest, counts, edges)` of each tensor; for distributions, a `TensorData`.

        Raises:
            DataError: Nothing was collected, or a tensor had no finite value.
            OptionError: An option is out of its limits.
        """
        if not self.histograms:
            raise DataError("no data: call collect first")
        return {name: self._result(name, seen) for name, seen in self.histograms.items()}

    compute_percentile = compute_entropy = compute_distribution = compute_collection_result

    def _rule(self) -> Rule:
        if self.method == "percentile":
            return OnnxruntimePercentileRule(
                percentile=self.percentile, num_bins=self.num_bins, symmetric=self.symmetric
            )
        if self.method == "entropy":
            return OnnxruntimeEntropyRule(num_bins=self.num_bins, num_quantized_bins=self.num_quantized_bins)
        return OnnxruntimeDistributionRule(num_bins=self.num_bins, scenario=self.scenario)

    def _result(self, name: str, seen: OnnxruntimeHistogram) -> Any:
        rule = self._rule()
        try:
            if isinstance(rule, OnnxruntimeDistributionRule):
                average, deviation = rule.moments(seen)
                return TensorData(
                    avg=np.array(average),
                    std=np.array(deviation),
                    hist=seen.counts,
                    hist_edges=seen.edges,
                    lowest=seen.edges.min(),
                    highest=seen.edges.max(),
                )
            found = rule.range(seen, _GRID).astype(seen.edges.dtype.type)
        except DataError as error:
            raise DataError(f"tensor {name!r}: {error}") from error
        return found.lo, found.hi, seen.counts, seen.edges


def _image(seen: OnnxruntimeHistogram) -> tuple[Any, ...]:
    number = seen.edges.dtype.type
    whole = seen.counts, seen.edges, number(seen.lo), number(seen.hi)
    return whole if seen.absolute else (*whole, number(seen.threshold))


def _seen(image: tuple[Any, ...]) -> OnnxruntimeHistogram:
    """Return the statistic of a histogram of values that is given in its parts."""
    counts, edges, low, high, reach = image
    ends = MinMax(count=int(np.sum(counts)), lo=float(low) + 0.0, hi=float(high) + 0.0)
    return OnnxruntimeHistogram(bins=len(counts), ends=ends, counts=counts, edges=edges, threshold=float(reach))


class HistogramCalibrater(CalibraterBase):
    """Makes ranges from histograms.

    Args:
        model_path: As for `CalibraterBase`, like those that follow.
        op_types_to_calibrate: See there.
        augmented_model_path: See there.
        use_external_data_format: See there.
        method: As for `HistogramCollector`, like those that follow.
        symmetric: See there.
        num_bins: See there.
        num_quantized_bins: See there.
        percentile: See there.
        scenario: See there.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        use_external_data_format: bool = False,
        method: str = "percentile",
        symmetric: bool = False,
        num_bins: int = 128,
        num_quantized_bins: int = 2048,
        percentile: float = 99.999,
        scenario: str = "same",
    ) -> None:
        super().__init__(model_path, op_types_to_calibrate, augmented_model_path, symmetric, use_external_data_format)
        self.method = method
        self.collector = HistogramCollector(method, symmetric, num_bins, num_quantized_bins, percentile, scenario)

    def clear_collected_data(self) -> None:
        """Do nothing: no values are kept between calls of `collect_data`, only histograms."""

    def collect_data(self, data_reader: CalibrationDataReader) -> None:
        """Take in the samples of a reader; may be called several times.

        Args:
            data_reader: Anything with `get_next`, or an iterable of samples.

        Raises:
            DataError: There was no sample, or the peer's histogram is impossible for a tensor.
        """
        shown: dict[str, list[Values]] = {name: [] for name in self.tensors_to_calibrate}
        samples = 0
        for values in self.run(data_reader):
            samples += 1
            for name, value in values.items():
                shown[name].append(value)
        if not samples:
            raise DataError("no data: the reader gave no sample")
        self.collector.collect(shown)

    def compute_data(self) -> TensorsData:
        """Return the ranges in the types of the tensors, with the histograms that they follow from.

        Raises:
            DataError: Nothing was collected, or a tensor had no finite value.
        """
        return TensorsData(METHODS[self.method], self.collector.compute_collection_result())


class EntropyCalibrater(HistogramCalibrater):
    """Cuts where a coarse grid loses least information; arguments as for `HistogramCalibrater`."""

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        use_external_data_format: bool = False,
        method: str = "entropy",
        symmetric: bool = False,
        num_bins: int = 128,
        num_quantized_bins: int = 128,
    ) -> None:
        super().__init__(
            model_path,
            op_types_to_calibrate,
            augmented_model_path,
            use_external_data_format,
            method,
            symmetric,
            num_bins,
            num_quantized_bins,
        )


class PercentileCalibrater(HistogramCalibrater):
    """Cuts a share of the values at the ends; arguments as for `HistogramCalibrater`."""

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        use_external_data_format: bool = False,
        method: str = "percentile",
        symmetric: bool = False,
        num_bins: int = 2048,
        percentile: float = 99.999,
    ) -> None:
        super().__init__(
            model_path,
            op_types_to_calibrate,
            augmented_model_path,
            use_external_data_format,
            method,
            symmetric,
            num_bins,
            percentile=percentile,
        )


class DistributionCalibrater(HistogramCalibrater):
    """Takes average and deviation, for float8 scales; arguments as for `HistogramCalibrater`."""

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        use_external_data_format: bool = False,
        method: str = "distribution",
        num_bins: int = 128,
        scenario: str = "same",
    ) -> None:
        super().__init__(
            model_path,
            op_types_to_calibrate,
            augmented_model_path,
            use_external_data_format,
            method,
            num_bins=num_bins,
            scenario=scenario,
        )
