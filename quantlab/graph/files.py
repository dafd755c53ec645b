"""Model files: read whole, external data included, and written so that no reader ever sees half of one.

A file is written under a temporary name in the folder of its target and renamed when it is complete. Protobuf ends at
2 GiB; a larger model gets its weights in one file `NAME.data` beside it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]
from onnx import external_data_helper, numpy_helper

from quantlab.errors import ModelError

MAX_PROTOBUF_BYTES = 2**31 - 1
"""The longest message protobuf reads or writes."""

_ALIGNMENT = 4096
"""Bytes to which external tensors are aligned, so that they can be mapped into memory."""

_NARROW_BITS = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4, 23: 4, 25: 2, 26: 2}
"""Bits of the types narrower than a byte; FLOAT4E2M1, UINT2 and INT2 by number, as older releases of onnx lack them."""


def load(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> onnx.ModelProto:
    """Read a model, weights kept in files beside it included.

    Args:
        source: Path of a model file, the bytes of one, or a model, which is returned as it is.

    Returns:
        The model with all its data in memory. The file is only read.

    Raises:
        ModelError: There is no such file, it holds no ONNX model, or its external data is missing or has a wrong size.
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
    for tensor in _external(model):
        _load_external(tensor, path)
    return model


def save(model: onnx.ModelProto, path: str | os.PathLike[str], *, external_above: int = MAX_PROTOBUF_BYTES) -> None:
    """Write a model, all of it or nothing; an older file of that name is replaced only by a complete one.

    Args:
        model: The model to write; it is not changed.
        path: Where to write. The folder has to exist.
        external_above: Bytes of weights above which they go into one file `NAME.data` beside the model.

    Raises:
        ModelError: The folder is missing or cannot be written, or the model is too large even without its weights.
    """
    if sum(data_bytes(tensor) or 0 for tensor in tensors_of(model)) <= external_above:
        try:
            content = model.SerializeToString()
        except (EncodeError, ValueError):  # nodes and names pushed it above the limit
            content = b""
        if content:
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)
            return
    _save_with_data_file(model, path)


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


def data_bytes(tensor: onnx.TensorProto) -> int | None:
    """Return how many bytes the values of a tensor take, or None for strings and types without a fixed size."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    if tensor.data_type in _NARROW_BITS:
        return -(-count * _NARROW_BITS[tensor.data_type] // 8)
    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return None
    try:
        return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:
        return None


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
    return (tensor for tensor in tensors_of(model) if tensor.data_location == onnx.TensorProto.EXTERNAL)


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


def _load_external(tensor: onnx.TensorProto, path: Path) -> None:
    try:
        external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"the external data of tensor {tensor.name!r} of {str(path)!r} cannot be read: {error}"
        ) from error
    wanted = data_bytes(tensor)
    if wanted is not None and wanted != len(tensor.raw_data):
        raise ModelError(
            f"the external data of tensor {tensor.name!r} of {str(path)!r} has {len(tensor.raw_data)} bytes, "
            f"its shape {tuple(tensor.dims)} needs {wanted}: the data file does not belong to this model"
        )


def _save_with_data_file(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    target = Path(os.path.realpath(path))
    data = target.with_name(target.name + ".data")
    copy, large = split_weights(model)
    with atomic_write(target) as model_file, atomic_write(data) as data_file:
        with data_file.open("wb") as stream:
            for tensor in large.values():
                raw = _raw(tensor)
                stream.write(bytes(-stream.tell() % _ALIGNMENT))
                entry = copy.graph.initializer.add()
                _copy_fields(
                    tensor, entry, leave="raw_data", only=("name", "dims", "data_type", "doc_string", "metadata_props")
                )
                entry.data_location = onnx.TensorProto.EXTERNAL
                for key, value in (("location", data.name), ("offset", stream.tell()), ("length", len(raw))):
                    entry.external_data.add(key=key, value=str(value))
                stream.write(raw)
        try:
            model_file.write_bytes(copy.SerializeToString())
        except (EncodeError, ValueError) as error:
            raise ModelError(
                f"cannot write {str(path)!r}: without the initializers of its main graph the model is still above "
                "2 GiB; turn large Constant nodes into initializers"
            ) from error


def _raw(tensor: onnx.TensorProto) -> bytes:
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
