"""What a node gives for known inputs, in NumPy: the operators that models compute constants and shapes with.

Every function here is the operator's definition in ONNX. Sums and products of floats may be rounded in another order
than a runtime does; integers are exact, and integer division drops what is behind the point, as C does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]
Inputs = Sequence[Array | None]
Evaluator = Callable[[Inputs, Attributes], list[Array]]


def evaluate(node: onnx.NodeProto, inputs: Inputs) -> list[Array] | None:
    """Compute the outputs of a node.

    Args:
        node: A node of the default domain, of opset 13 or newer.
        inputs: An array for each input, None for one that is left out.

    Returns:
        An array for each output, or None for an operator that is not in the table.

    Raises:
        ArithmeticError: A result is no number where NumPy and a runtime need not agree: division by zero, overflow.
        ValueError: The inputs do not fit together.

    Example:
        >>> node = onnx.helper.make_node("Concat", ["a", "b"], ["c"], axis=0)
        >>> evaluate(node, [np.array([1]), np.array([-1])])
        [array([ 1, -1])]
    """
    known = _TABLE.get(node.op_type)
    if known is None:
        return None
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    attributes["outputs"] = len(node.output)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        return [np.asarray(array) for array in known(inputs, attributes)]


def known_operators() -> tuple[str, ...]:
    """Return the operators that `evaluate` computes."""
    return tuple(sorted(_TABLE))


def _elementwise(function: Callable[..., Any]) -> Evaluator:
    def compute(inputs: Inputs, _: Attributes) -> list[Array]:
        return [function(*inputs)]

    return compute


def _given(inputs: Inputs, index: int) -> Array:
    array = inputs[index] if index < len(inputs) else None
    if array is None:
        raise ValueError(f"input {index} is left out")
    return array


def _ints(inputs: Inputs, index: int) -> list[int] | None:
    array = inputs[index] if index < len(inputs) else None
    return None if array is None else [int(value) for value in array.reshape(-1)]


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    if not b.all():
        raise FloatingPointError("integer division by zero")
    quotient = np.abs(a) // np.abs(b)
    return np.asarray(np.where((a < 0) != (b < 0), -quotient, quotient), a.dtype)


def _power(a: Array, b: Array) -> Array:
    return np.asarray(np.power(a, b), a.dtype)


def _modulo(inputs: Inputs, attributes: Attributes) -> list[Array]:
    a, b = _given(inputs, 0), _given(inputs, 1)
    return [np.fmod(a, b) if attributes.get("fmod", 0) else np.mod(a, b)]


def _many(function: Callable[[Array, Array], Any]) -> Evaluator:
    def compute(inputs: Inputs, _: Attributes) -> list[Array]:
        result = _given(inputs, 0)
        for index in range(1, len(inputs)):
            result = function(result, _given(inputs, index))
        return [result]

    return compute


def _cast(inputs: Inputs, attributes: Attributes) -> list[Array]:
    return [_given(inputs, 0).astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))]


def _concat(inputs: Inputs, attributes: Attributes) -> list[Array]:
    return [np.concatenate([_given(inputs, index) for index in range(len(inputs))], axis=attributes["axis"])]


def _constant_of_shape(inputs: Inputs, attributes: Attributes) -> list[Array]:
    value = onnx.numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return [np.full(_ints(inputs, 0) or (), value[0], value.dtype)]


def _expand(inputs: Inputs, _: Attributes) -> list[Array]:
    data = _given(inputs, 0)
    return [np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(_ints(inputs, 1) or ()))).copy()]


def _flatten(inputs: Inputs, attributes: Attributes) -> list[Array]:
    data, axis = _given(inputs, 0), attributes.get("axis", 1)
    rows = int(np.prod(data.shape[:axis], dtype=np.int64))
    return [data.reshape(rows, int(np.prod(data.shape[axis:], dtype=np.int64)))]


def _gather(inputs: Inputs, attributes: Attributes) -> list[Array]:
    return [np.take(_given(inputs, 0), _given(inputs, 1), axis=attributes.get("axis", 0))]


def _range(inputs: Inputs, _: Attributes) -> list[Array]:
    start, limit, delta = (_given(inputs, index) for index in range(3))
    count = max(int(np.ceil((limit.item() - start.item()) / delta.item())), 0)
    return [np.asarray(start + np.arange(count) * delta, start.dtype)]


def _reshape(inputs: Inputs, attributes: Attributes) -> list[Array]:
    data, sizes = _given(inputs, 0), _ints(inputs, 1) or []
    if not attributes.get("allowzero", 0):
        sizes = [data.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return [data.reshape(sizes)]


def _slice(inputs: Inputs, _: Attributes) -> list[Array]:
    data, starts, ends = _given(inputs, 0), _ints(inputs, 1) or [], _ints(inputs, 2) or []
    axes = _ints(inputs, 3) or list(range(len(starts)))
    steps = _ints(inputs, 4) or [1] * len(starts)
    where = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # A backward slice that ends before the first element: to Python, -1 would be the last one.
        past = step < 0 and end + data.shape[axis] < 0
        where[axis] = slice(start, None if past else end, step)
    return [data[tuple(where)]]


def _split(inputs: Inputs, attributes: Attributes) -> list[Array]:
    data, axis = _given(inputs, 0), attributes.get("axis", 0)
    sizes = _ints(inputs, 1)
    if sizes is None:
        chunk = -(-data.shape[axis] // attributes["outputs"])
        cuts = [chunk * part for part in range(1, attributes["outputs"])]
    else:
        cuts = [int(cut) for cut in np.cumsum(sizes)[:-1]]
    return list(np.split(data, cuts, axis=axis))


def _squeeze(inputs: Inputs, _: Attributes) -> list[Array]:
    axes = _ints(inputs, 1)
    return [np.squeeze(_given(inputs, 0), None if axes is None else tuple(axes))]


def _unsqueeze(inputs: Inputs, _: Attributes) -> list[Array]:
    return [np.expand_dims(_given(inputs, 0), tuple(_ints(inputs, 1) or ()))]


def _transpose(inputs: Inputs, attributes: Attributes) -> list[Array]:
    return [np.ascontiguousarray(np.transpose(_given(inputs, 0), attributes.get("perm")))]


def _tile(inputs: Inputs, _: Attributes) -> list[Array]:
    return [np.tile(_given(inputs, 0), _ints(inputs, 1) or ())]


_TABLE: dict[str, Evaluator] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and),
    "Cast": _cast,
    "Ceil": _elementwise(np.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(np.equal),
    "Exp": _elementwise(np.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _elementwise(np.floor),
    "Gather": _gather,
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Log": _elementwise(np.log),
    "MatMul": _elementwise(np.matmul),
    "Max": _many(np.maximum),
    "Min": _many(np.minimum),
    "Mod": _modulo,
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "Pow": _elementwise(_power),
    "Range": _range,
    "Reciprocal": _elementwise(np.reciprocal),
    "Relu": _elementwise(lambda x: np.maximum(x, 0)),
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(np.where),
    "Xor": _elementwise(np.logical_xor),
}
