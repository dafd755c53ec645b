"""What quantlab promises about any float model, checked on one: prepared it computes the same, quantized it runs.

Models are run by onnxruntime itself, on one thread, with its optimizations on and off.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

Array: TypeAlias = npt.NDArray[Any]
Outputs: TypeAlias = list[list[Array]]
"""For each sample the outputs of a model in its own order."""

MODES = (True, False)
"""Whether onnxruntime optimizes the graph."""

SERVED = re.compile(r"infer-shapes: (.+) found types and shapes of (\d+) tensors")
RUNGS = {
    "onnx": "onnx",
    "onnxruntime's symbolic inference": "symbolic",
    "onnxruntime's symbolic inference with clashing sizes taken as equal": "symbolic, merged",
}
"""Rung of the shape ladder as its notes call it, and in short; any other one has run the model."""

CHANGES_NOTHING = ("infer-shapes", "note-masks")


def outputs(model: onnx.ModelProto, samples: Sequence[dict[str, Array]], *, optimize: bool) -> Outputs:
    """Run a model.

    Args:
        model: Any model below 2 GB.
        samples: Input name to array, one mapping a run.
        optimize: Whether onnxruntime optimizes it first.

    Returns:
        The outputs of every run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(None, sample) for sample in samples]


def checked_outputs(model: onnx.ModelProto, samples: Sequence[dict[str, Array]]) -> Outputs:
    """Have onnx's checker look at a model, and run it in both modes.

    Returns:
        The outputs with optimizations.
    """
    onnx.checker.check_model(model)
    optimized, _ = (outputs(model, samples, optimize=mode) for mode in MODES)
    return optimized


def difference(exact: Outputs, found: Outputs) -> float:
    """Return by how much outputs differ, as a share of what is largest in them.

    Args:
        exact: Outputs of one model.
        found: Those of another on the same samples.

    Returns:
        The maximum of |x - y| / max |x| over outputs and samples. Infinite where types, shapes, integers or the places
        of what is not finite differ.

    Example:
        >>> difference([[np.array([1.0, 4.0])]], [[np.array([1.0, 3.0])]])
        0.25
    """
    pairs = [pair for wanted, got in zip(exact, found, strict=True) for pair in zip(wanted, got, strict=True)]
    return max((_apart(x, y) for x, y in pairs), default=0.0)


def _apart(x: Array, y: Array) -> float:
    if x.dtype != y.dtype or x.shape != y.shape:
        return float("inf")
    if not np.issubdtype(x.dtype, np.floating):
        return 0.0 if np.array_equal(x, y) else float("inf")
    finite = np.isfinite(x)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True) or not np.isfinite(y[finite]).all():
        return float("inf")
    a, b = x[finite].astype(np.float64), y[finite].astype(np.float64)
    apart = float(np.abs(a - b).max(initial=0.0))
    return apart / float(np.abs(a).max()) if apart and a.any() else float("inf") if apart else 0.0


def rounding_bound(model: onnx.ModelProto, own: float = 0.0) -> float:
    """Return what still counts as float rounding between two forms of a model.

    Every node rounds, and rounding errors of one step each add up at most so far; where onnxruntime's own
    optimizations already make a larger difference, twice that.

    Args:
        model: The float model.
        own: `difference` between its outputs with and without onnxruntime's optimizations.

    Returns:
        A bound for `difference`.
    """
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    step = float(np.finfo(np.float16 if half else np.float32).eps)
    return max(2 * own, len(model.graph.node) * step)


def sqnr(exact: Outputs, found: Outputs) -> float:
    """Return the signal-to-quantization-noise ratio over all floating-point outputs in dB; infinite without noise.

    Raises:
        ValueError: An output has another shape, or is not a number where the exact one is.
    """
    signal = noise = 0.0
    for wanted, got in zip(exact, found, strict=True):
        for x, y in zip(wanted, got, strict=True):
            if np.issubdtype(x.dtype, np.floating):
                signal += float(np.sum(x.astype(np.float64) ** 2))
                if x.shape != y.shape:
                    raise ValueError(f"an output of shape {x.shape} came out with shape {y.shape}")
                noise += float(np.sum((x.astype(np.float64) - y) ** 2))
    if math.isfinite(signal) and not math.isfinite(noise):
        raise ValueError("an output is not finite where it should be")
    if not noise:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def rungs(notes: Sequence[str]) -> dict[str, int]:
    """Return which rungs of the shape ladder served how many tensors, from the notes of preparation.

    Example:
        >>> rungs(["infer-shapes: onnx found types and shapes of 3 tensors: 'a', 'b', 'c'"])
        {'onnx': 3}
    """
    found: dict[str, int] = {}
    for note in notes:
        if match := SERVED.match(note):
            name = RUNGS.get(match[1], "runs")
            found[name] = found.get(name, 0) + int(match[2])
    return found


def changes(notes: Sequence[str]) -> dict[str, int]:
    """Return the passes that changed something, in their order, and how much each changed.

    A note stands for one change, or says how many it stands for in its first word.

    Example:
        >>> changes(["lift-constants: 9 Constant nodes became initializers", "raise-opset: opset 11 became 13"])
        {'lift-constants': 9, 'raise-opset': 1}
        >>> changes(["fold-constants: left Loop 'a' alone: a subgraph"])
        {}
    """
    found: Counter[str] = Counter()
    for note in notes:
        name, text = note.split(": ", 1)
        first = text.split(" ", 1)[0]
        if name not in CHANGES_NOTHING and first != "left":
            found[name] += int(first) if first.isdecimal() else 1
    return dict(found)


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set."""
    return max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many nodes there are of each operator, those inside control flow included, most frequent first."""
    return dict(Counter(node.op_type for node in _nodes(model.graph)).most_common())


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else [])):
                yield from _nodes(inner)


def has_bodies(model: onnx.ModelProto) -> bool:
    """Return whether a model has control flow."""
    graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(attribute.type in graphs for node in model.graph.node for attribute in node.attribute)
