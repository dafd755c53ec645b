"""Google's file type detector, shown the files of Python packages."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType

import numpy as np

from .case import Array, Case, Sample, accuracy
from .fetch import member, member_names, members
from .packages import GENSIM, MAGIKA, MATPLOTLIB, MLXTEND, RAPIDOCR, SCIKIT_IMAGE

_FOLDER = "magika/models/standard_v3_3"
_HALF, _BLOCK, _PADDING = 1024, 4096, 256
_EACH = 24  # most files of one type, so that Python code does not drown the rest
_CALIBRATION = 32
_HOLDERS = (GENSIM, MATPLOTLIB, SCIKIT_IMAGE, MLXTEND, RAPIDOCR)

# Only endings that name a type beyond doubt: `.txt`, `.dat`, `.h` and the like can hold several.
_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "bz2": "bzip",
        "c": "c",
        "cpp": "cpp",
        "css": "css",
        "csv": "csv",
        "gif": "gif",
        "gz": "gzip",
        "html": "html",
        "jpg": "jpeg",
        "js": "javascript",
        "json": "json",
        "md": "markdown",
        "npy": "npy",
        "npz": "npz",
        "onnx": "onnx",
        "pdf": "pdf",
        "png": "png",
        "py": "python",
        "pyi": "python",
        "so": "elf",
        "svg": "svg",
        "tif": "tiff",
        "tsv": "tsv",
        "ttf": "ttf",
        "xml": "xml",
        "yaml": "yaml",
    }
)


def build() -> bytes:
    """Return the model as the package carries it."""
    return member(MAGIKA, f"{_FOLDER}/model.onnx")


def calibration() -> list[Sample]:
    """Give 32 files."""
    return [sample for sample, _ in _files()[:_CALIBRATION]]


def evaluation() -> list[Sample]:
    """Give all other files, at most 24 of an ending less those that calibrate."""
    return [sample for sample, _ in _files()[_CALIBRATION:]]


def told_right(outputs: Sequence[Sequence[Array]]) -> float:
    """Share of files whose likeliest type is that of their ending."""
    names = _type_names()
    true = [names.index(kind) for _, kind in _files()[_CALIBRATION:]]
    return accuracy([int(output[0][0].argmax()) for output in outputs], true)


@functools.cache
def _type_names() -> tuple[str, ...]:
    return tuple(json.loads(member(MAGIKA, f"{_FOLDER}/config.min.json"))["target_labels_space"])


@functools.cache
def _files() -> tuple[tuple[Sample, str], ...]:
    """Return samples and types in an order drawn once; no two samples are equal."""
    rng = np.random.default_rng(1)
    named = [(holder, name) for holder in _HOLDERS for name in member_names(holder) if _ending(name) in _TYPES]
    taken: dict[str, int] = {}
    seen: set[bytes] = set()
    found: list[tuple[Sample, str]] = []
    for index in rng.permutation(len(named)):
        holder, name = named[int(index)]
        ending = _ending(name)
        if taken.get(ending, 0) >= _EACH:
            continue
        sample = _features(members(holder, [name])[name])
        mark = sample.tobytes()
        if (sample != _PADDING).sum() < 64 or mark in seen:  # a near-empty file has no type to tell
            continue
        seen.add(mark)
        taken[ending] = taken.get(ending, 0) + 1
        found.append(({"bytes": sample[None]}, _TYPES[ending]))
    return tuple(found)


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.removeprefix(".").lower()


def _features(content: bytes) -> Array:
    """Return what the model sees: the first and the last 1,024 bytes without outer white space, `(2048,)` int32.

    Each half is cut from a block of 4,096 bytes; what is missing is 256, at the end of the first half and at the start
    of the second.
    """
    head, tail = content[:_BLOCK].lstrip()[:_HALF], content[-_BLOCK:].rstrip()[-_HALF:]
    found = np.full(2 * _HALF, _PADDING, np.int32)
    found[: len(head)] = np.frombuffer(head, np.uint8)
    found[2 * _HALF - len(tail) :] = np.frombuffer(tail, np.uint8)
    return found


CASE = Case(
    key="magika",
    title="Magika: which type a file has",
    licence=MAGIKA.licence,
    source=f"{MAGIKA.name}=={MAGIKA.version} {_FOLDER}/model.onnx",
    labels="the endings of the files inside Python packages, only those that name a type beyond doubt",
    metric_name="accuracy",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=told_right,
)
