"""One-node ONNX models: QuantizeLinear, DequantizeLinear, or one behind the other, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

CODES = {name: getattr(TensorProto, name.upper()) for name in ("int4", "uint4", "int8", "uint8", "int16", "uint16")}
CODES["int32"] = TensorProto.INT32
FLOAT_CODES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def _packed(values: NDArray[Any], grid: str) -> bytes:
    if not grid.endswith("int4"):
        return values.astype(grid).tobytes()
    nibbles = np.append(values, [0] * (values.size % 2)).astype(np.uint8) & 15
    return (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()


def runner(
    ops: str, grid: str, scale: Any, zero_point: Any, axis: int | None = None, stored: NDArray[Any] | None = None
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Build a model and return the function that runs it on one thread with graph optimizations off.

    Args:
        ops: "q", "dq", or "qdq" for both.
        grid: Name of the integer type.
        scale: NumPy scalar or array of shape (C,), float32 or float16.
        zero_point: Integer, or integers of shape (C,).
        axis: Axis of the channels, for arrays.
        stored: Integers to dequantize as a constant, which is how 4-bit data gets in; the input is ignored then.
    """
    step, zero = np.asarray(scale), np.asarray(zero_point)
    real, code = FLOAT_CODES[step.dtype.name], CODES[grid]
    constants = [
        helper.make_tensor("s", real, step.shape, step.tobytes(), raw=True),
        helper.make_tensor("z", code, zero.shape, _packed(zero.reshape(-1), grid), raw=True),
    ]
    if stored is not None:
        constants.append(helper.make_tensor("q", code, stored.shape, _packed(stored.reshape(-1), grid), raw=True))
    given = {} if axis is None else {"axis": axis}
    nodes = []
    if ops.startswith("q"):
        nodes.append(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **given))
    if ops.endswith("dq"):
        nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **given))
    inputs = [helper.make_tensor_value_info("x", real, None)] if ops.startswith("q") else []
    if ops == "dq" and stored is None:
        inputs = [helper.make_tensor_value_info("q", code, None)]
    output = (
        helper.make_tensor_value_info("q", code, None) if ops == "q" else helper.make_tensor_value_info("y", real, None)
    )
    graph = helper.make_graph(nodes, "linear", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {inputs[0].name: x} if inputs else {})[0])
