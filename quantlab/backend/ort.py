"""onnxruntime as a backend: the one file that imports it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from quantlab.backend.base import Array, Batch, Runner
from quantlab.data import InputSpec, Signature
from quantlab.errors import ModelError, QuantlabError
from quantlab.graph import GraphView
from quantlab.graph.expose import expose


@dataclass(frozen=True, kw_only=True)
class OrtBackend:
    """Runs models in onnxruntime.

    Attributes:
        threads: Threads within one operator; 0 lets onnxruntime take all cores. The last bits of a result depend on it.
        optimize: Whether the graph is optimized first. Off gives the numbers of onnxruntime.quantization's calibrators
            to the bit, at several times the cost.
        providers: Execution providers in order of preference.
    """

    threads: int = 0
    optimize: bool = True
    providers: tuple[str, ...] = ("CPUExecutionProvider",)

    @property
    def cores(self) -> int:
        """How many cores one run keeps busy."""
        return self.threads or usable_cores()

    def signature(self, model: onnx.ModelProto) -> Signature:
        """Return names, types and shapes of a model's inputs."""
        return signature(model)

    def session(self, model: onnx.ModelProto) -> Any:
        """Open an `onnxruntime.InferenceSession` on a model.

        Args:
            model: A model below 2 GB.

        Returns:
            The session.

        Raises:
            ModelError: onnxruntime does not load the model; its own words follow.
            QuantlabError: onnxruntime is not installed.
        """
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self.threads
        level = runtime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if self.optimize else level.ORT_DISABLE_ALL
        try:
            return runtime.InferenceSession(model.SerializeToString(), options, providers=list(self.providers))
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise ModelError(f"onnxruntime does not load the model: {error}") from error

    def open(self, model: onnx.ModelProto, tensors: Sequence[str] | None = None) -> Runner:
        """Load a model with the asked tensors among its outputs; see `Backend.open`.

        Raises:
            ModelError: onnxruntime does not load the model, or fails on a batch later; its own words follow.
        """
        names = [value.name for value in model.graph.output] if tensors is None else list(dict.fromkeys(tensors))
        given = {value.name for value in model.graph.input}
        inner = [name for name in names if name not in given]
        session = self.session(expose(model, inner, keep_outputs=not inner))

        def run(batch: Batch) -> dict[str, Array]:
            try:
                values = dict(zip(inner, session.run(inner or None, dict(batch)), strict=False))
            except Exception as error:  # onnxruntime raises a dozen unrelated classes
                raise ModelError(f"onnxruntime fails on a sample: {error}") from error
            return {name: np.asarray(batch[name]) if name in given else values[name] for name in names}

        return run


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def signature(model: onnx.ModelProto) -> Signature:
    """Return names, types and shapes of a model's inputs; initializers that are listed as inputs are left out.

    Args:
        model: Any model.

    Returns:
        The inputs in the model's order; symbolic sizes keep their names, unknown ones are None.
    """
    view = GraphView.of(model)
    specs = []
    for name in view.inputs:
        code = view.element_type(name)
        kind = np.dtype(np.float32) if code is None else helper.tensor_dtype_to_np_dtype(code)
        specs.append(InputSpec(name=name, dtype=kind, shape=view.shape(name) or ()))
    return Signature(inputs=tuple(specs))


def latencies(session: Any, batch: Batch, *, runs: int, warm_up: int = 3) -> npt.NDArray[np.float64]:
    """Time a session on one batch.

    Args:
        session: What `OrtBackend.session` returned.
        batch: Input name to array.
        runs: How many runs are timed.
        warm_up: How many runs go before them.

    Returns:
        Seconds of each timed run, shape (runs,).
    """
    feed = dict(batch)
    for _ in range(warm_up):
        session.run(None, feed)
    seconds = np.empty(runs)
    for index in range(runs):
        start = perf_counter()
        session.run(None, feed)
        seconds[index] = perf_counter() - start
    return seconds


def _runtime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise QuantlabError("running a model needs onnxruntime: pip install 'quantlab-onnx[runtime]'") from error
