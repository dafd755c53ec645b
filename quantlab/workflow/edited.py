"""An edited plan is one whose numbers no longer follow from its ranges; what a person wrote wins over what follows.

Ranges stay in a plan beside the scales computed from them, and some scales follow from others: a bias has the product
of two, a moved tensor shares one. So an edit in one place leaves others behind, and they are brought up to date here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from quantlab.arrays import QParams
from quantlab.graph import GraphView
from quantlab.plan import QuantPlan, TensorPlan, resolve
from quantlab.plan.resolve import check_plan


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A plan after an edit.

    Attributes:
        plan: The plan, with numbers taken out that follow from edited ones, to be resolved anew.
        changes: One line a tensor whose numbers were edited.
        ignored: One line a tensor whose edited numbers have no effect, since they follow from others.
    """

    plan: QuantPlan
    changes: tuple[str, ...]
    ignored: tuple[str, ...]


def edited(plan: QuantPlan, view: GraphView) -> Edited:
    """Find what was edited in a plan and open what follows from it.

    Args:
        plan: A plan that was written by quantlab and perhaps edited.
        view: The prepared float graph that it is for.

    Returns:
        The plan, ready for `resolve`: edited numbers are kept and their source says so, numbers of biases are open.

    Raises:
        OptionError: Entries of the plan contradict each other.
        ModelError: The plan names a tensor that the model does not have.
        RangeError: A range in the plan or a constant of the model is impossible.
    """
    check_plan(plan, view)
    usual = _following(plan, view)
    tensors: dict[str, TensorPlan] = {}
    changes, ignored = [], []
    for name, tensor in plan.tensors.items():
        tensors[name] = tensor if tensor.product is None else replace(tensor, qparams=None)
        if tensor.qparams is None and tensor.values is not None:
            tensors[name] = replace(tensor, source="range given in the plan")
        if tensor.qparams is None or name not in usual or _same(tensor.qparams, usual[name]):
            continue
        if tensor.like is not None:
            ignored.append(f"the numbers of {name!r} have no effect: it shares those of {tensor.like!r}, edit these")
        elif tensor.product is not None:
            x, w = tensor.product
            ignored.append(f"the scale of bias {name!r} has no effect: it is that of {x!r} times that of {w!r}")
        else:
            was = f"its range gives scale {_ends(usual[name])}"
            changes.append(f"{name!r} has scale {_ends(tensor.qparams)} as written in the plan; {was}")
            tensors[name] = replace(tensor, values=None, source=f"scale and zero point given in the plan; {was}")
    return Edited(plan=replace(plan, tensors=tensors), changes=tuple(changes), ignored=tuple(ignored))


def _following(plan: QuantPlan, view: GraphView) -> dict[str, QParams]:
    """Compute the numbers that follow from the ranges in a plan, as far as there are any."""
    found = {
        name: replace(tensor, qparams=None)
        if tensor.values is not None or tensor.product is not None or tensor.like is not None
        else tensor
        for name, tensor in plan.tensors.items()
    }
    if not plan.resolved:
        # A bias may have widened the scale of its weight only where all numbers are there.
        found = {name: t for name, t in found.items() if t.values is not None and t.like is None and t.product is None}
    done = resolve(replace(plan, tensors=found), {}, view)
    return {name: tensor.qparams for name, tensor in done.tensors.items() if tensor.qparams is not None}


def _same(one: QParams, other: QParams) -> bool:
    return np.array_equal(one.scale, other.scale) and np.array_equal(one.zero_point, other.zero_point)


def _ends(grid: QParams) -> str:
    if grid.scale.size == 1:
        return f"{grid.scale.item():.6g}"
    return f"{grid.scale.min():.6g} .. {grid.scale.max():.6g}"


def with_constants(plan: QuantPlan, view: GraphView) -> QuantPlan:
    """Give weights their numbers, which need no data; activations and biases stay open.

    Args:
        plan: A plan without numbers.
        view: The prepared float graph that it is for.

    Returns:
        The plan with ranges, scales and zero points of its weights.
    """
    weights: Mapping[str, TensorPlan] = {
        name: tensor
        for name, tensor in plan.tensors.items()
        if tensor.role == "weight" and tensor.like is None and view.constant(name) is not None
    }
    return plan.with_tensors(resolve(replace(plan, tensors=weights), {}, view).tensors)
