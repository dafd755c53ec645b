"""A Sampling says which samples are used and in what batches: `batch` samples at a time, `iterations` times.

Data may hold labels, arrays that the model does not take. They travel along in every batch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantlab.backend import Array
from quantlab.data import Batches, ImageOptions, Signature, batches
from quantlab.data.files import columns_of
from quantlab.errors import DataError, OptionError
from quantlab.workflow.checkpoint import batch_hash

DUMMY = "dummy"
"""In place of data: standard normal numbers, which look like no real input."""

SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampling:
    """Which samples, in what batches.

    Attributes:
        data: Anything that `quantlab.batches` takes and that can be read again; or `"dummy"` for numbers from a
            standard normal distribution, always the same, in the shape of the evaluation data.
        batch: Samples a batch, where the model leaves it open; None for single samples.
        iterations: Batches to use at most; None for all, and for one batch of dummy data.
        images: How pictures become inputs.

    Raises:
        OptionError: A number is below 1.
    """

    data: Any
    batch: int | None = None
    iterations: int | None = None
    images: ImageOptions | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "iterations"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"{name} must be an integer of at least 1, got {value!r}")

    @property
    def is_dummy(self) -> bool:
        """Whether there is no data behind it."""
        return isinstance(self.data, str) and self.data == DUMMY

    def open(self, model: Signature, *, labels: Iterable[str] = (), like: Sampling | None = None) -> Batches:
        """Open the samples, with the labels among them.

        Args:
            model: What the model wants.
            labels: Names of arrays that travel along.
            like: Real samples, for the shapes of dummy data.

        Returns:
            The batches.

        Raises:
            DataError: The data cannot be used, or only once; or dummy data has nothing to take its shapes from.
        """
        if self.is_dummy:
            if like is None or like.is_dummy:
                raise DataError("dummy data takes its shapes from real evaluation data: give some")
            return batches(self._dummy(model, like, labels), model, batch_size=self.batch)
        found = batches(self.data, model, batch_size=self.batch, images=self.images, labels=labels)
        if not found.repeatable:
            raise DataError("an ablation reads its data many times: give arrays, files, a folder or a list")
        return found.strided(0, self.iterations)

    def having(self, labels: Iterable[str], model: Signature) -> tuple[str, ...]:
        """Return those of some labels that the data has: calibration needs none, and must pass them over.

        Args:
            labels: Their names.
            model: What the model wants.

        Returns:
            Those that are seen in a dict of stacked arrays, an .npz file, a folder of such files or a list of dicts.
        """
        if self.is_dummy:
            return tuple(labels)
        names: Iterable[str] = ()
        if isinstance(self.data, str | os.PathLike):
            path = next((one for one in _files(Path(self.data)) if one.suffix.lower() == ".npz"), None)
            names = () if path is None else columns_of(path, model)
        else:
            first = self.data[0] if isinstance(self.data, list | tuple) and self.data else self.data
            names = first if isinstance(first, Mapping) else ()
        return tuple(name for name in labels if name in names)

    def _dummy(self, model: Signature, like: Sampling, labels: Iterable[str]) -> dict[str, Array]:
        first = next(iter(like.open(model, labels=labels)))
        rows = model.samples_in(first)
        count = (self.iterations or 1) * (self.batch or model.batch_size or 1)
        generator = np.random.default_rng(SEED)
        made = {}
        for spec in model:
            if not spec.is_float:
                raise DataError(
                    f"dummy data is for floats, and input {spec.name!r} is {spec.dtype.name}: give real data"
                )
            shape = np.shape(first[spec.name])
            inner = shape[1:] if shape and shape[0] == rows else shape
            made[spec.name] = generator.standard_normal((count, *inner)).astype(spec.dtype)
        return made

    def identity(self, model: Signature, *, labels: Iterable[str] = (), like: Sampling | None = None) -> str:
        """Return a hash that is another one when the samples are: of files the names, sizes and times of change.

        Arguments and errors are those of `open`.
        """
        digest = hashlib.sha256(repr((self.batch, self.iterations, self.images)).encode())
        if isinstance(self.data, str | os.PathLike) and not self.is_dummy:
            for path in _files(Path(self.data)):
                state = path.stat()
                digest.update(repr((str(path), state.st_size, state.st_mtime_ns)).encode())
        else:
            for batch in self.open(model, labels=labels, like=like):
                digest.update(batch_hash(batch).encode())
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return what it is as plain JSON values; arrays are named by their type."""
        named = isinstance(self.data, str | os.PathLike)
        data = os.fspath(self.data) if named else f"{type(self.data).__name__} in memory"
        plain: dict[str, Any] = {"data": str(data), "batch": self.batch or 1, "iterations": self.iterations}
        return plain if self.images is None else plain | {"images": asdict(self.images)}


def _files(path: Path) -> Sequence[Path]:
    if not path.exists():
        raise DataError(f"'{path}' does not exist; give the path of a file or folder with data")
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
