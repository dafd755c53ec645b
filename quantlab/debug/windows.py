"""A convolution as a matrix product: its weights as (K, N), and the windows of its input as rows of K integers.

onnxruntime's integer convolutions keep channels last, so that K runs over kernel positions first and over the input
channels within each: pairs of products are neighbouring channels. `"channel"` is the other order, in which ONNX stores
weights: over the kernel positions within each channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.graph import GraphView

Order = Literal["kernel", "channel"]
ORDERS: tuple[Order, ...] = ("kernel", "channel")
AT_A_TIME = 2**20
"""Integers of windows that are held at a time."""


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """The attributes of a convolution.

    Attributes:
        kernel: Size of the kernel along each spatial axis.
        strides: Steps of the window.
        dilations: Distances of kernel elements.
        pads: Padding at the beginnings of all axes, then at their ends; None where `auto_pad` says it.
        auto_pad: `"NOTSET"`, `"VALID"`, `"SAME_UPPER"` or `"SAME_LOWER"`.
        group: Number of groups of channels.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str
    group: int

    @classmethod
    def of(cls, node: onnx.NodeProto, view: GraphView, kernel: Sequence[int]) -> Convolution:
        """Read a Conv or QLinearConv."""
        ones = (1,) * len(kernel)
        return cls(
            kernel=tuple(kernel),
            strides=tuple(view.attribute(node, "strides", ones)),
            dilations=tuple(view.attribute(node, "dilations", ones)),
            pads=tuple(view.attribute(node, "pads", (0,) * 2 * len(kernel))),
            auto_pad=bytes(view.attribute(node, "auto_pad", b"NOTSET")).decode(),
            group=int(view.attribute(node, "group", 1)),
        )

    def reach(self) -> list[int]:
        """Return how many elements the kernel spans along each axis."""
        return [(size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilations, strict=True)]

    def padding(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Return the padding before and behind each spatial axis."""
        if not self.auto_pad.startswith("SAME"):
            half = len(sizes)
            plain = [0] * 2 * half if self.auto_pad == "VALID" else self.pads
            return list(zip(plain[:half], plain[half:], strict=True))
        found = []
        for size, reach, stride in zip(sizes, self.reach(), self.strides, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + reach - size)
            small = total // 2
            found.append((small, total - small) if self.auto_pad == "SAME_UPPER" else (total - small, small))
        return found


def matrix(weights: npt.NDArray[Any], order: Order) -> npt.NDArray[Any]:
    """Lay the weights of one group out as (K, N).

    Args:
        weights: Shape (N, channels, *kernel).
        order: What K runs over first.

    Returns:
        Shape (channels * kernel, N).
    """
    turned = np.moveaxis(weights, 1, -1) if order == "kernel" else weights
    return np.ascontiguousarray(turned.reshape(len(weights), -1).T)


def windows(x: npt.NDArray[Any], conv: Convolution, zero: int, order: Order) -> Iterator[npt.NDArray[Any]]:
    """Cut the windows of one sample, some rows at a time.

    Args:
        x: The channels of one group, shape (channels, *spatial).
        conv: The convolution.
        zero: What is padded with: the zero point.
        order: What K runs over first.

    Yields:
        Windows, shape (positions, K).
    """
    padding = [(0, 0), *conv.padding(x.shape[1:])]
    padded = np.pad(x, padding, constant_values=zero)
    axes = tuple(range(1, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(padded, tuple(conv.reach()), axis=axes)
    steps = (slice(None), *(slice(None, None, step) for step in (*conv.strides, *conv.dilations)))
    view = np.moveaxis(view[steps], 0, -1 if order == "kernel" else x.ndim - 1)  # positions, then K
    depth = x.shape[0] * prod(conv.kernel)
    rows = max(1, AT_A_TIME // max(1, depth * prod(view.shape[1 : x.ndim - 1])))
    for start in range(0, view.shape[0], rows):
        yield view[start : start + rows].reshape(-1, depth)
