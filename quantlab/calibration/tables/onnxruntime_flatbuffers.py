"""onnxruntime's calibration table as flatbuffers: what its TensorRT provider reads unless told otherwise.

    table KeyValue { key: string; value: string; }      the value is the absolute maximum, in decimal
    table TrtTable { dict: [KeyValue]; }                root

Source: onnxruntime.quantization 1.31.1, `CalTableFlatBuffers` and `write_calibration_table` of `quant_utils.py`; the
binary encoding is that of https://flatbuffers.dev/internals. The schema is two tables of strings, so that it is written
and read here in full, and nothing needs to be installed for it.

Every object lies behind what refers to it: an offset is unsigned and counts from where it stands. A table begins with
the distance back to its vtable, which holds its own size, the table's size, and where in the table each field stands.
"""

from __future__ import annotations

import struct

from quantlab.calibration.tables.onnxruntime_text import WORDS
from quantlab.calibration.tables.table import Maximum, RangeTable, TableFormat, about, encoded, largest, table_formats
from quantlab.errors import DataError

NAME = "onnxruntime-flatbuffers"
ROOT_AT, VECTOR_AT, FIRST_AT = 12, 20, 24
# Offset of the root; vtable of a TrtTable (6 bytes, one field at 4 of 8), filled up; the root, whose vector is next.
_HEAD = struct.pack("<IHHHHiI", ROOT_AT, 6, 8, 4, 0, 8, 4)
# Vtable of a KeyValue: 8 bytes, a table of 12 with fields at 4 and 8.
_ENTRY_VTABLE = struct.pack("<HHHH", 8, 12, 4, 8)


def write(table: RangeTable, maximum: Maximum = "absolute") -> bytes:
    """Return the buffer, entries in the order of the names."""
    pairs = [(encoded(name, NAME), repr(largest(values, maximum)).encode()) for name, values in table.ranges.items()]
    pairs.sort()
    vtable_at = FIRST_AT + 4 * len(pairs)
    entries_at = vtable_at + len(_ENTRY_VTABLE)
    offsets, entries, strings = bytearray(), bytearray(), bytearray()
    strings_at = entries_at + 12 * len(pairs)
    for index, pair in enumerate(pairs):
        at = entries_at + 12 * index
        offsets += struct.pack("<I", at - (FIRST_AT + 4 * index))
        entries += struct.pack("<i", at - vtable_at)
        for place, text in zip((at + 4, at + 8), pair, strict=True):
            entries += struct.pack("<I", strings_at + len(strings) - place)
            strings += _string(text)
    return _HEAD + struct.pack("<I", len(pairs)) + offsets + _ENTRY_VTABLE + entries + strings


def _string(text: bytes) -> bytes:
    """Return the length, the text, a zero at its end, and as many more as it takes to end on a multiple of 4."""
    whole = struct.pack("<I", len(text)) + text + b"\0"
    return whole + bytes(-len(whole) % 4)


def read(content: bytes) -> RangeTable:
    """Read the buffer, written by any encoder of flatbuffers."""
    buffer = _Buffer(content)
    vector = buffer.field(buffer.offset(0), 0)
    ranges = {}
    for index in range(0 if vector is None else buffer.count(vector)):
        entry = buffer.offset(vector + 4 + 4 * index) if vector is not None else 0
        name, value = (buffer.string(buffer.field(entry, slot)) for slot in (0, 1))
        try:
            ranges[name] = about(name, float(value))
        except ValueError:
            raise DataError(f"tensor {name!r} has the value {value!r}, which is no number") from None
    return RangeTable(ranges=ranges, sources=dict.fromkeys(ranges, WORDS))


class _Buffer:
    """Numbers and texts at places of a buffer; a place outside of it raises `struct.error`."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise struct.error("a table lies before the beginning")
        return int(struct.unpack_from(form, self._content, at)[0])

    def offset(self, at: int) -> int:
        """Return the place that an offset refers to."""
        return at + self._number("<I", at)

    def field(self, table: int, slot: int) -> int | None:
        """Return the place that a field refers to, or None where the table leaves it out."""
        vtable = table - self._number("<i", table)
        place = 4 + 2 * slot
        if place + 2 > self._number("<H", vtable) or not (inside := self._number("<H", vtable + place)):
            return None
        return self.offset(table + inside)

    def count(self, vector: int) -> int:
        """Return how many offsets a vector holds."""
        count = self._number("<I", vector)
        if vector + 4 + 4 * count > len(self._content):
            raise struct.error("a vector ends behind the end")
        return count

    def string(self, at: int | None) -> str:
        """Return a text; empty where there is none."""
        if at is None:
            return ""
        size = self._number("<I", at)
        if at + 4 + size > len(self._content):
            raise struct.error("a text ends behind the end")
        return self._content[at + 4 : at + 4 + size].decode()


table_formats.register(NAME)(
    TableFormat(
        suffixes=(".flatbuffers",),
        keeps="maximum",
        write=write,
        claims=lambda content: b"\0" in content and not content.startswith(b"PK"),
        read=read,
    )
)
