"""Networks with seeded random weights, shaped as published, for timing: MobileNetV2, ResNet-50 and a BERT encoder.

Weights are normal with variance gain / fan_in (He et al., "Delving Deep into Rectifiers", 2015), so that activations
keep a natural size from the first layer to the last. What such a network answers means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.real_models.graph import GraphWriter

HE, LINEAR, BRANCH = 2.0, 1.0, 0.2
"""Gains: before a ReLU; before nothing; at the end of a residual branch, so that sums of many branches stay small."""
BIAS = 0.1
MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and first stride: Sandler et al., "MobileNetV2", 2018, table 2."""
RESNET50_BLOCKS = (3, 4, 6, 3)
"""Bottlenecks of each stage: He et al., "Deep Residual Learning", 2015, table 1."""


def mobilenet_v2(*, size: int = 224, width: float = 1.0, last: int = 1280, classes: int = 1000, seed: int = 0) -> bytes:
    """Build MobileNetV2 with batch normalization folded away and ReLU6 as Clip.

    Args:
        size: Height and width of the images, in pixels.
        width: Factor on the channels of the stages.
        last: Channels of the last convolution.
        classes: Outputs.
        seed: Of the weights.

    Returns:
        A serialized model: `image` float32 `(N, 3, size, size)` to `logits` `(N, classes)`.
    """
    net = _Network(seed)
    channels = _scaled(32, width)
    value = net.clip6(net.conv("image", "stem", (3, channels, 3), stride=2))
    for stage, (expansion, wanted, blocks, first_stride) in enumerate(MOBILENET_STAGES):
        for block in range(blocks):
            shape = (channels, channels * expansion, _scaled(wanted, width))
            value = _inverted_residual(net, value, f"stage{stage}.{block}", shape, 1 if block else first_stride)
            channels = shape[2]
    value = net.clip6(net.conv(value, "head", (channels, last, 1)))
    return net.classifier(value, "mobilenet_v2", size, last, classes)


def resnet50(
    *, size: int = 224, width: int = 64, blocks: tuple[int, ...] = RESNET50_BLOCKS, classes: int = 1000, seed: int = 0
) -> bytes:
    """Build ResNet-50, stride in the 3x3 convolution, with batch normalization folded away.

    Args:
        size: Height and width of the images, in pixels.
        width: Channels of the first stage's bottlenecks.
        blocks: Bottlenecks of each stage.
        classes: Outputs.
        seed: Of the weights.

    Returns:
        A serialized model: `image` float32 `(N, 3, size, size)` to `logits` `(N, classes)`.
    """
    net = _Network(seed)
    value = net.relu(net.conv("image", "stem", (3, width, 7), stride=2))
    value = net.node("MaxPool", [value], "stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = width
    for stage, count in enumerate(blocks):
        inner = width << stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            value = _bottleneck(net, value, f"stage{stage}.{block}", (channels, inner, 4 * inner), stride)
            channels = 4 * inner
    return net.classifier(value, "resnet50", size, channels, classes)


def bert(
    *, layers: int = 4, tokens: int = 128, width: int = 768, heads: int = 12, inner: int = 3072, seed: int = 0
) -> bytes:
    """Build a BERT encoder behind its embeddings: post-norm layers, the Gelu written out with Erf.

    Args:
        layers: Encoder layers.
        tokens: Length of the sequences.
        width: Size of a token's vector, a multiple of `heads`.
        heads: Attention heads.
        inner: Width of the feed-forward layer.
        seed: Of the weights.

    Returns:
        A serialized model: `embeddings` float32 `(N, tokens, width)` to `hidden` of the same shape.
    """
    net = _Network(seed)
    value = net.normalize("embeddings", "embeddings.norm", width)
    for layer in range(layers):
        name = f"layer{layer}"
        value = net.add_and_normalize(_attention(net, value, name, width, heads), value, f"{name}.attention", width)
        wide = net.gelu(net.linear(value, f"{name}.wide", (width, inner)), f"{name}.gelu")
        value = net.add_and_normalize(net.linear(wide, f"{name}.narrow", (inner, width)), value, name, width)
    net.node("Identity", [value], "last", output="hidden")
    shape: list[str | int | None] = ["N", tokens, width]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("embeddings", "hidden"))
    return net.model("bert", [given], [made])


GRAPHS: dict[str, Callable[[], bytes]] = {"mobilenet_v2": mobilenet_v2, "resnet50": resnet50, "bert": bert}
"""Every network at its published size, BERT with four layers."""


class _Network(GraphWriter):
    """A graph writer that draws the weights of a layer when the layer is added."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)

    def drawn(self, name: str, shape: tuple[int, ...], deviation: float, mean: float = 0.0) -> str:
        """Add a normal weight."""
        values = self._random.standard_normal(shape, np.float32) * np.float32(deviation) + np.float32(mean)
        return self.weight(name, values)

    def scalar(self, name: str, value: float) -> str:
        """Add a constant float32 of shape (), which Clip insists on."""
        self._initializers.setdefault(name, numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def conv(
        self, value: str, name: str, shape: tuple[int, int, int], *, stride: int = 1, group: int = 1, gain: float = HE
    ) -> str:
        """Write a convolution with bias; `shape` is (input channels, output channels, kernel size)."""
        inputs, outputs, kernel = shape
        fan_in = inputs // group * kernel**2
        weight = self.drawn(f"{name}.weight", (outputs, inputs // group, kernel, kernel), math.sqrt(gain / fan_in))
        bias = self.drawn(f"{name}.bias", (outputs,), BIAS)
        return self.node(
            "Conv",
            [value, weight, bias],
            f"{name}.conv",
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=group,
        )

    def clip6(self, value: str) -> str:
        """Write a ReLU6."""
        return self.node("Clip", [value, self.scalar("zero", 0.0), self.scalar("six", 6.0)], f"{value}.relu6")

    def relu(self, value: str) -> str:
        """Write a ReLU."""
        return self.node("Relu", [value], f"{value}.relu")

    def classifier(self, value: str, name: str, size: int, channels: int, classes: int) -> bytes:
        """Write mean over the pixels and fully connected layer, and return the model."""
        value = self.node("GlobalAveragePool", [value], "pool")
        value = self.node("Flatten", [value], "flat", axis=1)
        weight = self.drawn("classifier.weight", (classes, channels), math.sqrt(LINEAR / channels))
        bias = self.drawn("classifier.bias", (classes,), BIAS)
        self.node("Gemm", [value, weight, bias], "classifier", output="logits", transB=1)
        given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, size, size])
        made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
        return self.model(name, [given], [made])

    def linear(self, value: str, name: str, shape: tuple[int, int]) -> str:
        """Write `x W + b`; `shape` is (inputs, outputs)."""
        weight = self.drawn(f"{name}.weight", shape, math.sqrt(LINEAR / shape[0]))
        value = self.node("MatMul", [value, weight], f"{name}.matmul")
        return self.node("Add", [value, self.drawn(f"{name}.bias", (shape[1],), BIAS)], f"{name}.add")

    def normalize(self, value: str, name: str, width: int) -> str:
        """Write a layer normalization over the last axis."""
        parts = [self.drawn(f"{name}.weight", (width,), BIAS, mean=1.0), self.drawn(f"{name}.bias", (width,), BIAS)]
        return self.node("LayerNormalization", [value, *parts], name, axis=-1, epsilon=1e-12)

    def add_and_normalize(self, value: str, shortcut: str, name: str, width: int) -> str:
        """Write the shortcut and the layer normalization behind a sub-layer."""
        return self.normalize(self.node("Add", [value, shortcut], f"{name}.shortcut"), f"{name}.norm", width)

    def gelu(self, value: str, name: str) -> str:
        """Write 0.5 x (1 + erf(x / sqrt(2))), node by node."""
        erf = self.node("Div", [value, self.scalar("root2", math.sqrt(2))], f"{name}.scaled")
        erf = self.node("Erf", [erf], f"{name}.erf")
        erf = self.node("Add", [erf, self.scalar("one", 1.0)], f"{name}.shifted")
        return self.node(
            "Mul", [self.node("Mul", [value, erf], f"{name}.product"), self.scalar("half", 0.5)], f"{name}.half"
        )

    def heads(self, value: str, name: str, heads: int, width: int, order: list[int]) -> str:
        """Write the split of `(N, S, width)` into heads and their transposition to `order`."""
        parts = self.weight("split", np.array([0, 0, heads, width // heads], np.int64))
        return self.node("Transpose", [self.node("Reshape", [value, parts], f"{name}.split")], name, perm=order)


def _scaled(channels: int, width: float) -> int:
    """Round scaled channels to a multiple of 8, as the paper's code does."""
    return max(8, int(channels * width + 4) // 8 * 8)


def _inverted_residual(net: _Network, value: str, name: str, shape: tuple[int, int, int], stride: int) -> str:
    """Write MobileNetV2's block; `shape` is (input, expanded and output channels)."""
    inputs, expanded, outputs = shape
    shortcut = value if stride == 1 and inputs == outputs else None
    if expanded != inputs:
        value = net.clip6(net.conv(value, f"{name}.expand", (inputs, expanded, 1)))
    value = net.clip6(net.conv(value, f"{name}.depthwise", (expanded, expanded, 3), stride=stride, group=expanded))
    value = net.conv(value, f"{name}.project", (expanded, outputs, 1), gain=BRANCH if shortcut else LINEAR)
    return value if shortcut is None else net.node("Add", [value, shortcut], f"{name}.add")


def _bottleneck(net: _Network, value: str, name: str, shape: tuple[int, int, int], stride: int) -> str:
    """Write ResNet's block; `shape` is (input, inner and output channels)."""
    inputs, inner, outputs = shape
    shortcut = value
    if inputs != outputs:
        shortcut = net.conv(value, f"{name}.shortcut", (inputs, outputs, 1), stride=stride, gain=LINEAR)
    value = net.relu(net.conv(value, f"{name}.reduce", (inputs, inner, 1)))
    value = net.relu(net.conv(value, f"{name}.middle", (inner, inner, 3), stride=stride))
    value = net.conv(value, f"{name}.expand", (inner, outputs, 1), gain=BRANCH)
    return net.relu(net.node("Add", [value, shortcut], f"{name}.add"))


def _attention(net: _Network, value: str, name: str, width: int, heads: int) -> str:
    """Write multi-head attention without a mask: softmax(Q K^T / sqrt(d)) V and its output layer."""
    parts = {}
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        made = net.linear(value, f"{name}.{part}", (width, width))
        parts[part] = net.heads(made, f"{name}.{part}.heads", heads, width, order)
    scores = net.node("MatMul", [parts["query"], parts["key"]], f"{name}.scores")
    root = net.scalar("root_of_depth", math.sqrt(width / heads))
    scores = net.node("Div", [scores, root], f"{name}.scores.scaled")
    weights = net.node("Softmax", [scores], f"{name}.weights", axis=-1)
    context = net.node("MatMul", [weights, parts["value"]], f"{name}.context")
    context = net.node("Transpose", [context], f"{name}.context.tokens", perm=[0, 2, 1, 3])
    joined = net.weight("joined", np.array([0, 0, width], np.int64))
    context = net.node("Reshape", [context, joined], f"{name}.context.joined")
    return net.linear(context, f"{name}.output", (width, width))


def samples(shape: tuple[int, ...], count: int, seed: int = 1) -> list[NDArray[np.float32]]:
    """Draw normal samples for one of the networks.

    Args:
        shape: Of one sample, its batch axis included.
        count: How many.
        seed: Of the values.

    Returns:
        Arrays of that shape; the first few are the same for any `count`.
    """
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, np.float32) for _ in range(count)]
