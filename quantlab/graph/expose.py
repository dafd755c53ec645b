"""Make inner tensors visible: a copy of a model that has them among its outputs."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import helper


def expose(model: onnx.ModelProto, tensors: Iterable[str], *, keep_outputs: bool = True) -> onnx.ModelProto:
    """Return a copy of a model with more outputs.

    Args:
        model: Any model; it is not changed.
        tensors: Tensors that some node of the main graph makes.
        keep_outputs: Whether the model's own outputs stay outputs too.

    Returns:
        The copy; exposed tensors follow the kept outputs, each once.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = {value.name: value for value in model.graph.output}
    wanted = dict.fromkeys([*(own if keep_outputs else ()), *tensors])
    outputs = [own.get(name) or helper.make_empty_tensor_value_info(name) for name in wanted]
    del copy.graph.output[:]
    copy.graph.output.extend(outputs)
    return copy
