"""On which axis of a constant onnxruntime's integer kernels take channels, and who asks for another one."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from quantlab.graph import GraphView
from quantlab.plan.quantplan import QuantPlan


def channel_axis(node: onnx.NodeProto, name: str, view: GraphView) -> int | None:
    """Return the axis on which a node's integer kernel takes a scale a channel of a constant.

    Args:
        node: A node that reads the constant.
        name: Name of the constant.
        view: The graph.

    Returns:
        The axis, counted from the front, or None where the kernel takes one scale for the whole constant.
    """
    if len(node.input) < 2 or node.input[1] != name or name in (node.input[0], *node.input[2:]):
        return None
    if node.op_type == "MatMul":
        return 1 if len(view.constants[name].dims) == 2 else None
    if node.op_type == "Gemm":
        return 0 if view.attribute(node, "transB", 0) else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type)


def strange_axes(plan: QuantPlan, view: GraphView) -> Iterator[str]:
    """Yield a line for each MatMul whose constant gets channels where no integer kernel takes them.

    Args:
        plan: A refined plan.
        view: Its graph.

    Yields:
        Words that name node and tensor.
    """
    for node in view.nodes:
        if node.op_type != "MatMul" or plan.nodes[node.name].status != "quantized":
            continue
        for name in node.input:
            tensor = plan.tensors.get(name)
            if tensor is None or tensor.role != "weight" or not tensor.spec.per_channel:
                continue
            if tensor.spec.axis != channel_axis(node, name, view):
                yield (
                    f"MatMul {node.name!r} reads {name!r} with a scale for each index of axis {tensor.spec.axis}: the "
                    "integer kernel of onnxruntime's CPU provider takes scales of columns only, and refuses these or "
                    "takes them for columns; run the model elsewhere, or without graph optimization"
                )
