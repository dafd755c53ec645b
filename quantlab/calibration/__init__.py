"""Streams of arrays in, ranges out: statistics in constant memory and the range rules on them. Knows no ONNX."""

from quantlab.calibration.histogram import Histogram
from quantlab.calibration.lattice import Bins, lattice_exponent
from quantlab.calibration.rule import RangeRule, calibrator, calibrators
from quantlab.calibration.rules.entropy import EntropyRule
from quantlab.calibration.rules.minmax import MinMaxRule
from quantlab.calibration.rules.percentile import PercentileRule
from quantlab.calibration.statistic import MinMax, Statistic

__all__ = [
    "Bins",
    "EntropyRule",
    "Histogram",
    "MinMax",
    "MinMaxRule",
    "PercentileRule",
    "RangeRule",
    "Statistic",
    "calibrator",
    "calibrators",
    "lattice_exponent",
]
