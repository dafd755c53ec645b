"""quantlab's own table as .npz: an archive of the ends themselves, for tables with many channels.

Its header is JSON with `format`, `version`, `meta` and, for each tensor, `name` and `source`; its members are the
arrays `lo` and `hi` of the tensors, in the order of their names. Equal tables make equal bytes.
"""

from __future__ import annotations

from quantlab.calibration.archive import pack, unpack
from quantlab.calibration.tables.plain_json import FORMAT, VERSION, check_format
from quantlab.calibration.tables.table import Maximum, RangeTable, TableFormat, ranged, table_formats
from quantlab.errors import DataError


def write(table: RangeTable, maximum: Maximum = "absolute") -> bytes:
    """Return the table as an archive; `maximum` has no say, since both ends are kept."""
    ordered = sorted(table.ranges.items())
    tensors = [{"name": name, "source": table.sources.get(name)} for name, _ in ordered]
    header = {"format": FORMAT, "version": VERSION, "meta": dict(table.meta), "tensors": tensors}
    return pack(header, [{"lo": values.lo, "hi": values.hi} for _, values in ordered])


def read(content: bytes) -> RangeTable:
    """Read the table."""
    header, members = unpack(content)
    check_format(header)
    tensors = header["tensors"]
    if len(tensors) != len(members):
        raise DataError(f"it holds the ranges of {len(members)} tensors, and its header names {len(tensors)}")
    return RangeTable(
        ranges={
            tensor["name"]: ranged(tensor["name"], members[index]["lo"], members[index]["hi"])
            for index, tensor in enumerate(tensors)
        },
        sources={tensor["name"]: tensor["source"] for tensor in tensors if tensor["source"] is not None},
        meta=dict(header["meta"]),
    )


table_formats.register("npz")(
    TableFormat(
        suffixes=(".npz",),
        keeps="ends",
        write=write,
        claims=lambda content: content.startswith(b"PK"),
        read=read,
    )
)
