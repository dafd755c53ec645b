"""Streams of arrays in, ranges out: statistics in constant memory and the range rules on them. Knows no ONNX."""

from quantlab.calibration.averages import ExponentialAverage, MovingAverage
from quantlab.calibration.channels import PerChannelMinMax
from quantlab.calibration.histogram import Histogram
from quantlab.calibration.lattice import Bins, lattice_exponent
from quantlab.calibration.peer import OnnxruntimeHistogram
from quantlab.calibration.rule import RangeRule, calibrator, calibrators
from quantlab.calibration.rules.entropy import EntropyRule
from quantlab.calibration.rules.minmax import MinMaxRule
from quantlab.calibration.rules.moving_average import MovingAverageRule
from quantlab.calibration.rules.mse import MseRule
from quantlab.calibration.rules.onnxruntime_entropy import OnnxruntimeEntropyRule
from quantlab.calibration.rules.onnxruntime_percentile import OnnxruntimePercentileRule
from quantlab.calibration.rules.percentile import PercentileRule
from quantlab.calibration.statistic import MinMax, Statistic, restore, statistics
from quantlab.calibration.store import Stored, load_statistics, save_statistics

__all__ = [
    "Bins",
    "EntropyRule",
    "ExponentialAverage",
    "Histogram",
    "MinMax",
    "MinMaxRule",
    "MovingAverage",
    "MovingAverageRule",
    "MseRule",
    "OnnxruntimeEntropyRule",
    "OnnxruntimeHistogram",
    "OnnxruntimePercentileRule",
    "PerChannelMinMax",
    "PercentileRule",
    "RangeRule",
    "Statistic",
    "Stored",
    "calibrator",
    "calibrators",
    "lattice_exponent",
    "load_statistics",
    "restore",
    "save_statistics",
    "statistics",
]
