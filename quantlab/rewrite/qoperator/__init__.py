"""Write a resolved plan into a model as operators on integers, with conversions only where float operators begin.

    float operator -> QuantizeLinear -> QLinearConv -> MaxPool (on integers) -> QLinearAdd -> DequantizeLinear -> output

Every node that the plan calls quantized and that has an integer form becomes that; the others are float operators that
read dequantized tensors. The model computes what the QDQ model of the same plan computes, save for how the kernels
round: each output is within one step of its grid.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from quantlab.graph import GraphView, Names, captured, subgraphs
from quantlab.plan import QuantPlan
from quantlab.plan.forms import Grids, form_of, obstacle
from quantlab.plan.integer import embedding
from quantlab.plan.resolve import superfluous
from quantlab.rewrite.frame import begin, checked_view, finish
from quantlab.rewrite.qoperator.writers import integer_writers
from quantlab.rewrite.qoperator.writing import Writing

__all__ = ["write_qoperator"]

MAKES_FLOATS = (embedding.NAME,)
"""Operators whose integer form takes integers and gives floats."""


def write_qoperator(model: onnx.ModelProto, plan: QuantPlan, *, view: GraphView | None = None) -> onnx.ModelProto:
    """Return a quantized copy of a model, in QOperator format.

    Args:
        model: The prepared float model that the plan was made for; it is not changed.
        plan: A resolved plan.
        view: The model's index, where there is one already.

    Returns:
        A new model. Constants are stored as integers; float constants that nobody reads any more are left out. It
        imports `com.microsoft`, where most operators on integers live.

    Raises:
        ModelError: The plan is for another model.
        OptionError: Some tensor of the plan has no scale and zero point yet, or outdated ones.
    """
    view = checked_view(model, plan, view)
    gone = frozenset(superfluous(plan, view))
    result = begin(model)
    work = Writing(
        view=view,
        plan=plan,
        grids=Grids.of(plan, view, gone),
        names=Names.of(model),
        nodes=result.graph.node,
        initializers=result.graph.initializer,
    )
    for node in view.nodes:
        if node.name in gone:
            continue
        if _on_integers(work, node):
            work.makes_floats(node) if form_of(node) in MAKES_FLOATS else work.makes(node)
            integer_writers[form_of(node)](work, node)
        else:
            _write_float(work, node)
    for name in view.outputs:
        if _goes_out_rounded(work, name):
            work.real(name)
    return finish(result, model)


def _on_integers(work: Writing, node: onnx.NodeProto) -> bool:
    decision = work.plan.nodes.get(node.name)
    return decision is not None and decision.status == "quantized" and obstacle(node, work.grids) is None


def _write_float(work: Writing, node: onnx.NodeProto) -> None:
    """Write a node that computes in float; it reads rounded tensors where the plan says so."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for index, name in enumerate(node.input):
        if work.grids.read(node, name) is not None:
            copy.input[index] = work.real(name)
    for name in _captured(node):
        if _goes_out_rounded(work, name):
            work.real(name)
    work.makes_floats(node)
    for index, name in enumerate(work.outputs(node)):
        copy.output[index] = name
    work.nodes.append(copy)


def _captured(node: onnx.NodeProto) -> Iterable[str]:
    return (name for graph in subgraphs(node) for name in captured(graph)) if node.attribute else ()


def _goes_out_rounded(work: Writing, name: str) -> bool:
    tensor = work.plan.tensors.get(name)
    return tensor is not None and tensor.readers is None and name in work.view.producers
