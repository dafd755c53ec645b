"""One-node ONNX models with `block_size`, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from tests.kernels.linear_models import CODES, FLOAT_CODES, _packed


def block_runner(
    ops: str,
    grid: str,
    scale: NDArray[Any],
    zero_point: NDArray[Any],
    axis: int,
    block_size: int,
    stored: NDArray[Any] | None = None,
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Build a model of QuantizeLinear, DequantizeLinear or both ("q", "dq", "qdq") and return what runs it.

    Args:
        ops: Which of them.
        grid: Name of the integer type.
        scale: One step for each block, float32 or float16.
        zero_point: Integers of the shape of scale.
        axis: The axis that is cut into blocks.
        block_size: Neighbours that share a scale.
        stored: Integers to dequantize as a constant; the input is ignored then.
    """
    real, code = FLOAT_CODES[scale.dtype.name], CODES[grid]
    constants = [
        helper.make_tensor("s", real, scale.shape, scale.tobytes(), raw=True),
        helper.make_tensor("z", code, zero_point.shape, _packed(zero_point.reshape(-1), grid), raw=True),
    ]
    if stored is not None:
        constants.append(helper.make_tensor("q", code, stored.shape, _packed(stored.reshape(-1), grid), raw=True))
    given = {"axis": axis, "block_size": block_size}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **given)] if ops[0] == "q" else []
    if ops.endswith("dq"):
        nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **given))
    inputs = [helper.make_tensor_value_info("x", real, None)] if ops[0] == "q" else []
    if ops == "dq" and stored is None:
        inputs = [helper.make_tensor_value_info("q", code, None)]
    name, kind = ("q", code) if ops == "q" else ("y", real)
    graph = helper.make_graph(nodes, "blocks", inputs, [helper.make_tensor_value_info(name, kind, None)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {inputs[0].name: x} if inputs else {})[0])


def native_pack(weight: NDArray[Any], block_size: int, symmetric: bool, pad: bool = True) -> tuple[NDArray[Any], ...]:
    """Call onnxruntime's C++ as its own MatMulNBitsQuantizer does: (packed, scales, zero points).

    A weight with whole blocks needs no padding.
    """
    from onnxruntime.capi._pybind_state import quantize_matmul_4bits

    rows, columns = weight.shape
    blocks = -(-rows // block_size)
    # The C++ reads rows one after the other, whatever the strides say.
    padded = np.ascontiguousarray(np.pad(weight, ((0, blocks * block_size - rows), (0, 0)))) if pad else weight
    packed = np.zeros((columns, blocks, block_size // 2), np.uint8)
    zero_point = np.zeros((columns, (blocks + 1) // 2), np.uint8)
    scale = np.zeros((columns, blocks), weight.dtype)
    quantize_matmul_4bits(packed, padded, scale, zero_point, block_size, columns, rows, symmetric)
    return packed, scale, zero_point
