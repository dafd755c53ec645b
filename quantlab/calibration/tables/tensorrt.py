"""TensorRT's calibration cache: a header line, then a line `NAME: HEX` for each tensor.

HEX is the scale of symmetric int8 as the eight hexadecimal digits of its float32, most significant first:

    scale = max(|lo|, |hi|) / 127

The header names the version of TensorRT and the calibrator, `TRT-8601-MinMaxCalibration`. onnxruntime's TensorRT
provider reads the form with `trt_int8_use_native_calibration_table`: it looks for `TRT-` in the first line, takes a
name up to the first colon, and 127 times the scale for the dynamic range (`ReadDynamicRange` in its sources,
`tensorrt_execution_provider_utils.h`). TensorRT itself compares the header with its own version and calibrator.
"""

from __future__ import annotations

import struct
import warnings

import numpy as np

from quantlab.arrays import Range
from quantlab.calibration.tables.table import Maximum, RangeTable, TableFormat, about, encoded, largest, table_formats
from quantlab.errors import DataError, OptionError, QuantlabWarning

NAME = "tensorrt"
HEADER = "TRT-8601-MinMaxCalibration"
LEVELS = np.float32(127)
DIGITS = 8


def write(table: RangeTable, maximum: Maximum = "absolute") -> bytes:
    """Return the text, with `HEADER` as its first line."""
    lines = [HEADER.encode()]
    for name, values in sorted(table.ranges.items()):
        lines.append(encoded(name, NAME, "\r\n") + f": {_hex(name, largest(values, maximum))}".encode())
    if cut := [name for name in table.ranges if ":" in name]:
        warnings.warn(
            f"{len(cut)} of the tensors have a colon in their name, the first is {cut[0]!r}: onnxruntime reads a name "
            "of this format up to the first colon, and will not find them; rename them, or use onnxruntime-flatbuffers",
            QuantlabWarning,
            stacklevel=2,
        )
    return b"\n".join(lines) + b"\n"


def _hex(name: str, value: float) -> str:
    with np.errstate(over="ignore"):
        scale = np.float32(value) / LEVELS
        reached = scale * LEVELS  # what a reader makes of it; the largest float32 rounds up to infinity
    if not np.isfinite(reached):
        raise OptionError(f"tensor {name!r} reaches {value!r}, which is beyond float32: use the format 'json'")
    return struct.pack(">f", scale).hex()


def read(content: bytes) -> RangeTable:
    """Read the text; a name may contain colons."""
    ranges: dict[str, Range] = {}
    header, *lines = content.decode().split("\n")
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        name, colon, digits = line.rstrip("\r").rpartition(":")
        ranges[name] = about(name, _maximum(number, line, digits.strip() if colon else ""), np.float32)
    words = f"absolute maximum in TensorRT's calibration cache {header.strip()!r}"
    return RangeTable(ranges=ranges, sources=dict.fromkeys(ranges, words))


def _maximum(number: int, line: str, digits: str) -> float:
    try:
        if len(digits) > DIGITS:
            raise ValueError
        # TensorRT writes no leading zeros.
        scale = struct.unpack(">f", bytes.fromhex(digits.zfill(DIGITS)))[0] if digits else None
    except ValueError:
        scale = None
    if scale is None:
        raise DataError(f"line {number} is no name with a colon and {DIGITS} hexadecimal digits: {line!r}")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.float32(scale) * LEVELS)


table_formats.register(NAME)(
    TableFormat(
        keeps="maximum",
        write=write,
        claims=lambda content: content.startswith(b"TRT-"),
        read=read,
    )
)
