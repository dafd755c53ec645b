"""A range table is what calibration came to: the range of every tensor, the words for where it is from, and of what.

A table is kept in a file of one of several formats, each a `TableFormat` in a file of its own. Some keep both ends of a
range; others keep the one number that a symmetric grid needs, the absolute maximum

    m = max(|lo|, |hi|)        read back as the range [-m, m]

over all channels, where a range has several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from quantlab.arrays import Range
from quantlab.errors import DataError, OptionError, RangeError
from quantlab.registry import Registry

Maximum: TypeAlias = Literal["absolute", "onnxruntime"]
Keeps: TypeAlias = Literal["ends", "maximum"]


@dataclass(frozen=True, kw_only=True)
class RangeTable:
    r"""The ranges of a model's tensors.

    Attributes:
        ranges: Tensor to range.
        sources: Tensor to the words that say where its range came from; may lack some.
        meta: What the table is of, plain JSON values: hash of the model, range rule, number of samples ...

    Example:
        >>> table = RangeTable(ranges={"x": Range(-5.0, 2.0)})
        >>> table_formats["onnxruntime-text"].write(table, "absolute")
        b'x 5.0\n'
    """

    ranges: Mapping[str, Range]
    sources: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """One way to write a table.

    Attributes:
        suffixes: Endings of file names that stand for it, such as `".json"`.
        keeps: Both ends of a range, or their absolute maximum alone.
        write: From a table, and how the maximum is taken, to the content of a file; raises `OptionError` for a table
            that the format cannot hold.
        claims: Says whether the content of a file looks like this format; no two formats claim the same.
        read: From the content of a file to the table; raises `DataError`.
    """

    suffixes: tuple[str, ...] = ()
    keeps: Keeps
    write: Callable[[RangeTable, Maximum], bytes]
    claims: Callable[[bytes], bool]
    read: Callable[[bytes], RangeTable]


table_formats: Registry[TableFormat] = Registry("format of ranges", "quantlab.calibration.tables")
"""Formats of range tables by name."""


def checked_maximum(word: str) -> Maximum:
    """Return the word, if it says how a maximum can be taken.

    Raises:
        OptionError: It does not.
    """
    for allowed in get_args(Maximum):
        if word == allowed:
            return cast(Maximum, allowed)
    raise OptionError(f"maximum must be one of {', '.join(map(repr, get_args(Maximum)))}, got {word!r}")


def largest(values: Range, maximum: Maximum = "absolute") -> float:
    """Return the one number that stands for a range where a format has no room for two.

    Args:
        values: Range of shape () or (C,).
        maximum: `"absolute"` for max(|lo|, |hi|); `"onnxruntime"` for max(lo, hi), which
            `onnxruntime.quantization.write_calibration_table` 1.31.1 writes in its place: too small wherever the lower
            end is the farther one, and negative where both are.

    Returns:
        The number, over all channels.

    Raises:
        OptionError: There is no such `maximum`.

    Example:
        >>> largest(Range(-5.0, 2.0)), largest(Range(-5.0, 2.0), "onnxruntime")
        (5.0, 2.0)
    """
    maximum = checked_maximum(maximum)
    ends = np.array([values.lo, values.hi], np.float64)
    return float((np.abs(ends) if maximum == "absolute" else ends).max(initial=0.0 if ends.size == 0 else -np.inf))


def about(name: str, value: float, dtype: type[np.floating[Any]] = np.float64) -> Range:
    """Return the range `[-m, m]` of a tensor of which a file tells the absolute maximum.

    Args:
        name: The tensor, for the error text.
        value: m; 0 or above.
        dtype: Type of the ends.

    Raises:
        DataError: m is negative, infinite or NaN.
    """
    if value < 0:
        raise DataError(
            f"tensor {name!r} has the absolute maximum {value!r}, which is negative: "
            "the file was written with max(lo, hi) and does not tell the range; make it anew"
        )
    return ranged(name, dtype(-value), dtype(value))


def ranged(name: str, lo: Any, hi: Any) -> Range:
    """Return a range read from a file.

    Args:
        name: The tensor, for the error text.
        lo: Lower end or ends.
        hi: Upper end or ends.

    Raises:
        DataError: They are no range; the text names the tensor.
    """
    try:
        return Range(lo, hi)
    except RangeError as error:
        raise DataError(f"tensor {name!r}: {error}") from error


def encoded(name: str, format_name: str, separators: str = "") -> bytes:
    """Return the UTF-8 bytes of a tensor's name.

    Args:
        name: The tensor.
        format_name: The format, for the error text.
        separators: Characters that end a name in that format.

    Raises:
        OptionError: The name has one of them, or is no Unicode text.
    """
    bad = [char for char in name if char in separators or "\ud800" <= char <= "\udfff"]
    if bad:
        raise OptionError(
            f"tensor {name!r} cannot be named in the format {format_name!r}, because of {bad[0]!r} in its name: "
            "use the format 'json', or rename the tensor"
        )
    return name.encode()
