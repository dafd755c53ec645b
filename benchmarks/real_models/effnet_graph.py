"""EfficientNet-Lite0 as an ONNX graph, batch normalization left as nodes of its own.

Source: Tan and Le, "EfficientNet", 2019; the Lite variant drops squeeze-and-excitation, replaces Swish by Relu6 and
keeps stem and head at fixed widths. Padding is that of the original TensorFlow weights ("SAME": the odd pixel goes to
the bottom and right), so a stride of 2 on an even size pads unevenly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from .case import Array
from .graph import GraphWriter

SIZE = 224
CLASSES = 1000
_EPSILON = 1e-3


@dataclass(frozen=True, kw_only=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


_STAGES = (
    _Stage(repeats=1, kernel=3, stride=1, expand=1, channels=16),
    _Stage(repeats=2, kernel=3, stride=2, expand=6, channels=24),
    _Stage(repeats=2, kernel=5, stride=2, expand=6, channels=40),
    _Stage(repeats=3, kernel=3, stride=2, expand=6, channels=80),
    _Stage(repeats=3, kernel=5, stride=1, expand=6, channels=112),
    _Stage(repeats=4, kernel=5, stride=2, expand=6, channels=192),
    _Stage(repeats=1, kernel=3, stride=1, expand=6, channels=320),
)


def build(weights: Mapping[str, Array]) -> bytes:
    """Build the classifier.

    Args:
        weights: The state dict of the PyTorch package.

    Returns:
        A serialized model: `image` float32 `(N, 3, 224, 224)` to `logits` float32 `(N, 1000)`.
    """
    writer = _Writer(weights)
    size = SIZE
    value, size = writer.convolution("image", "_conv_stem", size, kernel=3, stride=2)
    value = writer.relu6(writer.batch_norm(value, "_bn0"), "stem")
    channels = 32
    index = 0
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            value, size = _block(writer, value, size, index=index, channels=channels, stage=stage, stride=stride)
            channels = stage.channels
            index += 1
    value, size = writer.convolution(value, "_conv_head", size, kernel=1, stride=1)
    value = writer.relu6(writer.batch_norm(value, "_bn1"), "head")
    value = writer.node("GlobalAveragePool", [value], "pool")
    value = writer.node("Flatten", [value], "flatten", axis=1)
    names = [writer.weight(f"_fc.{part}", weights[f"_fc.{part}"]) for part in ("weight", "bias")]
    writer.node("Gemm", [value, *names], "_fc", output="logits", transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])
    return writer.model("efficientnet_lite0", [image], [logits])


def _block(
    writer: _Writer, value: str, size: int, *, index: int, channels: int, stage: _Stage, stride: int
) -> tuple[str, int]:
    """Write one inverted residual: expand, depthwise, project, and the shortcut where the shapes allow it."""
    name = f"_blocks.{index}"
    shortcut = value
    wide = channels * stage.expand
    if stage.expand != 1:
        value, size = writer.convolution(value, f"{name}._expand_conv", size, kernel=1, stride=1)
        value = writer.relu6(writer.batch_norm(value, f"{name}._bn0"), f"{name}.expand")
    value, size = writer.convolution(
        value, f"{name}._depthwise_conv", size, kernel=stage.kernel, stride=stride, groups=wide
    )
    value = writer.relu6(writer.batch_norm(value, f"{name}._bn1"), f"{name}.depthwise")
    value, size = writer.convolution(value, f"{name}._project_conv", size, kernel=1, stride=1)
    value = writer.batch_norm(value, f"{name}._bn2")
    if stride == 1 and channels == stage.channels:
        value = writer.node("Add", [value, shortcut], f"{name}.add")
    return value, size


class _Writer(GraphWriter):
    """A graph writer that looks the weights of a layer up by the layer's name."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        super().__init__()
        self._weights = weights

    def convolution(
        self, value: str, name: str, size: int, *, kernel: int, stride: int, groups: int = 1
    ) -> tuple[str, int]:
        """Write a convolution without bias; return its output and the side of its feature map."""
        kernel_name = self.weight(f"{name}.weight", self._weights[f"{name}.weight"])
        out = -(-size // stride)
        total = max(0, (out - 1) * stride + kernel - size)
        before, after = total // 2, total - total // 2
        made = self.node(
            "Conv",
            [value, kernel_name],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
            dilations=[1, 1],
        )
        return made, out

    def batch_norm(self, value: str, name: str) -> str:
        """Write a batch normalization in inference mode."""
        parts = ("weight", "bias", "running_mean", "running_var")
        names = [self.weight(f"{name}.{part}", self._weights[f"{name}.{part}"]) for part in parts]
        return self.node("BatchNormalization", [value, *names], name, epsilon=_EPSILON)

    def relu6(self, value: str, name: str) -> str:
        """Write a clip to 0..6 with constant bounds that all clips share."""
        low = self.weight("relu6.min", np.array(0, np.float32))
        high = self.weight("relu6.max", np.array(6, np.float32))
        return self.node("Clip", [value, low, high], f"{name}.relu6")
