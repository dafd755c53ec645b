"""Types and shapes of tensors, as far as onnx's own inference (with propagation of shape data) finds them.

What happens inside subgraphs is inferred too, but only the main graph is written to.
"""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass
from quantlab.graph.prepare.light import TOOL_ERRORS, light_copy


def _edit(model: onnx.ModelProto) -> list[str]:
    try:
        inferred = onnx.shape_inference.infer_shapes(light_copy(model), strict_mode=False, data_prop=True)
    except TOOL_ERRORS as error:
        return [f"onnx's shape inference failed, shapes stay as they are: {_first_line(error)}"]
    graph = model.graph
    before = {value.name: value for value in graph.value_info}
    found = {value.name: value for value in inferred.graph.value_info}
    better = [value for name, value in found.items() if name not in before or before[name] != value]
    if better:
        kept = [value for name, value in before.items() if name not in found]
        del graph.value_info[:]
        graph.value_info.extend([*kept, *found.values()])
    outputs = _complete_outputs(graph, inferred.graph)
    notes = []
    if better or outputs:
        notes.append(f"found types and shapes of {len(better) + outputs} tensors")
    return [*notes, *_missing(graph)]


def _complete_outputs(graph: onnx.GraphProto, inferred: onnx.GraphProto) -> int:
    """Fill in the types of outputs that state none; what the model promises to its callers is not changed."""
    changed = 0
    for value, found in zip(graph.output, inferred.output, strict=True):
        if not _is_shaped(value) and _is_shaped(found):
            value.type.CopyFrom(found.type)
            changed += 1
    return changed


def _missing(graph: onnx.GraphProto) -> list[str]:
    shaped = {value.name for values in (graph.value_info, graph.output) for value in values if _is_shaped(value)}
    made = [(name, node) for node in graph.node for name in node.output if name]
    without = [(name, node) for name, node in made if name not in shaped]
    if not without:
        return []
    name, node = without[0]
    return [
        f"{len(without)} of {len(made)} tensors have no known shape, the first is {name!r} made by {node.op_type} "
        f"{node.name!r}"
    ]


def _is_shaped(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.WhichOneof("value")
    return kind is not None and (kind != "tensor_type" or value.type.tensor_type.HasField("shape"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


INFER_SHAPES = Pass(name="infer-shapes", edit=_edit)
