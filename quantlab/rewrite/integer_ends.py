"""Inputs and outputs of a quantized model as integers, so that nothing is rounded or turned back at its ends.

    x -> QuantizeLinear -> ...      becomes   x (integers) -> ...
    ... -> DequantizeLinear -> y    becomes   ... -> y (integers)

Whoever calls such a model does the rounding, with scale and zero point of its plan. Inputs and outputs without a grid
stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from quantlab.errors import OptionError
from quantlab.graph import GraphView, Names


def integer_ends(model: onnx.ModelProto, *, inputs: bool, outputs: bool) -> onnx.ModelProto:
    """Return a quantized model whose rounded inputs, outputs or both are integers.

    Args:
        model: What a writer has written; it is changed, for nobody else has it yet.
        inputs: Whether inputs become integers.
        outputs: Whether outputs do.

    Returns:
        The same model.
    """
    for value in model.graph.input if inputs else ():
        _open_input(model, value)
    for value in model.graph.output if outputs else ():
        _open_output(model, value)
    return model


def check_integer_ends(view: GraphView, *, inputs: bool, outputs: bool) -> None:
    """Refuse ends of a model that cannot be integers, for the body of a control-flow node reads them in float.

    Args:
        view: The prepared graph.
        inputs: Whether inputs are to become integers.
        outputs: Whether outputs are.

    Raises:
        OptionError: There is such an input or output; the text names it.
    """
    for name in (*(view.inputs if inputs else ()), *(view.outputs if outputs else ())):
        if any(use.inside for use in view.uses.get(name, ())):
            raise OptionError(
                f"{name!r} cannot become integers, for the body of a control-flow node reads it: leave "
                "integer_inputs and integer_outputs out"
            )


def _open_input(model: onnx.ModelProto, value: onnx.ValueInfoProto) -> None:
    graph, name = model.graph, value.name
    first = {id(node): node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == name}
    if not first:
        return
    middle = {node.output[0] for node in first.values()}
    numbers, domain = list(next(iter(first.values())).input[1:]), next(iter(first.values())).domain
    readers = [node for node in graph.node if name in node.input and id(node) not in first]
    back = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in middle]
    for index in [index for index, node in enumerate(graph.node) if id(node) in first][::-1]:
        del graph.node[index]
    if readers and not back:
        names = Names.of(model)
        again, output = names.fresh(f"{name}_DequantizeLinear"), names.fresh(f"{name}_DequantizeLinear_Output")
        node = onnx.helper.make_node("DequantizeLinear", [name, *numbers], [output], again, domain=domain)
        graph.node.insert(0, node)
        back = [graph.node[0]]
    for node in readers:
        _rename(node.input, {name: back[0].output[0]})
    for node in graph.node:
        _rename(node.input, dict.fromkeys(middle, name))
    value.type.tensor_type.elem_type = _code(graph, numbers)


def _open_output(model: onnx.ModelProto, value: onnx.ValueInfoProto) -> None:
    graph, name = model.graph, value.name
    place = next((index for index, node in enumerate(graph.node) if name in node.output), None)
    if place is None or graph.node[place].op_type != "DequantizeLinear":
        return
    integers, *numbers = graph.node[place].input
    if integers in {other.name for other in (*graph.output, *graph.input, *graph.initializer)}:
        return
    again = Names.of(model).fresh(f"{name}_DequantizeLinear_Output")
    if not any(name in node.input for node in graph.node):
        del graph.node[place]
    for node in graph.node:
        _rename(node.input, {name: again, integers: name})
        _rename(node.output, {name: again, integers: name})
    value.type.tensor_type.elem_type = _code(graph, numbers)


def _rename(names: Any, new: Mapping[str, str]) -> None:
    """Rename in a repeated field, which has no type of its own to name."""
    for index, name in enumerate(list(names)):
        if name in new:
            names[index] = new[name]


def _code(graph: onnx.GraphProto, numbers: list[str]) -> int:
    """Return the element type of integers with this scale and zero point."""
    return next(int(tensor.data_type) for tensor in graph.initializer if tensor.name == numbers[1])
