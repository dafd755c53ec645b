"""What every writer of models begins and ends with: a plan that fits the model, and a model around the new nodes."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from quantlab.errors import OptionError
from quantlab.graph import GraphView, captured, subgraphs
from quantlab.plan import QuantPlan
from quantlab.plan.resolve import check_plan, stale

CONTRIB_DOMAIN = "com.microsoft"


def checked_view(model: onnx.ModelProto, plan: QuantPlan, view: GraphView | None = None) -> GraphView:
    """Index a model, and make sure that a plan can be written into it.

    Args:
        model: The prepared float model that the plan was made for.
        plan: A resolved plan.
        view: The model's index, where there is one already.

    Returns:
        The index.

    Raises:
        ModelError: The plan is for another model.
        OptionError: Some tensor of the plan has no scale and zero point yet, or outdated ones.
    """
    open_tensors = [name for name, tensor in plan.tensors.items() if not tensor.resolved]
    if open_tensors:
        raise OptionError(
            f"the plan has no scale for {len(open_tensors)} tensors, first {open_tensors[0]!r}: resolve it"
        )
    view = view or GraphView.of(model)
    check_plan(plan, view)
    if (name := next(stale(plan), None)) is not None:
        raise OptionError(f"the numbers of {name!r} do not follow from those they are made from: resolve the plan anew")
    return view


def begin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model like another one, still without nodes and constants.

    Writers add to it directly: a large graph is not in memory twice, and there are no thousands of nodes in Python.

    Args:
        model: The model whose inputs, outputs and metadata are taken over; it is not changed.

    Returns:
        The new model, for `finish` once its nodes are written.
    """
    result = onnx.ModelProto(
        ir_version=model.ir_version, producer_name="quantlab", domain=model.domain, model_version=model.model_version
    )
    result.opset_import.extend(model.opset_import)
    result.metadata_props.extend(model.metadata_props)
    result.functions.extend(model.functions)
    graph = result.graph
    graph.name, graph.doc_string = model.graph.name, model.graph.doc_string
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    graph.metadata_props.extend(model.graph.metadata_props)
    return result


def finish(result: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """Add what follows from the nodes of a new model: types of tensors, old constants, the import of a domain.

    Args:
        result: What `begin` returned, with its nodes in topological order and its new constants; changed in place.
        model: The model it was begun from. Constants of it that nobody reads any more, or that a new node makes, are
            left out.

    Returns:
        `result`.
    """
    graph, outputs = result.graph, [value.name for value in model.graph.output]
    made, read, domains = _mentioned(graph.node)
    if CONTRIB_DOMAIN in domains.difference(entry.domain for entry in model.opset_import):
        result.opset_import.add(domain=CONTRIB_DOMAIN, version=1)
    # Sets of the old names alone: the new ones are five times as many.
    typed = {value.name for value in model.graph.value_info}.intersection(made)
    graph.value_info.extend(value for value in model.graph.value_info if value.name in typed)
    kept = {tensor.name for tensor in model.graph.initializer}.intersection([*read, *outputs]).difference(made)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in kept)
    return result


def _mentioned(nodes: Iterable[onnx.NodeProto]) -> tuple[list[str], list[str], set[str]]:
    """Return the tensors that nodes make and read, subgraphs included, and the domains of their operators."""
    made: list[str] = []
    read: list[str] = []
    domains: set[str] = set()
    for node in nodes:
        made += node.output[:]
        read += node.input[:]
        domains.add(node.domain)
        if node.attribute:
            for graph in subgraphs(node):
                read += captured(graph)
                domains |= _mentioned(graph.node)[2]
    return made, read, domains
