"""Fusing modules by name or type, as PyTorch's `fuse_modules` does, with a report of what was fused and what was not.

A group is a chain of nodes, each of which alone reads what the one before it makes:

    Conv, ConvTranspose, Gemm or MatMul [+ Add of a constant] [+ BatchNormalization] [+ Relu or Clip]

BatchNormalization and Add go into the weight and bias. A Relu stays a node, for ONNX has no operator for both;
quantizing lets the grid in front of it saturate where it clips, and onnxruntime runs the two as one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import onnx

from quantlab.errors import OptionError, nearest
from quantlab.graph import GraphView, Sequential
from quantlab.graph.check import check_float_model
from quantlab.graph.prepare import (
    DROP_INITIALIZER_INPUTS,
    DROP_UNUSED,
    INFER_SHAPES,
    LIFT_CONSTANTS,
    NAME_NODES,
    REMOVE_IDENTITY,
    SORT_NODES,
    STATE_IR_VERSION,
    fold_arithmetic,
    fold_batch_norm,
)

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CLIPPING = ("Relu", "Clip")

PATTERNS: tuple[tuple[str, ...], ...] = tuple(
    (linear, *rest)
    for linear in LINEAR
    for rest in (
        ("BatchNormalization", "Relu"),
        ("BatchNormalization", "Clip"),
        ("BatchNormalization",),
        ("Relu",),
        ("Clip",),
        ("Add", "BatchNormalization", "Relu"),
        ("Add", "BatchNormalization"),
        ("Add", "Relu"),
        ("Add",),
    )
)
"""Every group that is fused where nothing is asked for, as operator types."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A group of nodes and what became of it.

    Attributes:
        nodes: Names of the nodes of the group, in order.
        into: The nodes that are left of it; empty where it was not fused.
        reason: How it was fused, or why not.
    """

    nodes: tuple[str, ...]
    into: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class FuseResult:
    """What fusing gives.

    Attributes:
        model: The changed copy.
        groups: One entry for each group that was asked for, or found, in the order of the graph.
        notes: What the passes say that carried it out.
    """

    model: onnx.ModelProto
    groups: tuple[Fused, ...]
    notes: tuple[str, ...]

    @property
    def fused(self) -> tuple[Fused, ...]:
        """The groups that were fused."""
        return tuple(group for group in self.groups if group.into)

    @property
    def left(self) -> tuple[Fused, ...]:
        """The groups that were not."""
        return tuple(group for group in self.groups if not group.into)

    def __str__(self) -> str:
        """Return one line for each group."""
        return "\n".join(
            f"{'fused' if group.into else 'left '}  {' + '.join(group.nodes)}: {group.reason}" for group in self.groups
        )


def fuse(model: onnx.ModelProto, groups: Sequence[Sequence[str]] | None = None) -> FuseResult:
    """Fuse groups of nodes of a float model; what is not listed stays as it is.

    Args:
        model: A float model; it is not changed.
        groups: Lists of node names, such as `["conv1", "bn1", "relu1"]`, or of operator types, such as
            `["Conv", "BatchNormalization", "Relu"]`, which mean every such chain; None for all of `PATTERNS`.

    Returns:
        The changed copy and the report. Outputs stay equal within float rounding.

    Raises:
        ModelError: The model is broken or quantized already.
        OptionError: A group names a node that does not exist, or has fewer than two members.

    Example:
        >>> text = "g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,1,1,1] w = {2}> { t = Conv(x, w) y = Relu(t) }"
        >>> graph = onnx.parser.parse_graph(text)
        >>> print(fuse(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])))
        fused  Conv_0 + Relu_1: Relu 'Relu_1' stays, quantizing lets the grid saturate where it clips
    """
    check_float_model(model)
    steps = (STATE_IR_VERSION, DROP_INITIALIZER_INPUTS, SORT_NODES, LIFT_CONSTANTS, NAME_NODES, INFER_SHAPES)
    ready = Sequential(*steps, REMOVE_IDENTITY)(model)
    view = GraphView.of(ready.model)
    chains = list(_chains(view, groups))
    wanted = {node.name for nodes, refusal in chains if refusal is None for node in nodes}
    result = Sequential(fold_arithmetic(only=wanted), fold_batch_norm(only=wanted), DROP_UNUSED)(ready.model)
    kept = {node.name: node for node in result.model.graph.node}
    report = tuple(_report(nodes, refusal, kept, result.notes) for nodes, refusal in chains)
    return FuseResult(model=result.model, groups=report, notes=(*ready.notes, *result.notes))


Chain = tuple[tuple[onnx.NodeProto, ...], str | None]
"""The nodes of a group, and why they cannot be fused."""


def _chains(view: GraphView, groups: Sequence[Sequence[str]] | None) -> Iterator[Chain]:
    nodes = {node.name: node for node in view.nodes}
    types = {node.op_type for node in view.nodes} | {name for pattern in PATTERNS for name in pattern}
    patterns: list[tuple[str, ...]] = []
    for group in PATTERNS if groups is None else groups:
        if isinstance(group, str) or len(group) < 2:
            raise OptionError(f"a group to fuse is a list of at least two nodes or operator types, got {group!r}")
        if all(name in nodes for name in group):
            named = tuple(nodes[name] for name in group)
            yield named, _obstacle(named, view)
        elif all(name in types for name in group):
            patterns.append(tuple(group))
        else:
            raise OptionError(_unknown(group, nodes, types))
    yield from _matches(patterns, view)


def _unknown(group: Sequence[str], nodes: Collection[str], types: Collection[str]) -> str:
    name = next((name for name in group if name not in nodes and name not in types), None)
    if name is None:
        return f"group {list(group)} mixes names of nodes and operator types: give one or the other"
    known = f"neither one of the model's {len(nodes)} nodes nor of its operators{nearest(name, [*nodes, *types])}"
    return f"group {list(group)} names {name!r}, which is {known}"


def _matches(patterns: Sequence[tuple[str, ...]], view: GraphView) -> Iterator[Chain]:
    """Find the longest pattern that begins at each node."""
    longest = sorted(set(patterns), key=len, reverse=True)
    for node in view.nodes:
        for pattern in longest:
            chain = _follow(node, pattern, view)
            if chain is not None:
                yield chain, _obstacle(chain, view)
                break


def _follow(node: onnx.NodeProto, pattern: tuple[str, ...], view: GraphView) -> tuple[onnx.NodeProto, ...] | None:
    """Return the chain of a pattern that begins at a node, whoever else reads what its nodes make."""
    if node.op_type != pattern[0]:
        return None
    chain = [node]
    for op_type in pattern[1:]:
        readers = view.readers(chain[-1].output[0])
        follower = next((reader for reader in readers if reader.op_type == op_type), None)
        if follower is None or (op_type == "Add" and not any(name in view.constants for name in follower.input)):
            return None
        chain.append(follower)
    return tuple(chain)


def _obstacle(chain: Sequence[onnx.NodeProto], view: GraphView) -> str | None:
    """Say why a chain cannot be fused."""
    first, *rest = chain
    if first.op_type not in LINEAR:
        return f"{first.op_type} {first.name!r} is none of {', '.join(LINEAR)}"
    order = ["Add", "BatchNormalization", *CLIPPING]
    places = [order.index(node.op_type) if node.op_type in order else -1 for node in rest]
    if -1 in places or places != sorted(places) or sum(node.op_type in CLIPPING for node in rest) > 1:
        return f"the order {' + '.join(node.op_type for node in chain)} is none that can be fused"
    for before, after in zip(chain, rest, strict=False):
        made = before.output[0]
        if made not in after.input:
            return f"{after.op_type} {after.name!r} does not read what {before.op_type} {before.name!r} makes"
        if made in view.outputs:
            return f"{made!r}, which {before.op_type} {before.name!r} makes, is a graph output too"
        if view.only_reader(made) is not after:
            others = [node for node in view.readers(made) if node is not after]
            by = f"{others[0].op_type} {others[0].name!r}" if others else f"{after.op_type} {after.name!r} twice"
            return f"{made!r}, which {before.op_type} {before.name!r} makes, is read by {by}" + " too" * bool(others)
    return None


def _report(
    nodes: Sequence[onnx.NodeProto], refusal: str | None, kept: dict[str, onnx.NodeProto], notes: Sequence[str]
) -> Fused:
    names = tuple(node.name for node in nodes)
    if refusal is not None:
        return Fused(nodes=names, into=(), reason=refusal)
    for node in nodes[1:]:
        if node.op_type not in CLIPPING and node.name in kept:
            return Fused(nodes=names, into=(), reason=_why(node, notes))
    folded = [node for node in nodes[1:] if node.name not in kept]
    words = [f"{node.op_type} {node.name!r} is in the weight and bias" for node in folded]
    words += [
        f"{node.op_type} {node.name!r} stays, quantizing lets the grid saturate where it clips"
        for node in nodes[1:]
        if node.op_type in CLIPPING
    ]
    return Fused(nodes=names, into=tuple(name for name in names if name in kept), reason="; ".join(words))


def _why(node: onnx.NodeProto, notes: Sequence[str]) -> str:
    said = next((note for note in notes if f"left {node.op_type} {node.name!r} alone: " in note), "")
    return said.partition("alone: ")[2] or f"no input of {node.op_type} {node.name!r} is constant"
