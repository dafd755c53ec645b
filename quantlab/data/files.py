"""Data files are NumPy archives (.npz), arrays (.npy) and folders of them, read a batch at a time."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from quantlab.data.signature import Array, Signature
from quantlab.data.sources import ArrayColumn, Column, Indexed
from quantlab.errors import DataError

Loaded = TypeVar("Loaded")
ARRAY_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True, kw_only=True)
class NpzColumn:
    """One array of an .npz archive, of which only the rows asked for are unpacked.

    Attributes:
        path: The archive.
        member: Name of the file inside, `x.npy` for the key `x`.
        shape: Shape of the array.
        dtype: Its dtype.
        offset: Bytes of the header.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[int, int], Array]]:
        """Open the archive; reading forward never unpacks a row twice."""
        width = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:

            def rows(start: int, stop: int) -> Array:
                stop = min(stop, self.shape[0])
                try:
                    file.seek(self.offset + start * width)
                    data = file.read((stop - start) * width)
                    return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])
                except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                    raise _broken(self.path, error) from error

            yield rows


def columns_of(path: Path, signature: Signature) -> dict[str, Column]:
    """Open an .npz archive (keys are input names) or an .npy file (for a model with one input) as stacks.

    Args:
        path: The file.
        signature: What the model wants; names the array of an .npy file.

    Returns:
        A column a key. Rows are read when they are needed.

    Raises:
        DataError: The file cannot be read, or an .npy file is given to a model with several inputs.
    """
    if path.suffix.lower() == ".npy":
        return {_only_name(path, signature): ArrayColumn(array=_load(path, lambda: np.load(path, mmap_mode="r")))}
    return _load(path, lambda: _npz_columns(path))


def _npz_columns(path: Path) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                columns[member.removesuffix(".npy")] = _npz_column(path, member, file)
    return columns


def _npz_column(path: Path, member: str, file: IO[bytes]) -> Column:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is not None:
        shape, fortran_order, dtype = read(file)
        if shape and not fortran_order and not dtype.hasobject:
            return NpzColumn(path=path, member=member, shape=shape, dtype=dtype, offset=file.tell())
    # Scalars, Fortran order and the rare later headers are read whole.
    with np.load(path) as archive:
        return ArrayColumn(array=archive[member.removesuffix(".npy")])


def array_files(paths: Sequence[Path], signature: Signature, name: str) -> Indexed:
    """Make a source of .npz and .npy files, each holding one batch.

    A file may also hold one sample without the batch axis, where the model's axis 0 is dynamic or 1.

    Args:
        paths: The files, in the order in which they are fed.
        signature: What the model wants.
        name: What the data is, for error texts.

    Returns:
        A source with one item a file; files that are not picked are not opened.
    """
    return Indexed(
        name=name,
        count=len(paths),
        get=partial(_batch_of_file, paths, signature),
        label=partial(file_label, paths),
    )


def file_label(paths: Sequence[Path], index: int) -> str:
    """Name a file in an error text."""
    return f"file '{paths[index]}'"


def _batch_of_file(paths: Sequence[Path], signature: Signature, index: int) -> Mapping[str, Array]:
    path = paths[index]
    arrays: dict[str, Array] = _load(path, lambda: _arrays_in(path, signature))
    whole = {key: _with_batch_axis(array, key, signature) for key, array in arrays.items()}
    if any(whole[key].ndim > array.ndim for key, array in arrays.items()):  # one sample, and its labels
        whole |= {key: arrays[key][None] for key in signature.labels if key in arrays}
    return whole


def _arrays_in(path: Path, signature: Signature) -> dict[str, Array]:
    if path.suffix.lower() == ".npy":
        return {_only_name(path, signature): np.load(path)}
    with np.load(path) as archive:
        arrays = dict(archive.items())
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{key!r} is no array")
    return arrays


def _with_batch_axis(array: Array, name: str, signature: Signature) -> Array:
    if name in signature.names:
        spec = signature[name]
        if spec.leading in (None, 1) and array.ndim == spec.rank - 1:
            return array[None]
    return array


def _only_name(path: Path, signature: Signature) -> str:
    if len(signature.required) > 1:
        raise DataError(
            f"file '{path}': an .npy file holds one array, and the model has {len(signature.required)} inputs; "
            f"save an .npz file with the keys {signature.listed}"
        )
    return (signature.required or signature.inputs)[0].name


def _load(path: Path, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(
        f"file '{path}' cannot be read ({error}); allowed are plain arrays written by np.save or np.savez, "
        "without pickled objects: write it again"
    )
