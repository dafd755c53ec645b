"""External data: the values of a tensor lie in a file beside the model, and are read from there through a memory map.

In a file, ONNX gives such a tensor a `location` relative to the model's folder, an `offset`, a `length` and perhaps a
`checksum` (SHA-1 of the whole data file). In memory a tensor that stays in its file has a `basepath` as well: the
folder that the location is relative to. With it the tensor is a value like any other, only that its bytes come from
the disk.
Source: onnx/docs/ExternalData.md, onnx.external_data_helper.ExternalDataInfo.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.errors import ModelError

_NARROW_BITS = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4, 23: 4, 25: 2, 26: 2}
"""Bits of the types narrower than a byte; FLOAT4E2M1, UINT2 and INT2 by number, as older releases of onnx lack them."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the bytes of a tensor lie.

    Attributes:
        path: The data file.
        offset: First byte.
        length: Number of bytes.
    """

    path: Path
    offset: int
    length: int


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether the values of a tensor lie in a file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def is_attached(tensor: onnx.TensorProto) -> bool:
    """Return whether an external tensor knows the folder that its location is relative to."""
    return any(entry.key == "basepath" and entry.value for entry in tensor.external_data)


def data_bytes(tensor: onnx.TensorProto) -> int | None:
    """Return how many bytes the values of a tensor take, or None for strings and types without a fixed size."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    if tensor.data_type in _NARROW_BITS:
        return -(-count * _NARROW_BITS[tensor.data_type] // 8)
    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return None
    each = _bytes_each(tensor.data_type)
    return None if each is None else count * each


@functools.cache
def _bytes_each(data_type: int) -> int | None:
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
    except KeyError:
        return None


def attach(tensors: Iterable[onnx.TensorProto], model: Path) -> None:
    """Say of external tensors, in place, which folder their locations are relative to, and check what they refer to.

    Args:
        tensors: External tensors as they stand in a model file.
        model: Path of that file.

    Raises:
        ModelError: A location leaves the folder of the model, a data file is missing, too short or of another size than
            the shape needs, or its content does not have the checksum that the tensor states.
    """
    sums: dict[Path, str] = {}
    folder = Path(os.path.abspath(model)).parent
    for tensor in tensors:
        entries = _entries(tensor)
        for index in reversed([i for i, entry in enumerate(tensor.external_data) if entry.key == "basepath"]):
            del tensor.external_data[index]  # a file has no say in where its folder is
        tensor.external_data.add(key="basepath", value=str(folder))
        try:
            place = place_of(tensor)
            _check_sum(place.path, entries.get("checksum"), sums)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the external data of tensor {tensor.name!r} of {str(model)!r} cannot be read: {error}"
            ) from error
        wanted = data_bytes(tensor)
        if wanted is not None and wanted != place.length:
            raise ModelError(
                f"the external data of tensor {tensor.name!r} of {str(model)!r} has {place.length} bytes, "
                f"its shape {tuple(tensor.dims)} needs {wanted}: the data file does not belong to this model"
            )


def place_of(tensor: onnx.TensorProto) -> Place:
    """Find the bytes of an attached tensor.

    Args:
        tensor: An external tensor that knows its folder.

    Returns:
        File, offset and length.

    Raises:
        ValueError: The tensor does not know its folder, its location leaves the folder, or the file is too short.
        OSError: The file cannot be looked at.
    """
    entries = _entries(tensor)
    if not is_attached(tensor):
        raise ValueError("nothing says in which folder its file lies: load the model from its path")
    path = _inside(Path(entries["basepath"]), entries.get("location", ""))
    offset, size = int(entries.get("offset") or 0), path.stat().st_size
    length = int(entries["length"]) if entries.get("length") else size - offset
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"it wants {length} bytes from byte {offset} on, {str(path)!r} has {size} bytes")
    return Place(path=path, offset=offset, length=length)


def mapped(tensor: onnx.TensorProto) -> npt.NDArray[np.uint8]:
    """Map the bytes of an attached tensor into memory; they are read when they are looked at.

    Args:
        tensor: An external tensor that knows its folder.

    Returns:
        Read-only bytes, shape (length,). The memory is given back when the last view of them is gone.

    Raises:
        ModelError: The file has gone or become shorter; the text names the tensor.
    """
    try:
        place = place_of(tensor)
        if not place.length:  # nothing cannot be mapped
            return np.zeros(0, np.uint8)
        return np.asarray(np.memmap(place.path, np.uint8, "r", place.offset, (place.length,)))
    except (OSError, ValueError) as error:
        raise ModelError(f"the external data of tensor {tensor.name!r} cannot be read: {error}") from error


def take_in(tensor: onnx.TensorProto) -> None:
    """Read the bytes of an attached tensor into the tensor itself, in place."""
    tensor.raw_data = mapped(tensor).tobytes()
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def relocate(tensors: Iterable[onnx.TensorProto]) -> Path:
    """Write locations, in place, relative to one folder that all the data lies in, as runtimes want them.

    Args:
        tensors: External tensors that know their folders, at least one.

    Returns:
        The folder.
    """
    listed = list(tensors)
    places = [place_of(tensor) for tensor in listed]
    folder = Path(os.path.commonpath([place.path.parent for place in places]))
    for tensor, place in zip(listed, places, strict=True):
        point_to(tensor, place, str(place.path.relative_to(folder)))
    return folder


def point_to(tensor: onnx.TensorProto, place: Place, location: str) -> None:
    """Make a tensor an external one, in place; the location is relative to the model's folder."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", place.offset), ("length", place.length)):
        tensor.external_data.add(key=key, value=str(value))


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _inside(folder: Path, location: str) -> Path:
    """Follow a location, and refuse one that leaves the folder, also through a symbolic link."""
    if not location:
        raise ValueError("it states no location")
    path, home = Path(os.path.realpath(folder / location)), Path(os.path.realpath(folder))
    if Path(location).is_absolute() or ".." in Path(location).parts or not path.is_relative_to(home):
        raise ValueError(
            f"its location {location!r} is outside the folder of the model; external data has to lie in that folder"
        )
    if not path.is_file():
        raise ValueError(f"there is no file {str(folder / location)!r}; it has to lie beside the model")
    return path


def _check_sum(path: Path, wanted: str | None, sums: dict[Path, str]) -> None:
    if not wanted:
        return
    if path not in sums:
        with path.open("rb") as stream:
            sums[path] = hashlib.file_digest(stream, _sha1).hexdigest()
    if sums[path] != wanted.lower():
        raise ValueError(f"the checksum of {str(path)!r} is {sums[path]}, the model states {wanted}: one was changed")


def _sha1() -> Any:
    return hashlib.sha1(usedforsecurity=False)
