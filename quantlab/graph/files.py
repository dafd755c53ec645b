"""Model files: read whole, external data included, and written so that no reader ever sees half of one.

A file is written under a temporary name in the folder of its target and renamed when it is complete. Protobuf ends at
2 GiB; a larger model gets its weights in one file `NAME.data` beside it, written one by one.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]
from onnx import external_data_helper, numpy_helper

from quantlab.errors import ModelError, OptionError
from quantlab.graph.external import (
    Place,
    attach,
    data_bytes,
    is_external,
    mapped,
    place_of,
    point_to,
    relocate,
    take_in,
)
from quantlab.graph.names import Names

MAX_PROTOBUF_BYTES = 2**31 - 1
"""The longest message protobuf reads or writes."""

_ALIGNMENT = 4096
"""Bytes to which external tensors are aligned, so that they can be mapped into memory."""


def load(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto, *, map_above: int = MAX_PROTOBUF_BYTES
) -> onnx.ModelProto:
    """Read a model, weights kept in files beside it included.

    Args:
        source: Path of a model file, the bytes of one, or a model, which is returned as it is.
        map_above: Bytes of external data above which large initializers stay in their files and are read from there,
            one by one, when they are needed; such a model has to be saved with `save`, and its files may not change.

    Returns:
        The model, with all its data in memory unless there is more than `map_above`. The files are only read.

    Raises:
        ModelError: There is no such file, it holds no ONNX model, or its external data is missing, has a wrong size or
            checksum, or lies outside the folder of the model.
    """
    if isinstance(source, onnx.ModelProto):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        model = _parse(bytes(source), f"the given data ({len(source)} bytes)")
        if (tensor := next(_external(model), None)) is not None:
            raise ModelError(
                f"tensor {tensor.name!r} lies in a file beside the model: give the model's path, not its bytes"
            )
        return model
    path = _path(source)
    model = _parse(_read(path), f"model file {str(path)!r}")
    external = list(_external(model))
    attach(external, path)
    total = sum(place_of(tensor).length for tensor in external)
    stay = set(split_weights(model)[1]) if total > map_above else set()
    initializers = {id(tensor) for tensor in model.graph.initializer if tensor.name in stay}
    for tensor in external:
        if id(tensor) not in initializers:
            take_in(tensor)
    return model


@dataclass(frozen=True, kw_only=True)
class DataFiles:
    """Which files take the weights that do not go into the model file itself.

    Attributes:
        at_least: Bytes from which on an initializer goes out.
        location: Name of the one file that takes them all; None for `NAME.data`, after the model file.
        each: Every tensor gets a file of its own, named after the model and itself; not together with a location.
    """

    at_least: int = 1024
    location: str | None = None
    each: bool = False

    def __post_init__(self) -> None:
        location = self.location
        if location is not None and (location in ("", ".", "..") or "/" in location or "\\" in location):
            raise OptionError(
                f"external data goes into the folder of the model: {location!r} is no plain file name, such as "
                "'weights.data'"
            )
        if location is not None and self.each:
            raise OptionError(f"one file {location!r} for all tensors and a file for each exclude each other")
        if self.at_least < 0:
            raise OptionError(f"the least size of external tensors is {self.at_least} bytes: it has to be 0 or more")

    def names(self, model: str, tensors: Iterable[str]) -> list[str]:
        """Return the name of the file that each tensor goes to.

        Example:
            >>> DataFiles(each=True).names("m.onnx", ["a/b", "a:b"])
            ['m.onnx.a_b.data', 'm.onnx.a_b_1.data']
        """
        if not self.each:
            return [self.location or f"{model}.data" for _ in tensors]
        free = Names(())
        return [f"{model}.{free.fresh(re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:100])}.data" for name in tensors]


def save(
    model: onnx.ModelProto,
    path: str | os.PathLike[str],
    *,
    external_above: int = MAX_PROTOBUF_BYTES,
    data_files: DataFiles = DataFiles(),
) -> None:
    """Write a model, all of it or nothing; an older file of that name is replaced only by a complete one.

    Args:
        model: The model to write; it is not changed.
        path: Where to write. The folder has to exist.
        external_above: Bytes of weights above which they go into files beside the model.
        data_files: Which files these are; one file `NAME.data` by default.

    Raises:
        ModelError: The folder is missing or cannot be written, or the model is too large even without its weights.
    """
    small = sum(data_bytes(tensor) or 0 for tensor in tensors_of(model)) <= external_above
    if small and (content := _serialized(_whole(model))):
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return
    _save_with_data_file(model, path, data_files)


@contextmanager
def portable(model: onnx.ModelProto) -> Iterator[tuple[bytes | str, Path | None]]:
    """Bring a model of any size into a form that a runtime can be handed.

    Args:
        model: The model; it is not changed.

    Yields:
        The serialized model with the folder that its external data lies in, None where it has none. Where it is too
        large to be serialized, the path of a copy in a temporary folder, which is gone afterwards.
    """
    light, folder = model, None
    if next(_external(model), None) is not None:
        light = onnx.ModelProto()
        light.CopyFrom(model)
        folder = relocate(_external(light))
    if content := _serialized(light):
        yield content, folder
        return
    with tempfile.TemporaryDirectory(prefix="quantlab-") as place:
        path = Path(place) / "model.onnx"
        save(model, path)
        yield str(path), None


def _serialized(model: onnx.ModelProto) -> bytes | None:
    """Serialize a model, or return None where protobuf cannot."""
    if sum(data_bytes(tensor) or 0 for tensor in tensors_of(model) if not is_external(tensor)) > MAX_PROTOBUF_BYTES:
        return None
    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError):  # nodes and names pushed it above the limit
        return None


def model_size(path: str | os.PathLike[str]) -> int:
    """Return the size of a model in bytes, the files with its external data included.

    Args:
        path: A model file.

    Returns:
        Bytes on disk; a data file is counted once and whole.

    Raises:
        ModelError: The model or a file it refers to cannot be read.
    """
    source = _path(path)
    model = _parse(_read(source), f"model file {str(source)!r}")
    files = {source}
    for tensor in _external(model):
        place = source.parent / external_data_helper.ExternalDataInfo(tensor).location
        if not place.is_file():
            raise ModelError(f"tensor {tensor.name!r} of {str(source)!r} lies in {str(place)!r}, which does not exist")
        files.add(place)
    return sum(file.stat().st_size for file in files)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; it takes the place of `path` when the block ends without an error.

    Args:
        path: The file that is wanted; a symbolic link is followed.

    Yields:
        Path of an empty file in the same folder. It is gone after an error.

    Raises:
        ModelError: The folder is missing or not writable, `path` is a directory, or writing failed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_write(Path(folder) / "plan.json") as temporary:
        ...         _ = temporary.write_text("{}")
        ...     sorted(os.listdir(folder))
        ['plan.json']
    """
    target = Path(os.path.realpath(path))
    folder = target.parent
    if target.is_dir():
        raise ModelError(f"cannot write {str(path)!r}: it is a directory; give the name of a file")
    if not folder.is_dir():
        raise ModelError(f"cannot write {str(path)!r}: there is no folder {str(folder)!r}; create it first")
    temporary = folder / f".quantlab-{secrets.token_hex(8)}.tmp"
    try:
        # O_EXCL with the usual mode bits: mkstemp would leave a file that only its owner can read.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise ModelError(
            f"cannot write {str(path)!r}: folder {str(folder)!r} does not take new files ({error.strerror})"
        ) from error
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise ModelError(f"cannot write {str(path)!r}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


class _OnlyTrying(Exception):  # it is no error; it makes `atomic_write` undo itself
    pass


def check_writable(path: str | os.PathLike[str]) -> None:
    """Try whether a file can be written, and leave nothing behind; so that long work never ends at a missing folder.

    Args:
        path: The file that is wanted.

    Raises:
        ModelError: The folder is missing or takes no new files, or there is a directory of that name.
    """
    with suppress(_OnlyTrying), atomic_write(path):
        raise _OnlyTrying


def split_weights(model: onnx.ModelProto, *, above: int = 1024) -> tuple[onnx.ModelProto, dict[str, onnx.TensorProto]]:
    """Copy everything of a model but the large initializers of its main graph.

    Args:
        model: Any model; it is not changed.
        above: Initializers with more bytes than this are left out.

    Returns:
        The copy, and the tensors left out by name: those of `model` itself, not copies.
    """
    large = {tensor.name: tensor for tensor in model.graph.initializer if (data_bytes(tensor) or 0) > above}
    copy = onnx.ModelProto()
    _copy_fields(model, copy, leave="graph")
    _copy_fields(model.graph, copy.graph, leave="initializer")
    copy.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in large)
    return copy, large


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor stored in a model: initializers, attributes, subgraphs and local functions."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.TENSORS:
                yield from attribute.tensors
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors_of_graph(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for graph in attribute.graphs:
                    yield from _tensors_of_graph(graph)


def _external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (tensor for tensor in tensors_of(model) if is_external(tensor))


def _path(source: Any) -> Path:
    if not isinstance(source, str | os.PathLike):
        raise ModelError(f"a model is given as a path, as bytes or as an onnx.ModelProto, got {type(source).__name__}")
    return Path(source)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"model file {str(path)!r} is a directory: give the model file in it")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"model file {str(path)!r} does not exist: check the path") from None
    except OSError as error:
        raise ModelError(f"model file {str(path)!r} cannot be read: {error.strerror}") from error
    if not content:
        raise ModelError(f"model file {str(path)!r} is empty: export or download it again")
    return content


def _parse(content: bytes, what: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise ModelError(f"{what} is not an ONNX model, or only a part of one: {_advice(content)}") from None
    if not model.HasField("graph"):
        raise ModelError(f"{what} is not an ONNX model (it has no graph): {_advice(content)}")
    if not model.opset_import:
        raise ModelError(f"{what} is not a complete ONNX model (it imports no operator set): {_advice(content)}")
    return model


def _advice(content: bytes) -> str:
    if content.startswith(b"PK\x03\x04"):
        return "it is a zip archive, unpack it and give the .onnx file in it"
    if all(32 <= byte < 127 or byte in b"\t\n\r" for byte in content[:256]):
        return "it is a text file, give a binary .onnx file"
    return "export or download it again"


def _save_with_data_file(model: onnx.ModelProto, path: str | os.PathLike[str], files: DataFiles) -> None:
    target = Path(os.path.realpath(path))
    copy, large = split_weights(model, above=files.at_least - 1)
    for tensor in _external(copy):  # what is too small for the new data file lies in another one so far
        take_in(tensor)
    parts: dict[Path, list[onnx.TensorProto]] = {}
    for tensor, name in zip(large.values(), files.names(target.name, large), strict=True):
        parts.setdefault(target.with_name(name), []).append(tensor)
    if target in parts:
        raise OptionError(f"external data cannot go into {target.name!r}, the model file itself: give another name")
    with ExitStack() as stack:
        model_file = stack.enter_context(atomic_write(target))
        for data, tensors in parts.items():
            _refuse_own_source(model, data)
            with stack.enter_context(atomic_write(data)).open("wb") as stream:
                for tensor in tensors:
                    _write_external(tensor, copy.graph.initializer.add(), stream, data)
        try:
            model_file.write_bytes(copy.SerializeToString())
        except (EncodeError, ValueError) as error:
            raise ModelError(
                f"cannot write {str(path)!r}: without the initializers of its main graph the model is still above "
                "2 GiB; turn large Constant nodes into initializers"
            ) from error


def _write_external(tensor: onnx.TensorProto, entry: onnx.TensorProto, stream: BinaryIO, data: Path) -> None:
    """Write the bytes of a tensor to a data file, and where they lie into an entry of the model file."""
    _copy_fields(tensor, entry, leave="raw_data", only=("name", "dims", "data_type", "doc_string", "metadata_props"))
    raw = _raw(tensor)
    stream.write(bytes(-stream.tell() % _ALIGNMENT))
    point_to(entry, Place(path=data, offset=stream.tell(), length=len(raw)), data.name)
    stream.write(raw)


def _refuse_own_source(model: onnx.ModelProto, data: Path) -> None:
    for tensor in _external(model):
        if place_of(tensor).path == data:
            raise ModelError(
                f"cannot write {str(data)!r}: tensor {tensor.name!r} of the model is still read from that file; "
                "give another name"
            )


def _whole(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model without external data: itself, or a copy that has read it."""
    if next(_external(model), None) is None:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _external(copy):
        take_in(tensor)
    return copy


def _raw(tensor: onnx.TensorProto) -> bytes | memoryview:
    if is_external(tensor):
        return mapped(tensor).data
    if tensor.HasField("raw_data"):
        return tensor.raw_data
    return numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data


def _copy_fields(source: Any, target: Any, *, leave: str, only: tuple[str, ...] | None = None) -> None:
    for descriptor, value in source.ListFields():
        name = descriptor.name
        if name == leave or (only is not None and name not in only):
            continue
        if hasattr(value, "MergeFrom"):
            getattr(target, name).MergeFrom(value)
        else:
            setattr(target, name, value)
