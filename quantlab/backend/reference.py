"""The reference evaluator of the onnx package as a backend: slow, and written after the text of each operator.

Models are raised to opset 21 first: the evaluator of onnx 1.23 has no DequantizeLinear before 19, and in
BatchNormalization before 14 it mixes the statistics of the batch into the stored ones, as training does.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.backend.base import Array, Batch, Runner
from quantlab.backend.ort import signature
from quantlab.data import Signature
from quantlab.errors import ModelError
from quantlab.graph.expose import expose
from quantlab.graph.prepare.opset import raise_opset

OPSET = 21


@dataclass(frozen=True, kw_only=True)
class ReferenceBackend:
    """Runs models in `onnx.reference`, node by node in NumPy."""

    @property
    def cores(self) -> int:
        """How many cores one run keeps busy."""
        return 1

    def signature(self, model: onnx.ModelProto) -> Signature:
        """Return names, types and shapes of a model's inputs."""
        return signature(model)

    def open(self, model: onnx.ModelProto, tensors: Sequence[str] | None = None) -> Runner:
        """Make a model ready to run; see `Backend.open`.

        Raises:
            ModelError: The evaluator does not know an operator, or fails on a batch later; its own words follow.
        """
        names = [value.name for value in model.graph.output] if tensors is None else list(dict.fromkeys(tensors))
        given = {value.name for value in model.graph.input}
        inner = [name for name in names if name not in given]
        # Found by name, so that nothing of it loads before it is needed.
        evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator
        raised = raise_opset(OPSET)(model).model
        try:
            session = evaluator(expose(raised, inner, keep_outputs=not inner))
        except Exception as error:  # it raises whatever its code runs into
            raise ModelError(f"onnx's reference evaluator does not load the model: {error}") from error

        def run(batch: Batch) -> dict[str, Array]:
            try:
                found = session.run(None, {name: array for name, array in batch.items() if name in given})
            except Exception as error:  # as above
                raise ModelError(f"onnx's reference evaluator fails on a sample: {error}") from error
            values = dict(zip(inner, map(np.asarray, found), strict=False))
            values |= {name: np.asarray(batch[name]) for name in names if name in given}
            return {name: values[name] for name in names}

        return run
