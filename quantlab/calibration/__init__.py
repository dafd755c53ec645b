"""Streams of arrays in, ranges out: statistics in constant memory and the range rules on them. Knows no ONNX."""

from quantlab.calibration.averages import ExponentialAverage, MovingAverage
from quantlab.calibration.batch_ends import BatchEnds
from quantlab.calibration.channels import PerChannelMinMax
from quantlab.calibration.histogram import Histogram
from quantlab.calibration.joined import JoinedHistogram, Magnitudes
from quantlab.calibration.lattice import Bins, lattice_exponent
from quantlab.calibration.observers import (
    FixedQParamsObserver,
    NoopObserver,
    Observer,
    RecordingObserver,
    ReuseInputObserver,
    RuleObserver,
    histogram_observer,
    min_max_observer,
    moving_average_min_max_observer,
    moving_average_per_channel_min_max_observer,
    per_channel_min_max_observer,
)
from quantlab.calibration.peer import OnnxruntimeHistogram
from quantlab.calibration.rule import RangeRule, TwoPassRule, calibrator, calibrators
from quantlab.calibration.rules.distribution import DistributionRule
from quantlab.calibration.rules.entropy import EntropyRule
from quantlab.calibration.rules.minmax import MinMaxRule
from quantlab.calibration.rules.moving_average import MovingAverageRule
from quantlab.calibration.rules.mse import MseRule
from quantlab.calibration.rules.onnxruntime_distribution import OnnxruntimeDistributionRule
from quantlab.calibration.rules.onnxruntime_entropy import OnnxruntimeEntropyRule
from quantlab.calibration.rules.onnxruntime_minmax import OnnxruntimeMinMaxRule
from quantlab.calibration.rules.onnxruntime_percentile import OnnxruntimePercentileRule
from quantlab.calibration.rules.percentile import PercentileRule
from quantlab.calibration.statistic import MinMax, Statistic, restore, statistics
from quantlab.calibration.store import Stored, load_statistics, save_statistics
from quantlab.calibration.tables import RangeTable, load_ranges, save_ranges, table_formats

__all__ = [
    "BatchEnds",
    "Bins",
    "DistributionRule",
    "EntropyRule",
    "ExponentialAverage",
    "FixedQParamsObserver",
    "Histogram",
    "JoinedHistogram",
    "Magnitudes",
    "MinMax",
    "MinMaxRule",
    "MovingAverage",
    "MovingAverageRule",
    "MseRule",
    "NoopObserver",
    "Observer",
    "OnnxruntimeDistributionRule",
    "OnnxruntimeEntropyRule",
    "OnnxruntimeHistogram",
    "OnnxruntimeMinMaxRule",
    "OnnxruntimePercentileRule",
    "PerChannelMinMax",
    "PercentileRule",
    "RangeRule",
    "RangeTable",
    "RecordingObserver",
    "ReuseInputObserver",
    "RuleObserver",
    "Statistic",
    "Stored",
    "TwoPassRule",
    "calibrator",
    "calibrators",
    "histogram_observer",
    "lattice_exponent",
    "load_ranges",
    "load_statistics",
    "min_max_observer",
    "moving_average_min_max_observer",
    "moving_average_per_channel_min_max_observer",
    "per_channel_min_max_observer",
    "restore",
    "save_ranges",
    "save_statistics",
    "statistics",
    "table_formats",
]
