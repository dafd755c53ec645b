"""A recipe's options held against one model, before any sample is read: refusals, warnings and notes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from quantlab.errors import QuantlabWarning
from quantlab.graph import GraphView
from quantlab.plan import QuantPlan, Recipe
from quantlab.plan.axes import strange_axes
from quantlab.plan.override_checks import asymmetric_overrides, check_overrides, idle_overrides
from quantlab.plan.runnable import check_blocks, check_float8, check_four_bits, joined_float8
from quantlab.rewrite.integer_ends import check_integer_ends


def check_fit(recipe: Recipe, views: Sequence[GraphView]) -> None:
    """Refuse options that a model has no place for.

    Args:
        recipe: What is wanted.
        views: The prepared main graph, then the bodies that are quantized too.

    Raises:
        OptionError: An override does not fit, or an end of the model cannot be integers; the text names it.
    """
    if recipe.overrides:
        check_overrides(recipe.overrides, views, recipe.format)
    if recipe.layout.integer_inputs or recipe.layout.integer_outputs:
        ends = {"inputs": recipe.layout.integer_inputs, "outputs": recipe.layout.integer_outputs}
        check_integer_ends(views[0], **ends)


def heard(plan: QuantPlan, recipe: Recipe, views: Sequence[GraphView]) -> QuantPlan:
    """Say what of a recipe does nothing, or something nobody may have meant, in the plan that it came to.

    Args:
        plan: The plan, without numbers.
        recipe: What it was made of.
        views: The prepared main graph and the bodies, in the order of `plan.walk()`.

    Returns:
        The plan with notes.

    Raises:
        OptionError: onnxruntime would refuse to load or run the model; the text names the node.

    Warns:
        QuantlabWarning: An override does nothing, or onnxruntime's kernels take no scales on such an axis.
    """
    lines = list(idle_overrides(recipe.overrides, plan.walk()))
    notes = list(lines)
    for part, view in zip(plan.walk(), views, strict=True):
        if recipe.block_size is not None:
            check_blocks(part, view)
        if _may_have_four_bits(recipe):
            check_four_bits(part, view)
        if recipe.has_float8:
            check_float8(part, view)
            notes += joined_float8(part, view)
        if recipe.matmul_axis is not None:
            lines += list(strange_axes(part, view))[:1]
        notes += asymmetric_overrides(recipe.overrides, part, recipe.weight.symmetric)
    for line in lines:
        warnings.warn(line, QuantlabWarning, stacklevel=3)
    return replace(plan, notes=(*plan.notes, *notes)) if notes else plan


def _may_have_four_bits(recipe: Recipe) -> bool:
    """Say whether any activation may have 4 bits; looking at every node takes time."""
    specs = (recipe.activation, *(rule.activation for rule in recipe.rules))
    grids = (grid for entry in recipe.overrides.values() for grid in (entry.grid, entry.convert))
    kinds = (*(spec.dtype for spec in specs if spec is not None), *(grid.dtype for grid in grids if grid is not None))
    return any(kind is not None and kind.bits == 4 for kind in kinds)
