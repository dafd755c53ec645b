"""Small models with planted faults, whose culprit is known before anything is measured."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROWS, WIDTH = 4, 16


def model_of(nodes, constants, outputs, shape=(ROWS, WIDTH)):
    """Build a model with one float input x and float outputs."""
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "faults",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def node(op, inputs, output, **attributes):
    """Make a node that is called after its output."""
    return helper.make_node(op, inputs, [output], name=f"{output}_node", **attributes)


def samples(count, seed=0):
    """Draw normal inputs."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(ROWS, WIDTH)).astype(np.float32)} for _ in range(count)]


def hot_channel():
    """Two layers with a tensor between them, one channel of which is a hundred times larger than the others."""
    rng = np.random.default_rng(1)
    first, second, third = (rng.normal(size=(WIDTH, WIDTH)) / 4 for _ in range(3))
    first[:, 3] *= 100
    second[3] /= 100
    nodes = [
        node("MatMul", ["x", "w1"], "hot"),
        node("MatMul", ["hot", "w2"], "middle"),
        node("Relu", ["middle"], "positive"),
        node("MatMul", ["positive", "w3"], "y"),
    ]
    return model_of(nodes, {"w1": first, "w2": second, "w3": third}, ["y"])


def three_faults():
    """Three branches: one tensor's grid is to end too early, one weight has unlike channels, one tensor is masked."""
    rng = np.random.default_rng(2)
    sizes = np.geomspace(1, 300, WIDTH)
    mask = np.where(np.arange(WIDTH) % 3 == 0, -10000.0, 0.0) * np.ones((ROWS, 1))
    constants = {
        "w_narrow": rng.normal(size=(WIDTH, WIDTH)) / 4,
        "w_last": rng.normal(size=(WIDTH, WIDTH)) / 4,
        "uneven": rng.normal(size=(WIDTH, WIDTH)) / 4 * sizes,
        "evening": np.diag(1 / sizes),
        "w_scores": rng.normal(size=(WIDTH, WIDTH)) / 4,
        "mask": mask,
    }
    nodes = [
        node("MatMul", ["x", "w_narrow"], "raw_narrow"),
        node("Relu", ["raw_narrow"], "narrow"),
        node("MatMul", ["narrow", "w_last"], "a"),
        node("MatMul", ["x", "uneven"], "wide"),
        node("MatMul", ["wide", "evening"], "b"),
        node("MatMul", ["x", "w_scores"], "scores"),
        node("Add", ["scores", "mask"], "masked"),
        node("Softmax", ["masked"], "c", axis=-1),
    ]
    return model_of(nodes, constants, ["a", "b", "c"])


FAULTS = {"narrow": {"rmin": 0.0, "rmax": 0.5}, "wide": {"quant_type": "UInt16"}, "evening": {"quant_type": "Int16"}}
"""Overrides that plant the first fault, and keep other sources of the second branch small."""
