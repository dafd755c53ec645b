"""Plans whose models onnxruntime, once it has optimized them, refuses to load or to run; found before measuring.

It joins an operator with the roundings around it wherever the types look right, and learns only then that there is no
such kernel (onnxruntime 1.31.1, CPU).
"""

from __future__ import annotations

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


def check_four_bits(plan: QuantPlan, view: GraphView) -> None:
    """Refuse activations of 4 bits in MaxPool, and in Conv by weights of 8 bits.

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
        if node.op_type == "MaxPool" or (w is not None and w.spec.dtype.bits == 8):
            other = "" if w is None else f" by {node.input[1]!r}, {w.spec.dtype}"
            kind = x.spec_for(node.name).dtype
            raise OptionError(
                f"{node.op_type} {node.name!r} would work on {node.input[0]!r}, {kind}{other}, and onnxruntime refuses "
                "to load such a model: give the tensor 8 or 16 bits, or leave the node in float"
            )
