"""The kind of data is told by what it is and what it can do: a path, an array, a mapping, an iterable, a reader."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from quantlab.data.files import ARRAY_SUFFIXES, array_files, columns_of
from quantlab.data.images import IMAGE_SUFFIXES, ImageOptions, ImagePipeline, image_pipeline
from quantlab.data.readers import Ranged, has_ranges
from quantlab.data.signature import Array, Signature
from quantlab.data.sources import ArrayColumn, Column, Indexed, Source, Stream, arrays_of
from quantlab.data.stacks import check_batch_size, check_full_batch, check_ragged, stacked
from quantlab.errors import DataError, OptionError

KNOWN_SUFFIXES = (*ARRAY_SUFFIXES, *IMAGE_SUFFIXES)
AGAIN = "give a list, or the function that makes the iterator instead of its result"


def source_of(
    data: object,
    signature: Signature,
    *,
    max_samples: int | None = None,
    batch_size: int | None = None,
    images: ImageOptions | None = None,
) -> tuple[Source, int | None]:
    """Find out what the data is.

    Args:
        data: Anything `batches` takes.
        signature: What the model wants.
        max_samples: Samples to use at most.
        batch_size: Samples a batch, for stacks and pictures.
        images: How pictures become inputs.

    Returns:
        The source, and the limit on samples that is still to be kept while reading it.

    Raises:
        DataError: Nothing usable; the text lists what is.
        OptionError: An option does not go with this kind of data.
    """
    name, paths = _name(data), _paths(data)
    if paths and all(path.suffix.lower() in IMAGE_SUFFIXES for path in paths):
        return _pictures(paths, signature, name, options=images, batch_size=batch_size, max_samples=max_samples), None
    if images is not None:
        raise OptionError(f"images= goes with picture files, and {name} has none; leave it out")
    columns = _columns(data, signature)
    if columns is not None:
        return stacked(columns, signature, name, batch_size=batch_size, max_samples=max_samples), None
    if batch_size is not None:
        raise OptionError(
            f"batch_size={batch_size} cuts stacked arrays and groups pictures, but {name} gives whole batches; "
            "leave it out"
        )
    if paths:
        return array_files(paths, signature, name), max_samples
    return _iterated(data, signature, name), max_samples


def _name(data: object) -> str:
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        return f"{'folder' if path.is_dir() else 'file'} '{path}'"
    return f"the data ({type(data).__name__})"


def _paths(data: object) -> list[Path]:
    """List the files that data names: those of a folder, one file, or a list of files; nothing for other data."""
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        if not path.exists():
            raise DataError(f"'{path}' does not exist; give the path of a file or folder with data")
        return _folder(path) if path.is_dir() else [_known(path)]
    if isinstance(data, list | tuple) and data and all(isinstance(path, str | os.PathLike) for path in data):
        return _of_one_kind([_known(Path(path)) for path in data], "the list of files")
    return []


def _folder(folder: Path) -> list[Path]:
    inside = sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
    # Names with a leading dot are left behind by file managers, such as ._photo.jpg.
    found = [p for p in inside if p.suffix.lower() in KNOWN_SUFFIXES and p.name[0] != "." and p.is_file()]
    if not found:
        raise DataError(
            f"no data: folder '{folder}' has no files of a known kind; add some ({', '.join(KNOWN_SUFFIXES)})"
        )
    return _of_one_kind(found, f"folder '{folder}'")


def _of_one_kind(paths: list[Path], name: str) -> list[Path]:
    arrays = [path for path in paths if path.suffix.lower() in ARRAY_SUFFIXES]
    if arrays and len(arrays) < len(paths):
        raise DataError(
            f"{name} holds {len(arrays)} array files and {len(paths) - len(arrays)} pictures; "
            "keep one kind, or put them in two folders"
        )
    return paths


def _known(path: Path) -> Path:
    if path.suffix.lower() not in KNOWN_SUFFIXES:
        raise DataError(f"file '{path}' is of no known kind; allowed are {', '.join(KNOWN_SUFFIXES)}: convert it")
    if not path.is_file():
        raise DataError(f"file '{path}' does not exist; correct the path")
    return path


def _columns(data: object, signature: Signature) -> Mapping[str, Column] | None:
    """Return the stacks in the data, None when it holds no stacks."""
    if isinstance(data, str | os.PathLike):
        return None if Path(data).is_dir() else columns_of(Path(data), signature)
    if isinstance(data, Mapping) or _is_array(data):
        arrays = arrays_of(data, signature, "stacked samples")
        return {name: ArrayColumn(array=array) for name, array in arrays.items()}
    return None


def _is_array(data: object) -> bool:
    return isinstance(data, np.ndarray) or hasattr(data, "__array__") or callable(getattr(data, "numpy", None))


def _pictures(
    paths: Sequence[Path],
    signature: Signature,
    name: str,
    *,
    options: ImageOptions | None,
    batch_size: int | None,
    max_samples: int | None,
) -> Indexed:
    if len(signature.required) > 1:
        raise DataError(
            f"{name} holds pictures for one input, and the model has {signature.listed}; make dicts with all of them, "
            "reading pictures with image_pipeline(signature['...'], options)(path)"
        )
    check_batch_size(batch_size, signature)
    spec = (signature.required or signature.inputs)[0]
    pipeline = image_pipeline(spec, options)
    fixed = signature.batch_size
    size = fixed or batch_size or 1
    if max_samples is not None:
        paths = paths[: max_samples if fixed is None else check_full_batch(max_samples, fixed, name) * fixed]
    if fixed is not None:
        check_ragged(len(paths), fixed, name)
    groups = [paths[start : start + size] for start in range(0, len(paths), size)]
    get = partial(_batch_of_pictures, groups, pipeline, spec.name)
    return Indexed(name=name, count=len(groups), get=get, label=partial(_pictures_label, groups))


def _batch_of_pictures(
    groups: Sequence[Sequence[Path]], pipeline: ImagePipeline, name: str, index: int
) -> Mapping[str, Array]:
    return {name: np.concatenate([pipeline(path) for path in groups[index]])}


def _pictures_label(groups: Sequence[Sequence[Path]], index: int) -> str:
    first, *others = groups[index]
    return f"image '{first}'" + (f" and {len(others)} more" if others else "")


def _iterated(data: object, signature: Signature, name: str) -> Source:
    count = _length(data)
    if callable(getattr(data, "get_next", None)):
        if count is not None and has_ranges(data, count):
            return Ranged(data, count, signature, name)
        rewind = getattr(data, "rewind", None)
        return Stream(
            name=name,
            start=lambda: _pulled(data.get_next),  # type: ignore[attr-defined]
            signature=signature,
            again=rewind if callable(rewind) else None,
            cure="give the reader a method rewind() that starts again from the first sample",
            count=count,
            concurrent=False,
        )
    if count is not None and hasattr(data, "__getitem__") and (isinstance(data, Sequence) or not _iterable(data)):
        return _by_number(data, count, signature, name)
    if isinstance(data, Iterable):
        once = iter(data) is data or not getattr(data, "repeatable", True)
        again = None if once else _nothing
        return Stream(
            name=name,
            start=lambda: data,
            signature=signature,
            again=again,
            cure=AGAIN,
            count=count,
            concurrent=getattr(data, "concurrent", True),
        )
    if callable(data):
        return Stream(name=name, start=data, signature=signature, again=_nothing)
    raise DataError(
        f"{name} cannot be used; allowed are a path to .npz, .npy or a folder, an array, a dict of arrays, an iterable "
        "of dicts, tuples or arrays, a function that returns one, and a reader with get_next()"
    )


def _by_number(data: Any, count: int, signature: Signature, name: str) -> Indexed:
    if count == 0:
        raise DataError(f"no data: {name} is empty; give some samples")
    return Indexed(name=name, count=count, get=partial(_item, data, signature))


def _item(data: Any, signature: Signature, index: int) -> Mapping[str, Array]:
    return arrays_of(data[index], signature, f"sample {index}")


def _iterable(data: object) -> bool:
    return hasattr(data, "__iter__")


def _nothing() -> None:
    """Prepare a further pass over a source that needs no preparation."""


def _pulled(get_next: Callable[[], object]) -> Iterator[object]:
    while (item := get_next()) is not None:
        yield item


def _length(data: object) -> int | None:
    try:
        return len(data)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):  # readers made for onnxruntime inherit a __len__ that raises the latter
        return None
