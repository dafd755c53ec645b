"""What a quantized model stores beside its plan: the scales of channels, which the embedded plan leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx

from quantlab.arrays import QParams
from quantlab.graph import GraphView
from quantlab.graph.quantized import Rounded, original_name, rounded_tensors
from quantlab.graph.scopes import scopes_of
from quantlab.plan import QuantPlan


def with_stored(plan: QuantPlan, model: onnx.ModelProto) -> QuantPlan:
    """Fill numbers that a plan lacks with those that stand in the quantized model.

    Args:
        plan: The plan that a model carries.
        model: The quantized model.

    Returns:
        The plan; tensors that the model does not round stay as they are.
    """
    if plan.resolved:
        return plan
    found = {name: rounded for rounded in rounded_tensors(GraphView.of(model)) for name in _names(rounded)}
    filled = {}
    for name, tensor in plan.tensors.items():
        if tensor.qparams is None and name in found and found[name].grid.spec.axis == tensor.spec.axis:
            grid = found[name].grid
            filled[name] = replace(
                tensor, qparams=QParams(scale=grid.scale, zero_point=grid.zero_point, spec=tensor.spec)
            )
    scopes = {scope.key: scope.model for scope in scopes_of(model)} if plan.bodies else {}
    bodies = {key: with_stored(body, scopes[key]) if key in scopes else body for key, body in plan.bodies.items()}
    return replace(plan.with_tensors(filled), bodies=bodies)


def _names(rounded: Rounded) -> Iterator[str]:
    """Yield the names that the tensor may have had in the float model."""
    if rounded.before is None:
        yield original_name(rounded.integers)
    else:
        yield rounded.before
    if rounded.after is not None:
        yield rounded.after
