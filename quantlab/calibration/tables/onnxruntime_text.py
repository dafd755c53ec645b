"""onnxruntime's calibration table as text, its `calibration.cache`: a line `NAME NUMBER` for each tensor.

The number is the absolute maximum, in decimal. Source: onnxruntime.quantization 1.31.1, `write_calibration_table` of
`quant_utils.py`. Nothing in that package reads the form; the flatbuffers form holds the same for its TensorRT provider.
"""

from __future__ import annotations

from quantlab.arrays import Range
from quantlab.calibration.tables.table import Maximum, RangeTable, TableFormat, about, encoded, largest, table_formats
from quantlab.errors import DataError

NAME = "onnxruntime-text"
WORDS = "absolute maximum in onnxruntime's calibration table"


def write(table: RangeTable, maximum: Maximum = "absolute") -> bytes:
    """Return the text."""
    return b"".join(
        encoded(name, NAME, "\r\n") + f" {largest(values, maximum)!r}\n".encode()
        for name, values in sorted(table.ranges.items())
    )


def claims(content: bytes) -> bool:
    """Say whether a file looks like this format: text that is neither JSON nor a table of TensorRT's."""
    return bool(content) and b"\0" not in content and not content.lstrip().startswith((b"{", b"PK", b"TRT-"))


def read(content: bytes) -> RangeTable:
    """Read the text; a name may contain spaces."""
    ranges: dict[str, Range] = {}
    for number, line in enumerate(content.decode().split("\n"), 1):
        if not line.strip():
            continue
        name, _, value = line.rstrip("\r").rpartition(" ")
        try:
            found = float(value)
        except ValueError:
            raise DataError(f"line {number} is no name with a number behind it: {line!r}") from None
        ranges[name] = about(name, found)
    return RangeTable(ranges=ranges, sources=dict.fromkeys(ranges, WORDS))


table_formats.register(NAME)(TableFormat(keeps="maximum", write=write, claims=claims, read=read))
