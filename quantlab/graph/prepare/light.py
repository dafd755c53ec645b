"""A light model is a model whose large initializers are graph inputs: same types and shapes, none of the data.

onnx's C++ tools read a model from its serialized form; this way they need neither the memory nor protobuf's 2 GiB.
"""

from __future__ import annotations

import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import shape_inference, version_converter

from quantlab.graph.files import split_weights

TOOL_ERRORS = (
    RuntimeError,
    ValueError,
    EncodeError,
    shape_inference.InferenceError,
    version_converter.ConvertError,
)
"""What onnx's C++ tools raise; their own errors are not RuntimeErrors in every release."""


def light_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model without the data of its large and its sparse initializers.

    Args:
        model: Any model of IR version 4 or newer; it is not changed.

    Returns:
        A copy in which they are graph inputs; small initializers, which may hold shapes and axes, stay what they are.
    """
    copy, large = split_weights(model)
    given = {value.name for value in copy.graph.input}
    described = [(tensor.name, tensor.data_type, tensor.dims) for tensor in large.values()]
    described += [
        (sparse.values.name, sparse.values.data_type, sparse.dims) for sparse in copy.graph.sparse_initializer
    ]
    del copy.graph.sparse_initializer[:]
    for name, data_type, dims in described:
        if name not in given:
            copy.graph.input.append(onnx.helper.make_tensor_value_info(name, data_type, list(dims)))
    return copy
