"""A statistics file is one archive that holds the statistic of any number of tensors, exactly, and says what is in it.

Its header is JSON with `format`, `version`, `meta` and, for each tensor, `name` and `kind`; its members are the plain
arrays of the tensors, in the order of their names. Equal statistics make equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

from quantlab.calibration.archive import UNREADABLE, pack, unpack
from quantlab.calibration.statistic import Statistic, restore, statistics
from quantlab.errors import DataError

FORMAT = "quantlab statistics"
VERSION = 1

File = str | Path | BinaryIO


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a statistics file holds.

    Attributes:
        statistics: Tensor to statistic, in the order of the names.
        meta: Whatever the writer put beside them, plain JSON values.
    """

    statistics: dict[str, Statistic]
    meta: dict[str, Any]


def save_statistics(file: File, seen: Mapping[str, Statistic], meta: Mapping[str, object] | None = None) -> None:
    """Write statistics into one file.

    A file at a path is not replaced atomically: write beside it and rename where a reader may come in between.

    Args:
        file: Path, or binary file open for writing.
        seen: Tensor to statistic; a name may be any text.
        meta: Plain JSON values to keep with them.

    Raises:
        OptionError: `meta` holds something that JSON does not have.
        DataError: The file cannot be written.

    Example:
        >>> import io
        >>> import numpy as np
        >>> from quantlab.calibration import MinMax
        >>> file = io.BytesIO()
        >>> save_statistics(file, {"x": MinMax().update(np.ones(3))}, {"samples": 1})
        >>> load_statistics(io.BytesIO(file.getvalue())).statistics["x"].count
        3
    """
    content = _packed(seen, meta or {})
    if not isinstance(file, str | Path):
        file.write(content)
        return
    try:
        Path(file).write_bytes(content)
    except OSError as error:
        raise DataError(f"statistics file {str(file)!r} cannot be written: {error.strerror or error}") from error


def load_statistics(file: File) -> Stored:
    """Read what `save_statistics` wrote.

    Args:
        file: Path, or binary file open for reading.

    Returns:
        Statistics equal to those that were saved, and what was kept with them.

    Raises:
        DataError: The file cannot be read, is truncated, corrupt or no statistics file, comes from a later version, or
            holds a kind of statistic that is not known here.
    """
    label = f"statistics file {str(getattr(file, 'name', file))!r}"
    try:
        content = Path(file).read_bytes() if isinstance(file, str | Path) else file.read()
    except OSError as error:
        raise DataError(f"{label} cannot be read: {error.strerror or error}") from error
    try:
        return _unpacked(content)
    except DataError as error:
        raise DataError(f"{label}: {error}") from error
    except UNREADABLE as error:
        raise DataError(
            f"{label} is truncated, corrupt or not one of quantlab's ({type(error).__name__}: {error}); "
            "measure again, or give a file that save_statistics wrote"
        ) from error


def _packed(seen: Mapping[str, Statistic], meta: Mapping[str, object]) -> bytes:
    ordered = sorted(seen.items())
    tensors = [{"name": name, "kind": statistic.kind} for name, statistic in ordered]
    header = {"format": FORMAT, "version": VERSION, "meta": dict(meta), "tensors": tensors}
    return pack(header, [statistic.arrays() for _, statistic in ordered])


def _unpacked(content: bytes) -> Stored:
    header, members = unpack(content)
    if header["format"] != FORMAT:
        raise DataError(f"it holds {header['format']!r}, not {FORMAT!r}")
    if header["version"] != VERSION:
        raise DataError(
            f"it has format version {header['version']!r}, and this quantlab reads version {VERSION}; "
            "measure again, or use the quantlab that wrote it"
        )
    seen: dict[str, Statistic] = {}
    for index, tensor in enumerate(header["tensors"]):
        seen[tensor["name"]] = _restored(tensor["name"], tensor["kind"], members.pop(index, {}))
    if members:
        raise DataError(f"it holds arrays of {len(members)} tensors more than its header names")
    return Stored(statistics=seen, meta=dict(header["meta"]))


def _restored(tensor: str, kind: str, arrays: dict[str, npt.NDArray[Any]]) -> Statistic:
    if kind not in statistics:
        allowed = ", ".join(sorted(statistics))
        raise DataError(
            f"tensor {tensor!r} has a statistic of the unknown kind {kind!r} (known: {allowed}); "
            "use the quantlab that wrote it"
        )
    try:
        return restore(kind, arrays)
    except DataError as error:
        raise DataError(f"tensor {tensor!r}: {error}") from error
