"""Nodes of the same operator, attributes and inputs make the same values: one is enough.

Random operators and nodes with subgraphs are left as they are, and so are constants of equal bytes: two biases that
happen to be equal get scales of their own when a model is quantized. Of the names of merged nodes the alphabetically
first stays, so that the order of the file does not matter.
"""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass
from quantlab.graph.prepare.aliases import Aliases
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
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


def _edit(model: onnx.ModelProto) -> list[str]:
    view = GraphView.of(model)
    aliases = Aliases(model.graph, view)
    outputs = set(view.outputs)
    first: dict[Key, onnx.NodeProto] = {}
    removed: set[int] = set()
    notes = []
    for node in view.nodes:
        if node.domain not in ("", "ai.onnx") or is_standard(node, "Identity", *RANDOM) or any(subgraphs(node)):
            continue
        found = first.setdefault(_key(node, aliases), node)
        if found is node:
            continue
        pair = f"{label(found)} and {label(node)}, which do the same"
        reason = _merge(found, node, view, aliases)
        if reason is not None and len(node.output) == 1 and {found.output[0], node.output[0]} <= outputs:
            _hand_on(found, node)
            notes.append(f"merged {pair}; {label(node)} hands on graph output {found.output[0]!r}")
            continue
        if reason is not None:
            notes.append(f"left {pair}, alone: {reason}")
            continue
        removed.add(id(node))
        notes.append(f"merged {pair}")
    remove_nodes(model.graph, removed)
    aliases.carry_out(model.graph)
    return notes


def _key(node: onnx.NodeProto, aliases: Aliases) -> Key:
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    inputs = tuple(aliases.final(name) for name in node.input)
    return node.op_type, inputs, tuple(attributes), tuple(map(bool, node.output))


def _merge(found: onnx.NodeProto, node: onnx.NodeProto, view: GraphView, aliases: Aliases) -> str | None:
    """Let what `found` makes stand for what `node` makes, under the name that comes first."""
    pairs = [(a, b) for a, b in zip(found.output, node.output, strict=True) if a]
    made = [name for pair in pairs for name in pair]
    if len(pairs) > 1 and any(
        name in view.outputs or any(use.inside for use in view.uses.get(name, ())) for name in made
    ):
        return "one of the tensors they make is a graph output or read in a subgraph"
    swap = node.name < found.name
    for a, b in pairs:
        source, target = (b, aliases.final(a)) if swap else (a, b)
        if (reason := aliases.join(source, target)) is not None:
            return reason
    if swap:
        found.name = node.name
    return None


def _hand_on(found: onnx.NodeProto, node: onnx.NodeProto) -> None:
    """Make a node an Identity of what `found` makes: both are outputs of the graph, each with a name."""
    del node.attribute[:]
    del node.input[:]
    node.op_type = "Identity"
    node.input.append(found.output[0])


MERGE_DUPLICATES = Pass(name="merge-duplicates", edit=_edit, requires=missing_constants)
