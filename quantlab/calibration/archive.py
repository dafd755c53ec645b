"""An archive is one .npz of plain arrays with a JSON header: equal content makes equal bytes, on every machine.

    header.npy       UTF-8 text as uint8: JSON
    <i>/<array>.npy  the arrays of the i-th member

Numbers are little-endian, and nothing is compressed or dated. Nothing in it is pickled, so that reading a foreign file
runs no code.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.errors import OptionError

HEADER = "header"
# What the standard library and NumPy raise on bytes that are no archive, or no array.
NO_ARCHIVE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError)
NO_ARRAY = (KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
UNREADABLE = (*NO_ARCHIVE, *NO_ARRAY)

Arrays = Mapping[str, npt.NDArray[Any]]


def json_text(value: object) -> str:
    """Return JSON in ASCII, as it stands in every file of quantlab's.

    Raises:
        OptionError: The value holds something that JSON does not have.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OptionError(f"meta must hold plain JSON values only: {error}") from error


def pack(header: Mapping[str, object], members: Sequence[Arrays]) -> bytes:
    """Return the bytes of an archive.

    Args:
        header: Plain JSON values.
        members: Name to array, for each member.

    Returns:
        The content of the file.

    Raises:
        OptionError: The header holds something that JSON does not have.

    Example:
        >>> unpack(pack({"format": "example"}, [{"lo": np.float32(0.5)}]))
        ({'format': 'example'}, {0: {'lo': array(0.5, dtype=float32)}})
    """
    text = json_text(dict(header))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        _add(archive, HEADER, np.frombuffer(text.encode("ascii"), np.uint8))
        for index, arrays in enumerate(members):
            for name, array in sorted(arrays.items()):
                _add(archive, f"{index}/{name}", array)
    return whole.getvalue()


def unpack(content: bytes) -> tuple[dict[str, Any], dict[int, dict[str, npt.NDArray[Any]]]]:
    """Read what `pack` gave; what is raised on anything else is in `UNREADABLE`.

    Args:
        content: The content of the file.

    Returns:
        The header, and the arrays of each member that has any.
    """
    found: dict[str, dict[str, npt.NDArray[Any]]] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.namelist():
            place, _, name = entry.removesuffix(".npy").rpartition("/")
            found.setdefault(place, {})[name] = _array(archive, entry)
    header = json.loads(found.pop("")[HEADER].tobytes().decode("ascii"))
    return dict(header), {int(place): arrays for place, arrays in found.items()}


def _add(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    plain = io.BytesIO()
    array = np.asarray(array)
    # Not np.ascontiguousarray, which turns a scalar into a vector.
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    np.lib.format.write_array(plain, little, version=(1, 0), allow_pickle=False)
    entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, whenever it is written
    entry.create_system = 3  # else the bytes tell the operating system
    archive.writestr(entry, plain.getvalue())


def _array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    # The whole entry is read first, because its checksum is compared at its end.
    array = np.asarray(np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False))
    return array.astype(array.dtype.newbyteorder("="), copy=False)
