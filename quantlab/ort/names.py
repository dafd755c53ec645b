"""Names of what is put around a tensor, and look-ups by name, as the peer spells them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import onnx
from onnx import helper

from quantlab.errors import OptionError

QUANT_OP_NAME = "QuantizeLinear"
DEQUANT_OP_NAME = "DequantizeLinear"
QUANT_INPUT_SUFFIX = f"_{QUANT_OP_NAME}_Input"
DEQUANT_OUTPUT_SUFFIX = f"_{DEQUANT_OP_NAME}_Output"
TENSOR_NAME_QUANT_SUFFIX = "_quantized"


def add_quant_suffix(tensor_name: str) -> str:
    """Return the name of the QuantizeLinear node behind a tensor."""
    return f"{tensor_name}_{QUANT_OP_NAME}"


def add_quant_input_suffix(tensor_name: str) -> str:
    """Return the name of the input of that QuantizeLinear."""
    return tensor_name + QUANT_INPUT_SUFFIX


def add_quant_output_suffix(tensor_name: str) -> str:
    """Return the name of the output of that QuantizeLinear."""
    return f"{tensor_name}_{QUANT_OP_NAME}_Output"


def add_dequant_suffix(tensor_name: str) -> str:
    """Return the name of the DequantizeLinear node behind a tensor."""
    return f"{tensor_name}_{DEQUANT_OP_NAME}"


def add_dequant_input_suffix(tensor_name: str) -> str:
    """Return the name of the input of that DequantizeLinear."""
    return f"{tensor_name}_{DEQUANT_OP_NAME}_Input"


def add_dequant_output_suffix(tensor_name: str) -> str:
    """Return the name of the output of that DequantizeLinear."""
    return tensor_name + DEQUANT_OUTPUT_SUFFIX


class HasName(Protocol):
    """A node, an initializer, a value."""

    name: str


Item = TypeVar("Item", bound=HasName)


def find_by_name(item_name: str, item_list: Iterable[Item]) -> Item | None:
    """Return the first item of a name, or None."""
    return next((item for item in item_list if item.name == item_name), None)


def get_elem_index(elem_name: str, elem_list: Sequence[str]) -> int:
    """Return the last place of a name in a list, or -1.

    Example:
        >>> get_elem_index("a", ["a", "b", "a"]), get_elem_index("c", ["a"])
        (2, -1)
    """
    return max((index for index, name in enumerate(elem_list) if name == elem_name), default=-1)


def get_mul_node(inputs: Sequence[str], output: str, name: str) -> onnx.NodeProto:
    """Return a Mul node of two inputs."""
    return helper.make_node("Mul", inputs, [output], name)


def generate_identified_filename(filename: Path, identifier: str) -> Path:
    """Return a path with a word in front of its ending.

    Example:
        >>> generate_identified_filename(Path("models/a.onnx"), "-inferred").name
        'a-inferred.onnx'
    """
    return filename.with_name(f"{filename.stem}{identifier}{filename.suffix}")


_FIELDS = dict(enumerate(("f", "i", "s", "t", "g", "floats", "ints", "strings", "tensors", "graphs"), 1))


def attribute_to_kwarg(attribute: onnx.AttributeProto) -> dict[str, Any]:
    """Return an attribute as a keyword argument of `onnx.helper.make_node`.

    Args:
        attribute: Any attribute but a sparse tensor or a type.

    Returns:
        Name to value.

    Raises:
        OptionError: The attribute has no type, or another one.
    """
    if attribute.type not in _FIELDS:
        kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
        raise OptionError(f"attribute {attribute.name!r} is of type {kind}, which make_node takes no value of here")
    return {attribute.name: getattr(attribute, _FIELDS[attribute.type])}
