"""onnxruntime as a backend: the one file that runs models with it."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from quantlab.arrays import BY_ONNX_CODE
from quantlab.backend.base import Array, Batch, Runner
from quantlab.data import InputSpec, Signature
from quantlab.errors import ModelError, OptionError, QuantlabError, nearest
from quantlab.graph import GraphView, subgraphs
from quantlab.graph.check import foreign_nodes
from quantlab.graph.expose import expose
from quantlab.graph.files import load, portable

DATA_FOLDER = "session.model_external_initializers_file_folder_path"
"""The session option that says where the external data of a serialized model lies."""

_PROVIDER = "ExecutionProvider"

BFLOAT16 = onnx.TensorProto.BFLOAT16
FLOAT8 = frozenset(code for code, kind in BY_ONNX_CODE.items() if kind.is_float)
"""`onnx.TensorProto.DataType` of the float8 types."""


@dataclass(frozen=True, kw_only=True)
class OrtBackend:
    """Runs models in onnxruntime.

    bfloat16 tensors come out as float32, which holds every one of their values; inputs of that type may be given as any
    floats, and are rounded to it.

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

    def session(self, model: onnx.ModelProto, options: Any = None) -> Any:
        """Open an `onnxruntime.InferenceSession` on a model.

        Args:
            model: The model, of any size: onnxruntime reads weights that lie in files from there.
            options: `onnxruntime.SessionOptions` in place of those that `threads` and `optimize` stand for.

        Returns:
            The session.

        Raises:
            ModelError: onnxruntime does not load the model; its own words follow.
            QuantlabError: onnxruntime is not installed.
        """
        runtime = _runtime()
        options = self._options(runtime, model) if options is None else options
        with portable(model) as (source, folder):
            if folder is not None:
                options.add_session_config_entry(DATA_FOLDER, str(folder))
            try:
                return runtime.InferenceSession(source, options, providers=list(self.providers))
            except Exception as error:  # onnxruntime raises a dozen unrelated classes
                raise ModelError(f"onnxruntime does not load the model: {error}{_foreign(model)}") from error

    def _options(self, runtime: Any, model: onnx.ModelProto) -> Any:
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self.threads
        level = runtime.GraphOptimizationLevel
        # It joins roundings to float8 into operators on integers, and refuses what it has made.
        most = level.ORT_ENABLE_BASIC if _rounds_to_float8(model.graph) else level.ORT_ENABLE_ALL
        options.graph_optimization_level = most if self.optimize else level.ORT_DISABLE_ALL
        return options

    def open(self, model: onnx.ModelProto, tensors: Sequence[str] | None = None) -> Runner:
        """Load a model with the asked tensors among its outputs; see `Backend.open`.

        Raises:
            ModelError: onnxruntime does not load the model, or fails on a batch later; its own words follow.
        """
        names = [value.name for value in model.graph.output] if tensors is None else list(dict.fromkeys(tensors))
        given = {value.name for value in model.graph.input}
        inner = [name for name in names if name not in given]
        session = self.session(expose(model, inner, keep_outputs=not inner))
        short = [value.name for value in model.graph.input if value.type.tensor_type.elem_type == BFLOAT16]
        kind = helper.tensor_dtype_to_np_dtype(BFLOAT16)

        def run(batch: Batch) -> dict[str, Array]:
            rounded = {name: np.asarray(batch[name]).astype(kind) for name in short}
            try:
                fed = {name: array for name, array in batch.items() if name in given}
                feed = {**fed, **{name: _handed_over(array) for name, array in rounded.items()}}
                values = dict(zip(inner, session.run(None, feed), strict=False))
            except Exception as error:  # onnxruntime raises a dozen unrelated classes
                raise ModelError(f"onnxruntime fails on a sample: {error}") from error
            values |= {name: np.asarray(batch[name]) for name in names if name in given and name not in rounded}
            values |= {name: rounded[name].astype(np.float32) for name in names if name in rounded}
            return {name: values[name] for name in names}

        return run


def _rounds_to_float8(graph: onnx.GraphProto) -> bool:
    """Say whether a graph, or one inside it, has a QuantizeLinear to a float8 type."""
    zeros = {tensor.name for tensor in graph.initializer if tensor.data_type in FLOAT8}
    for node in graph.node:
        if zeros and node.op_type == "QuantizeLinear" and len(node.input) > 2 and node.input[2] in zeros:
            return True
        if node.attribute and any(_rounds_to_float8(inner) for inner in subgraphs(node)):
            return True
    return False


def _handed_over(array: Array) -> Any:
    """Wrap a bfloat16 array for onnxruntime, which takes the bits of the type but not NumPy's extension of it."""
    bits = np.ascontiguousarray(array).reshape(array.shape).view(np.uint16)
    return _runtime().OrtValue.ortvalue_from_numpy_with_onnx_type(bits, BFLOAT16)


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


def provider_named(name: str) -> str:
    """Return the full name of an execution provider that is there.

    Args:
        name: Its name in onnxruntime, or the short form of it, such as `"cpu"` or `"cuda"`; case does not matter.

    Returns:
        Such as `"CPUExecutionProvider"`.

    Raises:
        OptionError: This onnxruntime does not have it; the text lists those it has.
    """
    available = [str(each) for each in _runtime().get_available_providers()]
    wanted = name.lower().removesuffix(_PROVIDER.lower())
    for each in available:
        if each.removesuffix(_PROVIDER).lower() == wanted:
            return each
    short = [each.removesuffix(_PROVIDER).lower() for each in available]
    raise OptionError(
        f"execution provider {name!r} is not in this onnxruntime{nearest(wanted, short)} (it has: "
        f"{', '.join(available)}); install the onnxruntime package that brings it"
    )


def optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let onnxruntime optimize a model offline, at its basic level: rewritings that any processor can use.

    Args:
        model: Any model; it is not changed.

    Returns:
        What onnxruntime wrote. Constants keep their names.

    Raises:
        ModelError: onnxruntime does not load the model; its own words follow.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with portable(model) as (source, folder), tempfile.TemporaryDirectory(prefix="quantlab-") as room:
        written = Path(room) / "optimized.onnx"
        options.optimized_model_filepath = str(written)
        # Weights go into a file beside it, whatever their size: protobuf would end at 2 GiB.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimized.data")
        if folder is not None:
            options.add_session_config_entry(DATA_FOLDER, str(folder))
        try:
            runtime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantSharing"]
            )
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise ModelError(f"onnxruntime does not load the model: {error}{_foreign(model)}") from error
        return load(written, map_above=sys.maxsize)


def _foreign(model: onnx.ModelProto) -> str:
    """Say which nodes are of operators that onnxruntime cannot know, for the end of an error text."""
    nodes = foreign_nodes(model)
    if not nodes:
        return ""
    first = nodes[0]
    return (
        f" ({len(nodes)} nodes are of operators that are neither ONNX's nor onnxruntime's own; the first is "
        f"{first.op_type} {first.name!r} of domain {first.domain!r})"
    )


def symbolic_shape_inference() -> Any:
    """Return onnxruntime's class `SymbolicShapeInference`.

    Raises:
        QuantlabError: onnxruntime, or sympy, which the class needs, is not installed.
    """
    _runtime()
    try:
        return importlib.import_module("onnxruntime.tools.symbolic_shape_infer").SymbolicShapeInference
    except ImportError as error:
        raise QuantlabError("it needs sympy: pip install 'quantlab-onnx[runtime]'") from error


def _runtime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise QuantlabError("running a model needs onnxruntime: pip install 'quantlab-onnx[runtime]'") from error
