"""Plans whose models onnxruntime, once it has optimized them, refuses to load or to run; found before measuring.

It joins an operator with the roundings around it wherever the types look right, and learns only then that there is no
such kernel (onnxruntime 1.31.1, CPU).
"""

from __future__ import annotations

from collections.abc import Iterator

from quantlab.errors import OptionError
from quantlab.graph import GraphView
from quantlab.plan.quantplan import QuantPlan


def check_blocks(plan: QuantPlan, view: GraphView) -> None:
    """Refuse blocks of 8-bit weights in MatMul of 8-bit activations, which onnxruntime joins and then cannot run.

    Args:
        plan: A refined plan.
        view: Its graph.

    Raises:
        OptionError: There is such a MatMul; the text names it.
    """
    for node in view.nodes:
        if node.op_type != "MatMul" or plan.nodes[node.name].status != "quantized":
            continue
        x, w = (plan.tensors.get(name) for name in node.input)
        if x is None or w is None or w.spec.block_size is None or w.role != "weight":
            continue
        if w.spec.block_size >= view.constants[node.input[1]].dims[0]:
            continue
        if (x.spec_for(node.name).dtype.bits, w.spec.dtype.bits) == (8, 8):
            raise OptionError(
                f"MatMul {node.name!r} would multiply {node.input[0]!r}, {x.spec_for(node.name).dtype}, by "
                f"{node.input[1]!r} in blocks of {w.spec.block_size}, {w.spec.dtype}, which onnxruntime refuses to "
                "run: take weights of 4 or 16 bits, activations of 16, or leave block_size out"
            )


_EXTREMES = ("MaxPool", "ReduceMax", "ReduceMin")
"""Operators that onnxruntime moves onto the integers themselves, and does not have on 4 bits."""


def check_four_bits(plan: QuantPlan, view: GraphView) -> None:
    """Refuse activations of 4 bits where largest and smallest are looked for, and in Conv by weights of 8 bits.

    Args:
        plan: A refined plan.
        view: Its graph.

    Raises:
        OptionError: There is such a node; the text names it.
    """
    for node in view.nodes:
        x = plan.tensors.get(node.input[0]) if node.input else None
        if x is None or plan.nodes[node.name].status != "quantized" or x.spec_for(node.name).dtype.bits != 4:
            continue
        w = plan.tensors.get(node.input[1]) if node.op_type == "Conv" else None
        if node.op_type in _EXTREMES or (w is not None and w.spec.dtype.bits == 8):
            other = "" if w is None else f" by {node.input[1]!r}, {w.spec.dtype}"
            kind = x.spec_for(node.name).dtype
            raise OptionError(
                f"{node.op_type} {node.name!r} would work on {node.input[0]!r}, {kind}{other}, and onnxruntime refuses "
                "to load such a model: give the tensor 8 or 16 bits, or leave the node in float"
            )


_NEVER_JOINED = ("ConvTranspose", "CumSum", "Div", "HardSigmoid", "HardSwish", "Pad", "ReduceMean", "ReduceSum", "Sub")
"""Operators that onnxruntime leaves between roundings whatever their type."""


def check_float8(plan: QuantPlan, view: GraphView) -> None:
    """Refuse weights of float8 beside activations of 8-bit integers, which onnxruntime joins and then cannot load.

    Args:
        plan: A refined plan.
        view: Its graph.

    Raises:
        OptionError: There is such a node; the text names it.
    """
    for node in view.nodes:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or plan.nodes[node.name].status != "quantized":
            continue
        x, w = (plan.tensors.get(name) for name in node.input[:2])
        if x is None or w is None or not w.spec.dtype.is_float:
            continue
        kind = x.spec_for(node.name).dtype
        if kind.bits == 8 and not kind.is_float:
            raise OptionError(
                f"{node.op_type} {node.name!r} would multiply {node.input[0]!r}, {kind}, by {node.input[1]!r}, "
                f"{w.spec.dtype}, and onnxruntime refuses to load such a model: leave the activations in float "
                "(weights_only), or give them float8 or 16 bits"
            )


def joined_float8(plan: QuantPlan, view: GraphView) -> Iterator[str]:
    """Yield a line where onnxruntime loads a plan's model only if told to optimize less.

    Args:
        plan: A refined plan.
        view: Its graph.

    Yields:
        Words that name the first node that reads or makes activations of float8.
    """
    for node in view.nodes:
        if plan.nodes[node.name].status != "quantized" or node.op_type in _NEVER_JOINED:
            continue
        for name in (*node.input, *node.output):
            tensor = plan.tensors.get(name)
            if tensor is not None and tensor.role == "activation" and tensor.spec.dtype.is_float:
                yield (
                    f"activations of float8, such as {name!r} at {node.op_type} {node.name!r}: by default onnxruntime "
                    "joins their roundings into an operator on integers and then refuses to load the model; open it "
                    "with graph_optimization_level ORT_ENABLE_BASIC, as quantlab does"
                )
                return
