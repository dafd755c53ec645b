"""Cross-checking: quantize a model with quantlab and with onnxruntime.quantization, and say where the two differ.

Both get the same model, samples and options. A written model is the same where its nodes, what they read and make, and
every byte of every initializer are the same. Where they differ, what quantlab's plan says of the tensors and nodes
concerned is the reason that is shown.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import onnx

from quantlab.backend import Batch, OrtBackend
from quantlab.backend.peer import peer_quantize_static
from quantlab.errors import DataError, QuantlabError
from quantlab.graph import captured, subgraphs
from quantlab.graph.tensors import to_array
from quantlab.ort.known_differences import Difference, base, known_differences
from quantlab.ort.option_sets import OptionSet
from quantlab.ort.quantize import quantize_static
from quantlab.progress import Track, quiet
from quantlab.workflow.quantize import QuantResult

Outcome = Literal["identical", "numbers", "graph", "quantlab alone", "peer alone", "neither"]
MEANING: dict[Outcome, str] = {
    "identical": "the same nodes, and the same bytes in every initializer",
    "numbers": "the same nodes, and other numbers in some initializers",
    "graph": "other nodes or tensors",
    "quantlab alone": "the peer fails, or writes what onnxruntime does not load",
    "peer alone": "quantlab refuses",
    "neither": "quantlab refuses, and the peer fails",
}
"""Every outcome of a comparison, in words."""

REASONS_KEPT = 12


@dataclass(frozen=True, kw_only=True)
class Changed:
    """An initializer with other bytes.

    Attributes:
        name: Its name.
        elements: How many of its elements differ.
        size: How many it has.
        by: The largest difference, in units of the stored values; None where type or shape differ.
    """

    name: str
    elements: int
    size: int
    by: float | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one option set.

    Attributes:
        name: Name of the option set.
        outcome: One of the keys of `MEANING`.
        initializers: Initializers that both have, with other bytes.
        graph: What one has and the other has not: operators with their counts, then names.
        known: Sentences for the differences that are on purpose; the words of what failed.
        reasons: What quantlab's warnings and its plan say of the tensors and nodes concerned.
        seconds: How long quantlab and the peer took.
    """

    name: str
    outcome: Outcome
    initializers: tuple[Changed, ...] = ()
    graph: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    seconds: tuple[float, float]

    @property
    def explained(self) -> bool:
        """Whether the two agree, or the difference is a known one."""
        return self.outcome == "identical" or bool(self.known)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {**asdict(self), "meaning": MEANING[self.outcome]}


@dataclass(frozen=True, kw_only=True)
class _Written:
    model: onnx.ModelProto | None
    result: QuantResult | None = None
    words: tuple[str, ...] = ()
    seconds: float


def crosscheck(
    model: onnx.ModelProto,
    batches: Sequence[Batch],
    sets: Iterable[OptionSet],
    *,
    track: Track = quiet,
) -> list[Verdict]:
    """Quantize a model with both tools, once for each option set.

    Args:
        model: A float model below 2 GB; it is not changed. Both tools get it as it is.
        batches: Input name to array, one mapping a sample; they are read once for each set and tool.
        sets: What to compare; see `quantlab.ort.option_sets`.
        track: Shows progress.

    Returns:
        A verdict for each set, in their order.

    Raises:
        DataError: There is no sample.
        QuantlabError: onnxruntime is not installed.
    """
    if not len(batches):
        raise DataError("there is no sample to compare with; give at least one")
    listed = list(sets)
    return [_verdict(model, batches, each) for each in track(listed, "cross-checking", len(listed))]


def _verdict(model: onnx.ModelProto, batches: Sequence[Batch], each: OptionSet) -> Verdict:
    ours, peer = _ours(model, batches, each), _peer(model, batches, each)
    seconds = ours.seconds, peer.seconds
    if ours.model is None or peer.model is None:
        outcome: Outcome = "neither" if ours.model is peer.model else "peer alone" if peer.model else "quantlab alone"
        return Verdict(name=each.name, outcome=outcome, known=(*ours.words, *peer.words), seconds=seconds)
    graph, changed = graph_differences(ours.model, peer.model), changed_initializers(ours.model, peer.model)
    outcome = "graph" if graph else "numbers" if changed else "identical"
    names = {line.split()[-1].lstrip("+-") for line in graph} | {one.name for one in changed}
    known: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    if (made := ours.result) is not None and outcome != "identical":
        concerned = frozenset(base(one.name) for one in changed)
        found = Difference(
            plan=made.plan, view=made.prepared.view, graph=graph, tensors=concerned, options=each.options
        )
        known = tuple(known_differences(found))
        reasons = (*ours.words, *_reasons(made, names))
    return Verdict(
        name=each.name,
        outcome=outcome,
        initializers=changed,
        graph=graph,
        known=known,
        reasons=reasons,
        seconds=seconds,
    )


def _ours(model: onnx.ModelProto, batches: Sequence[Batch], each: OptionSet) -> _Written:
    begin = perf_counter()
    with warnings.catch_warnings(record=True) as caught, tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("always")
        try:
            made = quantize_static(model, Path(folder) / "quantlab.onnx", list(batches), **each.options)
        except QuantlabError as error:
            return _Written(model=None, words=(f"quantlab: {error}",), seconds=perf_counter() - begin)
    words = dict.fromkeys(f"quantlab: {one.message}" for one in caught)
    return _Written(model=made.model, result=made, words=tuple(words), seconds=perf_counter() - begin)


def _peer(model: onnx.ModelProto, batches: Sequence[Batch], each: OptionSet) -> _Written:
    begin = perf_counter()
    try:
        made = peer_quantize_static(model, batches, each.options)
        seconds = perf_counter() - begin
        OrtBackend(threads=1, optimize=False).open(made)
    except QuantlabError as error:
        return _Written(model=None, words=(f"peer: {error}",), seconds=perf_counter() - begin)
    return _Written(model=made, seconds=seconds)


def graph_differences(ours: onnx.ModelProto, peer: onnx.ModelProto) -> tuple[str, ...]:
    """Compare nodes and names.

    Args:
        ours: One model.
        peer: Another.

    Returns:
        `"Clip 1 0"` for an operator with how often each has it; `"node +name"`, `"tensor -name"`, `"initializer +name"`
        for what the first alone has (+) or lacks (-); `"reads name"` for a node that reads something else.
    """
    counts = [Counter(node.op_type for node in model.graph.node) for model in (ours, peer)]
    lines = [f"{op} {counts[0][op]} {counts[1][op]}" for op in sorted(counts[0] | counts[1])
             if counts[0][op] != counts[1][op]]  # fmt: skip
    nodes = [{node.name: node for node in model.graph.node} for model in (ours, peer)]
    made = [{name for node in model.graph.node for name in node.output} for model in (ours, peer)]
    kept = [_read_constants(model) for model in (ours, peer)]
    for kind, (a, b) in (("node", (set(nodes[0]), set(nodes[1]))), ("tensor", made), ("initializer", kept)):
        lines += [f"{kind} +{name}" for name in sorted(a - b)] + [f"{kind} -{name}" for name in sorted(b - a)]
    shared = nodes[0].keys() & nodes[1].keys()
    return (*lines, *(f"reads {name}" for name in sorted(shared) if _ends(nodes[0][name]) != _ends(nodes[1][name])))


def _read_constants(model: onnx.ModelProto) -> set[str]:
    """Return the initializers that somebody reads; the peer leaves some others behind."""
    read = {name for node in model.graph.node for name in node.input}
    read |= {name for node in model.graph.node for graph in subgraphs(node) for name in captured(graph)}
    read |= {value.name for value in model.graph.output}
    return {tensor.name for tensor in model.graph.initializer if tensor.name in read}


def _ends(node: onnx.NodeProto) -> tuple[list[str], list[str]]:
    return list(node.input), list(node.output)


def changed_initializers(ours: onnx.ModelProto, peer: onnx.ModelProto) -> tuple[Changed, ...]:
    """Return the initializers that both models have and whose bytes differ."""
    theirs = {tensor.name: tensor for tensor in peer.graph.initializer}
    found = []
    for tensor in ours.graph.initializer:
        if tensor.name not in theirs:
            continue
        a, b = to_array(tensor), to_array(theirs[tensor.name])
        if a.dtype != b.dtype or _without_one(a.shape) != _without_one(b.shape):
            found.append(Changed(name=tensor.name, elements=a.size, size=a.size, by=None))
        elif a.tobytes() != b.tobytes():
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
            by = float(np.max(apart, initial=0.0))
            found.append(Changed(name=tensor.name, elements=int(np.sum(a != b)), size=a.size, by=by))
    return tuple(found)


def _without_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Take a scale of shape (1,), which the peer writes for biases, for the scalar that it means."""
    return () if shape == (1,) else shape


def _reasons(ours: QuantResult, names: Iterable[str]) -> list[str]:
    """Say what the plan knows of the tensors and nodes that names in a written model belong to."""
    concerned = {base(name) for name in names} | set(names)
    found: dict[str, None] = {}
    for name, tensor in ours.plan.tensors.items():
        if name in concerned and tensor.reason:
            found[f"tensor {name!r}: {tensor.reason}"] = None
    touching = {node.name for node in ours.model.graph.node if concerned & {*node.input, *node.output, node.name}}
    for name, node in ours.plan.nodes.items():
        if (name in touching or name in concerned) and node.reason:
            found[f"node {name!r}: {node.reason}"] = None
    rest = len(found) - REASONS_KEPT
    return list(found)[:REASONS_KEPT] + ([f"and {rest} more"] if rest > 0 else [])
