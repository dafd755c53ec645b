"""onnxruntime's calibration cache: the JSON that its `quantize_static` writes and reads as `calibration_cache_path`.

    {"CLS": "TensorsData", "calibration_method": {"CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax"},
     "smooth_quant": false, "data": {NAME: {"CLS": "TensorData", "lowest": ARRAY, "highest": ARRAY}, ...}}
    ARRAY = {"CLS": "numpy.array", "data": ..., "dtype": "float32"}

Source: onnxruntime.quantization 1.31.1, `calibrate.py`, `save_tensors_data` and `load_tensors_data`. What this file
writes has one field more, `quantlab`, with the table's `meta` and `sources`; onnxruntime passes over it. Reading takes
the field `data` alone too, which is what its `write_calibration_table` makes of a dict.

onnxruntime knows float16 and float32 ends only: others are rounded to float32. It quantizes with a cache only when it
is asked for the calibration method that the cache names. A rule of quantlab's that it does not know is named MinMax,
since all that it does with the ends of a range is the same.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from quantlab.arrays import Range
from quantlab.calibration.archive import json_text
from quantlab.calibration.tables.table import Maximum, RangeTable, TableFormat, ranged, table_formats
from quantlab.errors import DataError, OptionError, RangeError

METHODS = {
    "percentile": "Percentile",
    "onnxruntime_percentile": "Percentile",
    "entropy": "Entropy",
    "onnxruntime_entropy": "Entropy",
}
"""Range rule to the calibration method that onnxruntime knows it as; all others are MinMax."""

_MARK = re.compile(rb'"CLS"\s*:\s*"Tensors?Data"')


def write(table: RangeTable, maximum: Maximum = "absolute") -> bytes:
    """Return the cache; `maximum` has no say, since both ends are kept."""
    method = METHODS.get(str(table.meta.get("rule")), "MinMax")
    cache = {
        "CLS": "TensorsData",
        "data": {name: _entry(name, values) for name, values in sorted(table.ranges.items())},
        "calibration_method": {"CLS": "CalibrationMethod", "value": f"CalibrationMethod.{method}"},
        "smooth_quant": False,
        "quantlab": {"meta": dict(table.meta), "sources": dict(sorted(table.sources.items()))},
    }
    return json_text(cache).encode("ascii")


def _entry(name: str, values: Range) -> dict[str, Any]:
    if values.dtype == np.float64:
        try:
            with np.errstate(over="ignore"):
                values = values.astype(np.float32)
        except RangeError as error:
            raise OptionError(f"tensor {name!r}: onnxruntime's cache holds float32 numbers: {error}") from error
    ends = {"lowest": values.lo, "highest": values.hi}
    arrays = {key: {"data": end.tolist(), "dtype": end.dtype.name, "CLS": "numpy.array"} for key, end in ends.items()}
    return {**arrays, "CLS": "TensorData"}


def is_cache(content: bytes) -> bool:
    """Say whether a file looks like a calibration cache.

    Args:
        content: Its content.
    """
    return content.lstrip().startswith(b"{") and _MARK.search(content) is not None


def read(content: bytes) -> RangeTable:
    """Read a cache, written by onnxruntime or by quantlab."""
    cache = json.loads(content)
    own = cache.get("quantlab", {})
    entries = cache["data"] if cache.get("CLS") == "TensorsData" else cache
    method = dict(cache.get("calibration_method") or {}).get("value", "").removeprefix("CalibrationMethod.")
    words = f"onnxruntime's calibration cache{f', {method}' if method else ''}"
    ranges = {name: _range(name, entry) for name, entry in entries.items()}
    sources = dict.fromkeys(ranges, words) | dict(own.get("sources", {}))
    return RangeTable(ranges=ranges, sources=sources, meta=dict(own.get("meta", {})))


def _range(name: str, entry: Any) -> Range:
    if not isinstance(entry, dict) or {"lowest", "highest"} - set(entry):
        raise DataError(f'tensor {name!r} must have the fields "lowest" and "highest", got {sorted(entry)}')
    return ranged(name, _end(entry["lowest"]), _end(entry["highest"]))


def _end(value: Any) -> Any:
    """Read an array as the encoder writes it, or a bare number, which onnxruntime takes for a float32."""
    if not isinstance(value, dict):
        return np.float32(value)
    array = np.array(value["data"], np.dtype(value["dtype"]))
    # A reduction that keeps its axes leaves (1,), or (1, C, 1, 1) for channels.
    return array.reshape(()) if array.size == 1 else array.reshape(-1)


table_formats.register("onnxruntime")(TableFormat(keeps="ends", write=write, claims=is_cache, read=read))
