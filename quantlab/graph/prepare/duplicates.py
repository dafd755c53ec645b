"""Nodes of the same operator, attributes and inputs make the same values: one is enough.

Random operators and nodes with subgraphs are left as they are, and so are constants of equal bytes: two biases that
happen to be equal get scales of their own when a model is quantized. Of nodes that do the same, one that makes a graph
output stays, and of several the alphabetically first, so that the order of the file does not matter.
"""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.aliases import Aliases
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes, replace_nodes
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.view import GraphView, subgraphs

RANDOM = (
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
"""Operators that may give something else each time; Dropout does in training."""

Key = tuple[str, tuple[str, ...], tuple[bytes, ...], tuple[bool, ...]]


def _edit(piece: Workpiece) -> list[str]:
    view = piece.view
    aliases = Aliases(piece.model.graph, view)
    outputs = set(view.outputs)
    first: dict[Key, onnx.NodeProto] = {}
    removed: set[int] = set()
    notes = []
    for node in _from_the_inputs(view):
        if node.domain not in ("", "ai.onnx") or is_standard(node, "Identity", *RANDOM) or any(subgraphs(node)):
            continue
        found = first.setdefault(_key(node, aliases), node)
        if found is node:
            continue
        pair = f"{label(found)} and {label(node)}, which do the same"
        if len(node.output) == 1 and {found.output[0], node.output[0]} <= outputs:
            notes.append(f"merged {pair}; {label(node)} hands on graph output {found.output[0]!r}")
            _hand_on(found, node, view)
        elif (reason := _merge(found, node, view, aliases)) is not None:
            notes.append(f"left {pair}, alone: {reason}")
        else:
            removed.add(id(node))
            notes.append(f"merged {pair}")
    if notes:
        remove_nodes(piece.model.graph, removed)
        aliases.carry_out(piece.model.graph)
        replace_nodes(piece.model.graph, GraphView.of(piece.model).nodes)
    return notes


def _from_the_inputs(view: GraphView) -> list[onnx.NodeProto]:
    """Order nodes by their distance from the inputs, and those at the same distance by which of them is to stay."""
    depth: dict[str, int] = {}
    ranks: dict[int, tuple[int, bool, str]] = {}
    outputs = set(view.outputs)
    for node in view.nodes:
        depths = 1 + max((depth.get(name, 0) for name in node.input), default=0)
        depth.update(dict.fromkeys(node.output, depths))
        ranks[id(node)] = (depths, outputs.isdisjoint(node.output), node.name)
    return sorted(view.nodes, key=lambda node: ranks[id(node)])


def _key(node: onnx.NodeProto, aliases: Aliases) -> Key:
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    inputs = tuple(aliases.final(name) for name in node.input)
    return node.op_type, inputs, tuple(attributes), tuple(map(bool, node.output))


def _merge(found: onnx.NodeProto, node: onnx.NodeProto, view: GraphView, aliases: Aliases) -> str | None:
    """Let what `found` makes stand for what `node` makes, or say why that cannot be."""
    pairs = [(a, b) for a, b in zip(found.output, node.output, strict=True) if a]
    made = [name for pair in pairs for name in pair]
    if len(pairs) > 1 and any(
        name in view.outputs or any(use.inside for use in view.uses.get(name, ())) for name in made
    ):
        return "one of the tensors they make is a graph output or read in a subgraph"
    for a, b in pairs:
        if (reason := aliases.join(a, b)) is not None:
            return reason
    return None


def _hand_on(found: onnx.NodeProto, node: onnx.NodeProto, view: GraphView) -> None:
    """Make a node an Identity of what `found` makes: both are outputs of the graph, each with a name."""
    del node.attribute[:]
    node.op_type = "Identity"
    node.input[:] = [found.output[0]]
    for use in view.uses.get(node.output[0], ()):
        if not use.inside:
            use.node.input[use.index] = found.output[0]


MERGE_DUPLICATES = Pass(name="merge-duplicates", edit=_edit, requires=missing_constants)
