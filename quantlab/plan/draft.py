"""Draft: ask every node's rule what it wishes; no decision about conflicts, no number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from quantlab.graph import GraphView
from quantlab.plan.entries import Conversion
from quantlab.plan.forms import rule_for
from quantlab.plan.no_rule import no_rule
from quantlab.plan.override_checks import in_graph
from quantlab.plan.recipe import Recipe
from quantlab.plan.wishes import Refuse, Wish

_DOUBLE = np.dtype(np.float64)


@dataclass(frozen=True, kw_only=True)
class NodeDraft:
    """A node with what its rule wishes, or why it stays in float; `left` names outputs it may not ask for."""

    node: onnx.NodeProto
    wishes: tuple[Wish, ...] = ()
    refusal: str | None = None
    left: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """All nodes in topological order, with the recipe that was asked and what it should hear back.

    Attributes:
        nodes: The nodes.
        recipe: The recipe.
        notes: What it should hear back.
        conversions: Tensor to a second grid that nobody asked for, see `quantlab.plan.mixed`.
    """

    nodes: tuple[NodeDraft, ...]
    recipe: Recipe
    notes: tuple[str, ...] = ()
    conversions: Mapping[str, Conversion] = field(default_factory=dict)

    def refusing(self, reasons: Mapping[str, str]) -> Draft:
        """Return the draft with the nodes of these names left in float."""
        nodes = (
            NodeDraft(node=entry.node, refusal=reasons[entry.node.name]) if entry.node.name in reasons else entry
            for entry in self.nodes
        )
        return replace(self, nodes=tuple(nodes))


def draft(view: GraphView, recipe: Recipe, notes: Iterable[str] = ()) -> Draft:
    """Collect the wishes of a graph's nodes under a recipe.

    Args:
        view: The prepared graph; every node has a name of its own.
        recipe: What is wanted.
        notes: What `Recipe.check` had to say.

    Returns:
        The draft, in topological order.
    """
    recipe = replace(recipe, overrides=in_graph(recipe.overrides, view)) if recipe.overrides else recipe
    return Draft(nodes=tuple(_ask(node, view, recipe) for node in view.nodes), recipe=recipe, notes=tuple(notes))


def _ask(node: onnx.NodeProto, view: GraphView, recipe: Recipe) -> NodeDraft:
    settings = recipe.settings(node)
    if not settings.quantize:
        return NodeDraft(node=node, refusal=settings.reason)
    rule = rule_for(node, recipe.format)
    if rule is None:
        return NodeDraft(node=node, refusal=no_rule(node))
    answer = rule if isinstance(rule, Refuse) else rule(node, view, settings)
    if isinstance(answer, Refuse):
        return NodeDraft(node=node, refusal=answer.reason)
    wishes = tuple(answer)
    if wide := [wish.tensor for wish in wishes if view.float_type(wish.tensor) == _DOUBLE]:
        return NodeDraft(node=node, refusal=f"{wide[0]!r} is float64, which QuantizeLinear does not take")
    if recipe.weights_only:
        return _weights(node, wishes)
    if node.op_type not in recipe.float_outputs:
        return NodeDraft(node=node, wishes=wishes)
    kept = tuple(wish for wish in wishes if wish.tensor not in node.output)
    if not kept:
        return NodeDraft(node=node, refusal=f"outputs of {node.op_type} stay float, and it asks for nothing else")
    return NodeDraft(node=node, wishes=kept, left=tuple(name for name in node.output if name))


def _weights(node: onnx.NodeProto, wishes: Iterable[Wish]) -> NodeDraft:
    kept = tuple(wish for wish in wishes if wish.role == "weight")
    if not kept:
        return NodeDraft(node=node, refusal="only weights get grids, and it has none")
    return NodeDraft(node=node, wishes=kept, left=tuple(name for name in node.output if name))
