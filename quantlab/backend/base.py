"""A Backend opens models, and an opened model is a Runner: a function from a batch to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt
import onnx

from quantlab.data import Signature

Array: TypeAlias = npt.NDArray[Any]
Batch: TypeAlias = Mapping[str, Array]


class Runner(Protocol):
    """An opened model; several threads may call it at once."""

    def __call__(self, batch: Batch) -> dict[str, Array]:
        """Run the model once.

        Args:
            batch: Input name to array; what else travels in it, such as labels, is passed over.

        Returns:
            Tensor name to value, for the tensors the model was opened with; bfloat16 as float32.

        Raises:
            ModelError: The run fails.
        """
        ...


class Backend(Protocol):
    """Opens models."""

    @property
    def cores(self) -> int:
        """How many cores one run keeps busy."""
        ...

    def signature(self, model: onnx.ModelProto) -> Signature:
        """Return names, types and shapes of a model's inputs."""
        ...

    def open(self, model: onnx.ModelProto, tensors: Sequence[str] | None = None) -> Runner:
        """Make a model ready to run.

        Args:
            model: The model.
            tensors: Any tensors of the main graph, inputs included; None for the model's outputs.

        Returns:
            The runner.

        Raises:
            ModelError: The model cannot be loaded.
        """
        ...
