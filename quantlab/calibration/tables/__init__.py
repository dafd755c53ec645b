"""Ranges on disk: one format a file, quantlab's own and those of onnxruntime and TensorRT. Knows no ONNX."""

from quantlab.calibration.tables.files import format_of, load_ranges, save_ranges
from quantlab.calibration.tables.table import Maximum, RangeTable, TableFormat, checked_maximum, largest, table_formats

__all__ = [
    "Maximum",
    "RangeTable",
    "TableFormat",
    "checked_maximum",
    "format_of",
    "largest",
    "load_ranges",
    "save_ranges",
    "table_formats",
]
