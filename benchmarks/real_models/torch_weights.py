"""A PyTorch state dict read without PyTorch: both file layouts, through an unpickler that knows four harmless names.

The layout since PyTorch 1.6 is a zip with `data.pkl` and one raw file a storage. The older one is five pickles (magic
number, protocol, system, the state dict, the list of storage keys) followed by the storages, each an int64 count of
elements and the little-endian elements.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from .case import Array

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class WeightsError(ValueError):
    """A weights file has an unknown layout or asks for something other than tensors."""


def read_state_dict(data: bytes) -> dict[str, Array]:
    """Read a state dict.

    Args:
        data: Content of a `.pth` file of either layout.

    Returns:
        Parameter name -> array, in the file's order.

    Raises:
        WeightsError: The content is no state dict, or its pickle names anything but tensors.
    """
    if zipfile.is_zipfile(io.BytesIO(data)):
        return _read_zip(data)
    return _read_legacy(data)


class _Unpickler(pickle.Unpickler):
    """An unpickler that resolves nothing but ordered dicts, tensors and storage types."""

    def __init__(self, file: io.BytesIO, storage: Callable[[str, np.dtype[Any], int], Array]) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise WeightsError(f"the pickle asks for '{module}.{name}': only tensors and ordered dicts are read")

    def persistent_load(self, pid: Any) -> Array:
        kind, dtype, key, _device, count = pid[:5]
        if kind != "storage":
            raise WeightsError(f"the pickle refers to a '{kind}': only storages are read")
        return self._storage(key, dtype, count)


def _rebuild_tensor(
    storage: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_rest: object
) -> Array:
    if not shape:
        scalar: Array = storage[offset : offset + 1].reshape(())
        return scalar
    bytes_per_step = tuple(step * storage.itemsize for step in strides)
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if min(shape) < 1 or offset < 0 or min(strides) < 0 or last >= storage.size:
        raise WeightsError(f"a tensor of shape {shape} reaches outside its storage of {storage.size} elements")
    view: Array = np.lib.stride_tricks.as_strided(storage[offset:], shape, bytes_per_step)
    return view.copy()


def _read_zip(data: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        index = next((name for name in file.namelist() if name.endswith("/data.pkl")), None)
        if index is None:
            raise WeightsError("the zip has no data.pkl: this is not a state dict")
        folder = index.removesuffix("data.pkl")

        def storage(key: str, dtype: np.dtype[Any], count: int) -> Array:
            return np.frombuffer(file.read(f"{folder}data/{key}"), dtype=dtype, count=count)

        return dict(_Unpickler(io.BytesIO(file.read(index)), storage).load())


def _read_legacy(data: bytes) -> dict[str, Array]:
    file = io.BytesIO(data)

    def none(key: str, _dtype: np.dtype[Any], _count: int) -> Array:
        raise WeightsError(f"storage '{key}' is named before the state dict")

    if _Unpickler(file, none).load() != _LEGACY_MAGIC:
        raise WeightsError("neither a zip nor the older layout of a state dict: its magic number is missing")
    for _ in ("protocol", "system"):
        _Unpickler(file, none).load()

    # The tensors come before the bytes they are made of: read where each storage lies first.
    index = file.tell()
    sizes: dict[str, np.dtype[Any]] = {}

    def note(key: str, dtype: np.dtype[Any], count: int) -> Array:
        sizes[key] = dtype
        return np.zeros(count, dtype)

    _Unpickler(file, note).load()
    keys = _Unpickler(file, none).load()
    storages: dict[str, Array] = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = np.frombuffer(file.read(count * sizes[key].itemsize), dtype=sizes[key], count=count)
    file.seek(index)
    return dict(_Unpickler(file, lambda key, _dtype, _count: storages[key]).load())
