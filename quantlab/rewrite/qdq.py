"""Write a resolved plan into a model as QuantizeLinear / DequantizeLinear pairs.

    activation  t -> t -> QuantizeLinear -> DequantizeLinear -> whoever reads t
    constant    w -> w_quantized (integers) -> DequantizeLinear -> whoever reads w

Names of new nodes, tensors and initializers are those of onnxruntime.quantization where they are free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx

from quantlab.arrays import QParams, quantize
from quantlab.errors import OptionError
from quantlab.graph import GraphView, Names, captured, float_tensor, integer_tensor, to_array
from quantlab.plan import QuantPlan, TensorPlan
from quantlab.plan.resolve import check_plan, stale, superfluous


@dataclass
class _Writing:
    """The model while it is written; lives only inside `insert_qdq`."""

    view: GraphView
    plan: QuantPlan
    names: Names
    gone: frozenset[str]
    outputs: frozenset[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: deque[onnx.TensorProto] = field(default_factory=deque)
    rounded: dict[str, str] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)
    grids: dict[str, tuple[str, str]] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    readers: dict[str, frozenset[str]] = field(default_factory=dict)


def insert_qdq(model: onnx.ModelProto, plan: QuantPlan) -> onnx.ModelProto:
    """Return a quantized copy of a model.

    Args:
        model: The prepared float model that the plan was made for; it is not changed.
        plan: A resolved plan.

    Returns:
        A new model. Constants are stored as integers; float constants that nobody reads any more are left out.

    Raises:
        ModelError: The plan is for another model.
        OptionError: Some tensor of the plan has no scale and zero point yet, or outdated ones.
    """
    open_tensors = [name for name, tensor in plan.tensors.items() if tensor.qparams is None]
    if open_tensors:
        raise OptionError(
            f"the plan has no scale for {len(open_tensors)} tensors, first {open_tensors[0]!r}: resolve it"
        )
    view = GraphView.of(model)
    check_plan(plan, view)
    if (name := next(stale(plan), None)) is not None:
        raise OptionError(f"the numbers of {name!r} do not follow from those they are made from: resolve the plan anew")
    work = _Writing(view, plan, Names.of(model), frozenset(superfluous(plan, view)), frozenset(view.outputs))
    for name, tensor in plan.tensors.items():
        _name_ends(work, name, tensor)
    for name in view.inputs:
        _round_activation(work, name)
    for node in view.nodes:
        if node.name in work.gone:
            continue
        _write_node(work, node)
    return _assemble(model, work)


def _name_ends(work: _Writing, name: str, tensor: TensorPlan) -> None:
    """Choose the names of a tensor before and after rounding.

    What everybody reads rounded keeps its own name where others know it by that name: callers and subgraphs.
    """
    known = name in work.outputs or any(use.inside for use in work.view.uses.get(name, ()))
    keeps = known and name in work.view.producers and tensor.readers is None
    work.raw[name] = work.names.fresh(f"{name}_QuantizeLinear_Input") if keeps else name
    work.rounded[name] = name if keeps else work.names.fresh(f"{name}_DequantizeLinear_Output")


def _grid_names(work: _Writing, name: str, suffix: str = "") -> tuple[str, str]:
    """Write scale and zero point of a tensor, or reuse those of the tensor whose grid it shares."""
    tensor = work.plan.tensors[name]
    owner = tensor.like or name
    if owner not in work.grids:
        grid = tensor.qparams
        assert grid is not None
        scale, zero = work.names.fresh(f"{owner}{suffix}_scale"), work.names.fresh(f"{owner}{suffix}_zero_point")
        work.initializers.append(float_tensor(scale, grid.scale))
        work.initializers.append(integer_tensor(zero, grid.zero_point, grid.spec.dtype))
        work.grids[owner] = (scale, zero)
    return work.grids[owner]


def _write(work: _Writing, op: str, inputs: Sequence[str], output: str, name: str, grid: QParams) -> None:
    """Write a QuantizeLinear or DequantizeLinear; field by field, for `make_node` takes three times as long."""
    node = onnx.NodeProto(op_type=op, input=inputs, output=[output], name=work.names.fresh(name))
    if grid.spec.axis is not None:
        node.attribute.add(name="axis", type=onnx.AttributeProto.INT, i=grid.spec.axis)
    work.nodes.append(node)


def _round_activation(work: _Writing, name: str) -> None:
    tensor = work.plan.tensors.get(name)
    if tensor is None or tensor.qparams is None:
        return
    grid = list(_grid_names(work, name))
    middle = work.names.fresh(f"{name}_QuantizeLinear_Output")
    ends = work.raw[name], work.rounded[name]
    _write(work, "QuantizeLinear", [ends[0], *grid], middle, f"{name}_QuantizeLinear", tensor.qparams)
    _write(work, "DequantizeLinear", [middle, *grid], ends[1], f"{name}_DequantizeLinear", tensor.qparams)


def _round_constant(work: _Writing, name: str) -> None:
    tensor = work.plan.tensors[name]
    assert tensor.qparams is not None
    suffix = "_quantized" if tensor.role == "bias" else ""
    integers = work.names.fresh(f"{name}_quantized")
    scale, zero = _grid_names(work, name, suffix)
    values = quantize(to_array(work.view.constants[name]), tensor.qparams)
    work.initializers.append(integer_tensor(integers, values, tensor.qparams.spec.dtype))
    ends = [integers, scale, zero], work.rounded[name]
    _write(work, "DequantizeLinear", *ends, f"{name}_DequantizeLinear", tensor.qparams)


def _write_node(work: _Writing, node: onnx.NodeProto) -> None:
    """Write a node that reads rounded tensors where the plan says so, then round what it makes."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for index, name in enumerate(node.input):
        if _reads_rounded(work, node, name):
            if name in work.view.constants and name not in work.stored:
                work.stored.add(name)
                _round_constant(work, name)
            copy.input[index] = work.rounded[name]
    outputs = [_takes_over(work, name) for name in node.output]
    for index, name in enumerate(outputs):
        copy.output[index] = work.raw.get(name, name)
    work.nodes.append(copy)
    for name in outputs:
        _round_activation(work, name)


def _reads_rounded(work: _Writing, node: onnx.NodeProto, name: str) -> bool:
    tensor = work.plan.tensors.get(name)
    if tensor is None or tensor.readers is None:
        return tensor is not None
    if name not in work.readers:  # thousands of nodes may read one tensor
        work.readers[name] = frozenset(tensor.readers)
    return node.name in work.readers[name]


def _takes_over(work: _Writing, name: str) -> str:
    """Return the tensor that a producer makes instead, where the Relu or Clip behind it is gone."""
    uses = work.view.uses.get(name)
    return uses[0].node.output[0] if uses and uses[0].node.name in work.gone else name


def _assemble(model: onnx.ModelProto, work: _Writing) -> onnx.ModelProto:
    result = onnx.ModelProto(
        ir_version=model.ir_version, producer_name="quantlab", domain=model.domain, model_version=model.model_version
    )
    result.opset_import.extend(model.opset_import)
    result.metadata_props.extend(model.metadata_props)
    result.functions.extend(model.functions)
    graph = result.graph
    graph.name, graph.doc_string = model.graph.name, model.graph.doc_string
    graph.node.extend(work.nodes)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    graph.metadata_props.extend(model.graph.metadata_props)
    made = {name for node in work.nodes for name in node.output}
    graph.value_info.extend(value for value in model.graph.value_info if value.name in made)
    read = {*work.view.outputs, *captured(graph)}
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    while work.initializers:  # each is let go once it is copied, so that large weights are in memory once
        graph.initializer.append(work.initializers.popleft())
    return result
