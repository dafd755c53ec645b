"""Draft: ask every node's rule what it wishes; no decision about conflicts, no number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.graph import GraphView
from quantlab.plan.recipe import Recipe
from quantlab.plan.wishes import Refuse, Wish, op_rules


@dataclass(frozen=True, kw_only=True)
class NodeDraft:
    """A node with what its rule wishes, or the reason why it stays in float."""

    node: onnx.NodeProto
    wishes: tuple[Wish, ...] = ()
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """All nodes in topological order, with the recipe that was asked and what it should hear back."""

    nodes: tuple[NodeDraft, ...]
    recipe: Recipe
    notes: tuple[str, ...] = ()


def draft(view: GraphView, recipe: Recipe, notes: Iterable[str] = ()) -> Draft:
    """Collect the wishes of a graph's nodes under a recipe.

    Args:
        view: The prepared graph; every node has a name of its own.
        recipe: What is wanted.
        notes: What `Recipe.check` had to say.

    Returns:
        The draft, in topological order.
    """
    return Draft(nodes=tuple(_ask(node, view, recipe) for node in view.nodes), recipe=recipe, notes=tuple(notes))


def _ask(node: onnx.NodeProto, view: GraphView, recipe: Recipe) -> NodeDraft:
    settings = recipe.settings(node)
    if not settings.quantize:
        return NodeDraft(node=node, refusal=settings.reason)
    rule = op_rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        where = f" of domain {node.domain!r}" if node.domain else ""
        return NodeDraft(node=node, refusal=f"there is no rule for operator {node.op_type}{where}")
    answer = rule(node, view, settings)
    if isinstance(answer, Refuse):
        return NodeDraft(node=node, refusal=answer.reason)
    wishes = tuple(answer)
    if wide := [wish.tensor for wish in wishes if view.float_type(wish.tensor) == np.float64]:
        return NodeDraft(node=node, refusal=f"{wide[0]!r} is float64, which QuantizeLinear does not take")
    return NodeDraft(node=node, wishes=wishes)
