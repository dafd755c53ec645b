"""Operators that move values are the same on integers: only the names of what they read and make change."""

from __future__ import annotations

import onnx

from quantlab.rewrite.qoperator.writers import integer_writers
from quantlab.rewrite.qoperator.writing import Writing


@integer_writers.register(
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Resize", "Gather", "ArgMax"
)
def movement(work: Writing, node: onnx.NodeProto) -> None:
    """Read integers in place of the first input; shapes, indices and the like stay."""
    _write(work, node, [work.whole(node.input[0]), *node.input[1:]])


@integer_writers.register("Split")
def split(work: Writing, node: onnx.NodeProto) -> None:
    """As `movement`, under another name."""
    work.write(node, "Split", [work.whole(node.input[0]), *node.input[1:]], domain="")


@integer_writers.register("Pad")
def pad(work: Writing, node: onnx.NodeProto) -> None:
    """As `movement`; the padding is zero, given or not, or copies of the data."""
    data, pads, value, *axes = [*node.input, "", ""][: max(3, len(node.input))]
    if work.view.attribute(node, "mode", b"constant") == b"constant":
        value = work.stored(value, data) if value else work.grid(data)[1]
    _write(work, node, [work.whole(data), pads, value, *axes])


def _write(work: Writing, node: onnx.NodeProto, inputs: list[str]) -> None:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    while inputs and not inputs[-1]:
        inputs.pop()
    del copy.input[:], copy.output[:]
    copy.input.extend(inputs)
    copy.output.extend(work.outputs(node))
    work.nodes.append(copy)
