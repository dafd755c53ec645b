"""Write a resolved plan into a model as QuantizeLinear / DequantizeLinear pairs.

    activation  t -> t -> QuantizeLinear -> DequantizeLinear -> whoever reads t
    constant    w -> w_quantized (integers) -> DequantizeLinear -> whoever reads w

The plan's layout changes that: weights may stay float before a pair of their own, each reader may get a pair of its
own, and both operators may be those of another domain.

Names of new nodes, tensors and initializers are those of onnxruntime.quantization where they are free.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field

import onnx

from quantlab.arrays import QParams, quantize
from quantlab.graph import GraphView, Names, float_tensor, integer_tensor, to_array
from quantlab.plan import QuantPlan, TensorPlan
from quantlab.plan.entries import Conversion
from quantlab.plan.resolve import superfluous
from quantlab.rewrite.frame import CONTRIB_DOMAIN, begin, checked_view, finish


@dataclass
class _Writing:
    """The model while it is written; lives only inside `insert_qdq`."""

    view: GraphView
    plan: QuantPlan
    names: Names
    gone: frozenset[str]
    outputs: frozenset[str]
    nodes: MutableSequence[onnx.NodeProto]
    initializers: MutableSequence[onnx.TensorProto]
    rounded: dict[str, str] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)
    grids: dict[tuple[str, bool], tuple[str, str]] = field(default_factory=dict)  # True: a tensor's second grid
    readers: dict[str, frozenset[str]] = field(default_factory=dict)
    dedicated: dict[tuple[str, str], str] = field(default_factory=dict)  # tensor and reader to the reader's own copy


def insert_qdq(model: onnx.ModelProto, plan: QuantPlan, *, view: GraphView | None = None) -> onnx.ModelProto:
    """Return a quantized copy of a model.

    Args:
        model: The prepared float model that the plan was made for; it is not changed.
        plan: A resolved plan.
        view: The model's index, where there is one already.

    Returns:
        A new model. Constants are stored as integers; float constants that nobody reads any more are left out.

    Raises:
        ModelError: The plan is for another model.
        OptionError: Some tensor of the plan has no scale and zero point yet, or outdated ones.
    """
    view = checked_view(model, plan, view)
    gone, result = frozenset(superfluous(plan, view)), begin(model)
    graph = result.graph
    work = _Writing(view, plan, Names.of(model), gone, frozenset(view.outputs), graph.node, graph.initializer)
    for name, tensor in plan.tensors.items():
        _name_ends(work, name, tensor)
    # Constants come first: onnxruntime then converts each where it is read, and not all of them before anything else.
    for name in plan.tensors:
        if name in view.constants and any(_reads_rounded(work, node, name) for node in _left(work, name)):
            _round_constant(work, name)
    for name in view.inputs:
        _round_activation(work, name)
    for node in view.nodes:
        if node.name in work.gone:
            continue
        _write_node(work, node)
    return finish(result, model)


def _name_ends(work: _Writing, name: str, tensor: TensorPlan) -> None:
    """Choose the names of a tensor before and after rounding.

    What everybody reads rounded keeps its own name where others know it by that name: callers and subgraphs. So does
    a bias, because onnxruntime.quantization lets it; there is no float constant of that name any more.
    """
    known = name in work.outputs or any(use.inside for use in work.view.uses.get(name, ()))
    if tensor.role == "bias" and not known and all(_reads_rounded(work, n, name) for n in work.view.readers(name)):
        work.raw[name] = work.rounded[name] = name
        return
    keeps = known and name in work.view.producers and tensor.readers is None
    work.raw[name] = work.names.fresh(f"{name}_QuantizeLinear_Input") if keeps else name
    work.rounded[name] = name if keeps else work.names.fresh(f"{name}_DequantizeLinear_Output")


def _grid_names(work: _Writing, name: str, suffix: str = "", *, second: bool = False) -> tuple[str, str]:
    """Write scale and zero point of a tensor, or reuse those of the tensor whose grid it shares."""
    tensor = work.plan.tensors[name]
    owner, second = tensor.like or name, second or (tensor.like is not None and tensor.on_converted)
    if (owner, second) not in work.grids:
        grid, last = work.plan.tensors[owner].followed(second), "_convert" if second else ""
        assert grid is not None
        scale = work.names.fresh(f"{owner}{suffix}_scale{last}")
        zero = work.names.fresh(f"{owner}{suffix}_zero_point{last}")
        work.initializers.append(float_tensor(scale, grid.scale))
        work.initializers.append(integer_tensor(zero, grid.zero_point, grid.spec.dtype))
        work.grids[owner, second] = (scale, zero)
    return work.grids[owner, second]


def _write(work: _Writing, op: str, inputs: Sequence[str], output: str, name: str, grid: QParams) -> None:
    """Write a QuantizeLinear or DequantizeLinear; field by field, for `make_node` takes three times as long."""
    node = onnx.NodeProto(op_type=op, input=inputs, output=[output], name=work.names.fresh(name))
    if work.plan.layout.contrib_ops:
        node.domain = CONTRIB_DOMAIN
    if grid.spec.axis is not None:
        node.attribute.add(name="axis", type=onnx.AttributeProto.INT, i=grid.spec.axis)
    if grid.spec.block_size is not None:
        node.attribute.add(name="block_size", type=onnx.AttributeProto.INT, i=grid.spec.block_size)
    work.nodes.append(node)


def _round_activation(work: _Writing, name: str) -> None:
    tensor = work.plan.tensors.get(name)
    if tensor is None or tensor.qparams is None:
        return
    if tensor.role == "activation" and work.plan.layout.dedicated_pairs and len(tensor.readers or ()) > 1:
        for number, reader in enumerate(tensor.readers or (), 1):
            output = work.names.fresh(f"{name}_DequantizeLinear_Output_{number}")
            work.dedicated[name, reader] = output
            _pair(work, name, tensor.qparams, output, f"_{number}")
    elif tensor.convert is not None:
        _converted(work, name, tensor, tensor.convert)
    else:
        _pair(work, name, tensor.qparams, work.rounded[name])


def _converted(work: _Writing, name: str, tensor: TensorPlan, second: Conversion) -> None:
    """Round a tensor, and from there onto its second grid for the readers that find it converted.

    Where others read the first grid, the second one has a DequantizeLinear of its own in front, so that each
    DequantizeLinear with the QuantizeLinear behind it can be taken for one conversion.
    """
    first, again, own = tensor.qparams, second.qparams, work.rounded[name]
    assert first is not None
    assert again is not None
    readers = [node.name for node in work.view.readers(name) if _reads_rounded(work, node, name)]
    converted = [reader for reader in readers if tensor.converts_for(reader)]
    everyone = len(converted) == len(readers)
    last = work.names.fresh(f"{name}_convert_DequantizeLinear_Output")
    if everyone and own == name:  # callers and subgraphs know the tensor by its name
        own, last = work.names.fresh(f"{name}_DequantizeLinear_Output"), name
    numbers, integers = _grid_names(work, name), work.names.fresh(f"{name}_QuantizeLinear_Output")
    _write(work, "QuantizeLinear", [work.raw[name], *numbers], integers, f"{name}_QuantizeLinear", first)
    _write(work, "DequantizeLinear", [integers, *numbers], own, f"{name}_DequantizeLinear", first)
    if not everyone:
        own = work.names.fresh(f"{name}_convert_QuantizeLinear_Input")
        _write(work, "DequantizeLinear", [integers, *numbers], own, f"{name}_convert_clone_DequantizeLinear", first)
    numbers, middle = _grid_names(work, name, second=True), work.names.fresh(f"{name}_convert_QuantizeLinear_Output")
    _write(work, "QuantizeLinear", [own, *numbers], middle, f"{name}_convert_QuantizeLinear", again)
    _write(work, "DequantizeLinear", [middle, *numbers], last, f"{name}_convert_DequantizeLinear", again)
    work.dedicated.update({(name, reader): last for reader in converted})


def _pair(work: _Writing, name: str, grid: QParams, output: str, suffix: str = "") -> None:
    numbers = _grid_names(work, name)
    middle = work.names.fresh(f"{name}_QuantizeLinear_Output{suffix}")
    _write(work, "QuantizeLinear", [work.raw[name], *numbers], middle, f"{name}_QuantizeLinear{suffix}", grid)
    _write(work, "DequantizeLinear", [middle, *numbers], output, f"{name}_DequantizeLinear{suffix}", grid)


def _round_constant(work: _Writing, name: str) -> None:
    tensor = work.plan.tensors[name]
    assert tensor.qparams is not None
    if tensor.role == "weight" and work.plan.layout.weight_pairs:
        _pair(work, name, tensor.qparams, work.rounded[name])
        return
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
            copy.input[index] = work.dedicated.get((name, node.name), work.rounded[name])
    outputs = [_takes_over(work, name) for name in node.output]
    for index, name in enumerate(outputs):
        copy.output[index] = work.raw.get(name, name)
    work.nodes.append(copy)
    for name in outputs:
        _round_activation(work, name)


def _left(work: _Writing, name: str) -> list[onnx.NodeProto]:
    """Return the readers of a tensor that are written."""
    return [node for node in work.view.readers(name) if node.name not in work.gone]


def _reads_rounded(work: _Writing, node: onnx.NodeProto, name: str) -> bool:
    tensor = work.plan.tensors.get(name)
    if tensor is None or tensor.readers is None:
        return tensor is not None
    if len(tensor.readers) == 1:
        return node.name == tensor.readers[0]
    if name not in work.readers:  # thousands of nodes may read one tensor
        work.readers[name] = frozenset(tensor.readers)
    return node.name in work.readers[name]


def _takes_over(work: _Writing, name: str) -> str:
    """Return the tensor that a producer makes instead, where the Relu or Clip behind it is gone."""
    uses = work.view.uses.get(name)
    return uses[0].node.output[0] if uses and uses[0].node.name in work.gone else name
