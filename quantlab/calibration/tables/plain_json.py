"""quantlab's own table as JSON: to be read, edited and compared; every number comes back with its bits.

    {"format": "quantlab ranges", "version": 1, "meta": {...},
     "tensors": {NAME: {"dtype": "float32", "lo": ..., "hi": ..., "source": "..."}, ...}}

A line a tensor, in the order of the names. An end is a number, or a list with a number for each channel. Numbers are
written with as many digits as a float64 takes, and every float16 and float32 is one.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from quantlab.arrays import Range
from quantlab.calibration.archive import json_text
from quantlab.calibration.tables.onnxruntime_json import is_cache
from quantlab.calibration.tables.table import Maximum, RangeTable, TableFormat, ranged, table_formats
from quantlab.errors import DataError

FORMAT = "quantlab ranges"
VERSION = 1
DTYPES = ("float16", "float32", "float64")


def write(table: RangeTable, maximum: Maximum = "absolute") -> bytes:
    """Return the table as JSON; `maximum` has no say, since both ends are kept."""
    rows = []
    for name, values in sorted(table.ranges.items()):
        entry = {"dtype": values.dtype.name, "lo": values.lo.tolist(), "hi": values.hi.tolist()}
        if name in table.sources:
            entry["source"] = table.sources[name]
        rows.append(f"    {json_text(name)}: {json_text(entry)}")
    head = {"format": FORMAT, "version": VERSION, "meta": dict(table.meta)}
    lines = [f"  {json_text(key)}: {json_text(value)}" for key, value in head.items()]
    lines.append('  "tensors": {' + ("\n" + ",\n".join(rows) + "\n  }" if rows else "}"))
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def read(content: bytes) -> RangeTable:
    """Read the table, edited or not."""
    plain = json.loads(content)
    check_format(plain)
    ranges: dict[str, Range] = {}
    sources: dict[str, str] = {}
    for name, entry in plain["tensors"].items():
        ranges[name] = _range(name, entry)
        if "source" in entry:
            sources[name] = str(entry["source"])
    return RangeTable(ranges=ranges, sources=sources, meta=dict(plain.get("meta", {})))


def check_format(header: Any) -> None:
    """Refuse a header that is none of a range table.

    Args:
        header: What stands in the file beside the ranges.

    Raises:
        DataError: It is of something else, or of a later version.
    """
    found = header.get("format")
    if found == "quantlab statistics":
        raise DataError("it holds statistics, not ranges: read it as statistics (--statistics, load_statistics)")
    if found != FORMAT:
        raise DataError(f'it has no field "format" that says {FORMAT!r}: give what quantlab\'s save_ranges wrote')
    if header.get("version") != VERSION:
        raise DataError(
            f"it has format version {header.get('version')!r}, and this quantlab reads version {VERSION}; "
            "calibrate again, or use the quantlab that wrote it"
        )


def _range(name: str, entry: Any) -> Range:
    if not isinstance(entry, dict) or {"lo", "hi"} - set(entry):
        raise DataError(f'tensor {name!r} must have the fields "lo" and "hi", got {entry!r}')
    kind = entry.get("dtype", "float64")
    if kind not in DTYPES:
        raise DataError(f"tensor {name!r} has the type {kind!r} (allowed: {', '.join(DTYPES)})")
    return ranged(name, _ends(name, entry["lo"], kind), _ends(name, entry["hi"], kind))


def _ends(name: str, given: Any, kind: str) -> Any:
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise DataError(f"an end of tensor {name!r} must be a number, or a list of numbers, got {given!r}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which a range refuses
        return np.asarray(given, np.float64).astype(kind)


table_formats.register("json")(
    TableFormat(
        suffixes=(".json",),
        keeps="ends",
        write=write,
        claims=lambda content: content.lstrip().startswith(b"{") and not is_cache(content),
        read=read,
    )
)
