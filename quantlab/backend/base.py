"""A Backend runs a model on batches and hands back the tensors asked for; the engine knows nothing else about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt
import onnx

from quantlab.data import Signature

Batch = Mapping[str, npt.NDArray[Any]]


class Backend(Protocol):
    """Runs models."""

    def signature(self, model: onnx.ModelProto) -> Signature:
        """Return names, types and shapes of a model's inputs."""
        ...

    def stream(
        self, model: onnx.ModelProto, batches: Iterable[Batch], tensors: Sequence[str] | None = None
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Run a model on one batch after the other.

        Args:
            model: The model.
            batches: Input name to array, one mapping a run.
            tensors: Any tensors of the main graph, inputs included; None for the model's outputs.

        Yields:
            Tensor name to value, one mapping a batch.
        """
        ...
