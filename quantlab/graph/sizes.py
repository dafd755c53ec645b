"""How many parameters a model has, and how much memory its tensors take for a given batch, told without running it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
import onnx
from onnx import helper

from quantlab.graph.files import tensors_of
from quantlab.graph.prepare.light import TOOL_ERRORS, light_copy


def tensor_bytes(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[str]
) -> dict[str, int]:
    """Tell the size of tensors from the shapes of the model's inputs.

    Args:
        model: Any model; it is not changed.
        shapes: Graph input to the shape that is fed.
        tensors: Tensors of the main graph.

    Returns:
        Tensor to bytes. What onnx's inference does not find counts as much as the largest that it does.
    """
    found = _inferred(model, shapes)
    known = {name: found[name] for name in tensors if name in found}
    largest = max(known.values(), default=0)
    return {name: known.get(name, largest) for name in tensors}


def parameter_count(model: onnx.ModelProto) -> int:
    """Count the numbers that a model stores: weights, biases and other constants, scales and zero points included.

    A convolution of M to N channels with windows of k x k has k^2 M N; one that is separable in depth, k x k in each
    channel and then 1 x 1 across them, has k^2 M + M N, which is 1/N + 1/k^2 of that.

    Args:
        model: Any model.

    Returns:
        The number of elements of all stored tensors, those of subgraphs and local functions included.

    Source:
        Howard et al. 2017, "MobileNets", section 3.1, for the ratio.
    """
    return sum(prod(tensor.dims) for tensor in tensors_of(model))


def _inferred(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    copy = light_copy(model)
    for value in copy.graph.input:
        if value.name in shapes:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, list(shapes[value.name])))
    del copy.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(copy, strict_mode=False, data_prop=True).graph
    except TOOL_ERRORS:
        graph = copy.graph
    sizes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            width = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).itemsize
            sizes[value.name] = prod(dim.dim_value for dim in dims) * width
    return sizes
