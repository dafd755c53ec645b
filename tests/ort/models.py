"""Models, samples and readers that the tests of this folder share."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization as peer

import quantlab
from quantlab import demo

IMAGES = demo.digits().train_images[:24]


def small_model(opset=17):
    """Conv, Relu, pooling and MatMul, typed throughout."""
    rng = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    def tensor(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "v"], ["out"], name="matmul"),
    ]
    constants = [weight("w", 6, 3, 3, 3), weight("b", 6), weight("v", 6, 5)]
    graph = helper.make_graph(nodes, "g", [tensor("x", "n", 3, 8, 8)], [tensor("out", "n", 5)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def samples(count=9, seed=1):
    """Samples of the small model, each wider than the one before in turns of three."""
    rng = np.random.default_rng(seed)
    return [{"x": (rng.normal(size=(2, 3, 8, 8)) * (1 + i % 3)).astype(np.float32)} for i in range(count)]


def reader(given, base=peer.CalibrationDataReader):
    """A reader that can be read once, made from the peer's class or from ours."""

    class Once(base):
        def __init__(self):
            self.left = iter(given)

        def get_next(self):
            return next(self.left, None)

    return Once()


def digits(base=peer.CalibrationDataReader):
    """A reader of pictures for the demo model."""
    return reader([{"image": image[None]} for image in IMAGES], base)


def save_prepared_demo(path):
    """Write the demo model as it is after pre-processing."""
    quantlab.quant_pre_process(quantlab.load(demo.float_model()), path)


@contextlib.contextmanager
def quiet_peer():
    """Run the peer without what it prints and NumPy's warnings."""
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        yield


def save(model, path):
    """Write a model and return its path as text."""
    onnx.save(model, path)
    return str(path)
