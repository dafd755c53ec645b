"""Nodes that read 16 bits among 8: which tensors are converted so that onnxruntime computes the node on integers.

onnxruntime 1.31.1 (CPU) joins an operator with the roundings around it where all of them have 8 bits; int8 beside uint8
will do. No mix of 8 and 16 bits is refused: a single tensor of 16 bits, and the node is computed in float, without a
word. Where that tensor is an input, and everything else around the node has 8 bits,

    x -> QuantizeLinear (16) -> DequantizeLinear -> QuantizeLinear (8) -> DequantizeLinear -> the node

keeps it on integers, and whoever else reads x has it with 16 bits still. An output of 16 bits is left: no conversion in
front of a node makes it run on integers then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import onnx

from quantlab.arrays import DType
from quantlab.graph import GraphView
from quantlab.plan.entries import Conversion
from quantlab.plan.forms import Grids, form_of
from quantlab.plan.quantplan import QuantPlan
from quantlab.plan.recipe import Recipe, activation_spec

ON_INTEGERS = (
    "Add", "Concat", "Conv", "Gemm", "GlobalAveragePool", "LeakyRelu", "MatMul", "Mul", "Sigmoid", "Softmax", "Where",
)  # fmt: skip
"""Operators that onnxruntime has on 8 bits, and whose inputs and outputs have grids of their own."""

Needs = dict[str, dict[str, DType]]
"""Tensor to the nodes that need it on 8 bits, each with the type."""


def converted_for(
    plan: QuantPlan, view: GraphView, recipe: Recipe, known: Mapping[str, Conversion]
) -> dict[str, Conversion]:
    """Find the tensors that are to be converted for some of their readers.

    Args:
        plan: A refined plan of format QDQ, made with the conversions that are known.
        view: Its graph.
        recipe: What it was made of; what an override says of conversions stands.
        known: Tensor to conversion, as found before.

    Returns:
        What is known and, beside it, what the plan still lacks; the same where it lacks nothing.
    """
    found = dict(known)
    widths = {tensor.spec.dtype.bits for tensor in plan.tensors.values() if tensor.role == "activation"}
    if not {8, 16} <= widths:  # nearly always, and looking at every node takes time
        return found
    for name, nodes in _outermost(_needs(plan, view), plan, view).items():
        override = recipe.overrides.get(name)
        if override is not None and override.convert is not None:
            continue
        before = found.get(name)
        kind = next(iter(nodes.values())) if before is None else before.spec.dtype
        readers = (before.readers or ()) if before is not None else ()
        spec = activation_spec(kind, symmetric=recipe.activation.symmetric)
        found[name] = Conversion(spec=spec, readers=tuple(dict.fromkeys([*readers, *nodes])))
    return found


def because(second: Conversion) -> str:
    """Say in words why a tensor is converted."""
    return (
        f"converted to {second.spec.dtype} for {', '.join(second.readers or ())}: with 16 bits for one of its tensors, "
        "onnxruntime would compute the node in float"
    )


def _needs(plan: QuantPlan, view: GraphView) -> Needs:
    grids, found = Grids.of(plan, view), Needs()
    for node in view.nodes:
        if form_of(node) not in ON_INTEGERS or plan.nodes[node.name].status != "quantized":
            continue
        if (kind := _kind_made(node, grids)) is None:
            continue
        for name in _wide_inputs(node, grids) or ():
            found.setdefault(name, {})[node.name] = kind
    return found


def _kind_made(node: onnx.NodeProto, grids: Grids) -> DType | None:
    """Return the type of a node's output if that has 8 bits."""
    entry = grids.made(node.output[0])[1]
    return None if entry is None or not _has(8, entry.spec.dtype) else entry.spec.dtype


def _wide_inputs(node: onnx.NodeProto, grids: Grids) -> list[str] | None:
    """Return the activations that a node reads with 16 bits, or None where something else keeps it in float."""
    wide = []
    for name in dict.fromkeys(node.input):
        if not name or grids.view.float_type(name) is None:
            continue
        entry = grids.read(node, name)
        if entry is None:
            return None
        kind = entry.spec_for(node.name).dtype
        if entry.role == "activation" and _has(16, kind):
            wide.append(name)
        elif entry.role != "bias" and not _has(8, kind):
            return None
    return wide


def _has(bits: int, kind: DType) -> bool:
    return kind.bits == bits and not kind.is_float


def _outermost(needs: Needs, plan: QuantPlan, view: GraphView) -> Needs:
    """Move each need up to the tensor that owns the grid: what only moves values moves them on 8 bits then.

    That is left out where others read the moved tensor too, who would lose the 16 bits.
    """
    found = Needs()
    for name, nodes in needs.items():
        moved = _up(name, nodes, plan, view)
        for tensor, readers in moved:
            found.setdefault(tensor, {}).update(readers)
    return found


def _up(name: str, nodes: dict[str, DType], plan: QuantPlan, view: GraphView) -> Iterator[tuple[str, dict[str, DType]]]:
    while plan.tensors[name].like is not None:
        uses = {use.node.name for use in view.uses.get(name, ())}
        if uses - nodes.keys() or name in view.outputs:
            return
        mover = view.producers[name]
        name, nodes = mover.input[0], {mover.name: next(iter(nodes.values()))}
    yield name, nodes


def with_conversions(plan: QuantPlan, found: Mapping[str, Conversion]) -> QuantPlan:
    """Return a plan whose entries carry conversions and say why.

    Args:
        plan: A refined plan.
        found: Tensor to conversion, without numbers.

    Returns:
        The plan.
    """
    changed = {
        name: replace(tensor, convert=found[name], reason=f"{tensor.reason}; {because(found[name])}")
        for name, tensor in plan.tensors.items()
        if name in found
    }
    return replace(plan, tensors={**plan.tensors, **changed}) if changed else plan
