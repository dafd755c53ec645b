"""Tables as files: the name of a file that is written chooses the format, and the content of one that is read."""

from __future__ import annotations

import os
from pathlib import Path

from quantlab.calibration.archive import UNREADABLE
from quantlab.calibration.tables.table import Maximum, RangeTable, table_formats
from quantlab.errors import DataError, OptionError

PathLike = str | os.PathLike[str]


def format_of(path: PathLike, given: str | None = None) -> str:
    """Return the name of the format in which a file is to be written.

    Args:
        path: The file.
        given: Name of a format; None to go by the ending of the file's name.

    Returns:
        Name of a format.

    Raises:
        OptionError: There is no such format, or the ending stands for none.

    Example:
        >>> format_of("ranges.npz"), format_of("ranges.json"), format_of("ranges.json", "onnxruntime")
        ('npz', 'json', 'onnxruntime')
    """
    if given is not None:
        table_formats[given]
        return given
    suffix = Path(path).suffix.lower()
    for name, form in table_formats.items():
        if suffix in form.suffixes:
            return name
    known = ", ".join(suffix for form in table_formats.values() for suffix in form.suffixes)
    raise OptionError(
        f"the ending of {str(path)!r} stands for no format of ranges (those that do: {known}): "
        f"name the format, one of {', '.join(sorted(table_formats))}"
    )


def save_ranges(path: PathLike, table: RangeTable, *, format: str | None = None, maximum: Maximum = "absolute") -> None:  # noqa: A002  # the word that users know from --format
    """Write a range table into a file.

    Args:
        path: The file; an older one is replaced, not atomically.
        table: The ranges.
        format: `"json"`, `"npz"`, `"onnxruntime"`, `"onnxruntime-flatbuffers"`, `"onnxruntime-text"` or `"tensorrt"`;
            by default what the ending of the file's name stands for.
        maximum: For the last three, which keep one number a tensor: `"absolute"` for max(|lo|, |hi|), `"onnxruntime"`
            for the max(lo, hi) that onnxruntime.quantization 1.31.1 writes.

    Raises:
        OptionError: The format is unknown, or cannot hold the table; the text names the tensor.
        DataError: The file cannot be written.
    """
    content = table_formats[format_of(path, format)].write(table, maximum)
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise DataError(f"range file {str(path)!r} cannot be written: {error.strerror or error}") from error


def load_ranges(path: PathLike, *, format: str | None = None) -> RangeTable:  # noqa: A002
    """Read a range table from a file of any of the formats, written by quantlab, onnxruntime or TensorRT.

    Args:
        path: The file.
        format: Name of its format; by default its content tells.

    Returns:
        The table. Where the format keeps the absolute maximum m alone, ranges are `[-m, m]`.

    Raises:
        OptionError: There is no such format.
        DataError: The file cannot be read, or is truncated, corrupt or no range table; the text names the tensor or
            the line.
    """
    label = f"range file {str(path)!r}"
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{label} cannot be read: {error.strerror or error}") from error
    name = _recognized(content, label) if format is None else format_of(path, format)
    try:
        return table_formats[name].read(content)
    except DataError as error:
        raise DataError(f"{label}: {error}") from error
    except UNREADABLE as error:
        raise DataError(
            f"{label} is truncated, corrupt or not of the format {name!r} ({type(error).__name__}: {error}); "
            "calibrate again, or give another file"
        ) from error


def _recognized(content: bytes, label: str) -> str:
    for name, form in table_formats.items():
        if form.claims(content):
            return name
    raise DataError(f"{label} holds no ranges in any known format (known: {', '.join(sorted(table_formats))})")
