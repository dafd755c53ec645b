"""Samples named on the command line: opened before any work begins, counted while they are used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.progress import known_total

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from quantlab.data import ImageOptions


class Samples:
    """A stream of batches that counts the samples it hands out.

    Attributes:
        per_batch: Samples in one batch, as far as the model tells.
        seen: Samples handed out in the last pass.
    """

    def __init__(
        self,
        path: Path,
        model: onnx.ModelProto,
        *,
        max_samples: int | None = None,
        images: ImageOptions | None = None,
        optional: Iterable[str] = (),
        labels: Iterable[str] = (),
    ) -> None:
        from quantlab.backend import signature
        from quantlab.data import batches

        self._signature = signature(model).with_optional(optional)
        self._batches = batches(path, self._signature, max_samples=max_samples, images=images, labels=labels)
        self.per_batch = self._signature.batch_size or 1
        self.seen = 0

    def __length_hint__(self) -> int:
        return known_total(self._batches) or 0

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        self.seen = 0
        for batch in self._batches:
            self.seen += self._signature.samples_in(batch)
            yield batch
