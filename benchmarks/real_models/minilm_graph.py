"""The BERT encoder of all-MiniLM-L6-v2 as an ONNX graph, with the mean over tokens that makes a sentence's vector.

Source: Devlin et al., "BERT", 2018; Wang et al., "MiniLM", 2020; Reimers and Gurevych, "Sentence-BERT", 2019. Nodes are
those an exporter leaves: MatMul and Add for a linear layer, the Gelu written out with Erf, -10000 for masked tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from .case import Array
from .graph import GraphWriter

LAYERS, WIDTH, HEADS = 6, 384, 12
LONGEST = 512
_EPSILON = 1e-12
_MASKED = -10000.0


def build(weights: Mapping[str, Array]) -> bytes:
    """Build the sentence encoder.

    Args:
        weights: Name -> array, as the package's safetensors file has them; a linear weight is `(out, in)`.

    Returns:
        A serialized model: `input_ids`, `attention_mask`, `token_type_ids`, each int64 `(N, S)`, to `embedding`
        float32 `(N, 384)`, the mean over the tokens that the mask keeps.
    """
    writer = _Writer(weights)
    value = _embeddings(writer)
    bias = _attention_bias(writer)
    for index in range(LAYERS):
        name = f"encoder.layer.{index}"
        value = _attention(writer, value, bias, f"{name}.attention")
        wide = writer.linear(value, f"{name}.intermediate.dense")
        wide = _gelu(writer, wide, f"{name}.intermediate")
        value = writer.add_and_normalize(writer.linear(wide, f"{name}.output.dense"), value, f"{name}.output")
    _mean(writer, value)
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "S"]) for name in names]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", WIDTH])
    return writer.model("minilm", inputs, [output])


class _Writer(GraphWriter):
    """A graph writer that looks the weights of a layer up by the layer's name."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        super().__init__()
        self._weights = weights

    def named(self, name: str) -> str:
        """Add the weight of that name as it is."""
        return self.weight(name, self._weights[name])

    def ints(self, name: str, values: list[int]) -> str:
        """Add a constant list of int64."""
        return self.weight(name, np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> str:
        """Add a constant float32 scalar."""
        return self.weight(name, np.array(value, np.float32))

    def linear(self, value: str, name: str) -> str:
        """Write `x W^T + b`; the weight is stored transposed, as exporters do."""
        kernel = self.weight(f"{name}.weight_t", self._weights[f"{name}.weight"].T)
        value = self.node("MatMul", [value, kernel], f"{name}.matmul")
        return self.node("Add", [value, self.named(f"{name}.bias")], f"{name}.add")

    def normalize(self, value: str, name: str) -> str:
        """Write a layer normalization over the last axis."""
        parts = [self.named(f"{name}.weight"), self.named(f"{name}.bias")]
        return self.node("LayerNormalization", [value, *parts], name, axis=-1, epsilon=_EPSILON)

    def add_and_normalize(self, value: str, shortcut: str, name: str) -> str:
        """Write the shortcut and the layer normalization behind a sub-layer."""
        return self.normalize(self.node("Add", [value, shortcut], f"{name}.shortcut"), f"{name}.LayerNorm")


def _embeddings(writer: _Writer) -> str:
    """Write the sum of word, kind and position vectors, normalized: `(N, S, 384)`."""
    shape = writer.node("Shape", ["input_ids"], "length.shape")
    length = writer.node("Gather", [shape, writer.ints("axis1", [1])], "length", axis=0)
    ends = [writer.ints("start0", [0]), length, writer.ints("axis1", [1])]
    places = writer.weight("position_ids", np.arange(LONGEST, dtype=np.int64)[None])
    places = writer.node("Slice", [places, *ends], "positions")
    found = [
        writer.node("Gather", [writer.named(f"embeddings.{kind}_embeddings.weight"), ids], f"embeddings.{kind}")
        for kind, ids in (("word", "input_ids"), ("token_type", "token_type_ids"), ("position", places))
    ]
    value = writer.node("Add", [found[0], found[1]], "embeddings.add_type")
    value = writer.node("Add", [value, found[2]], "embeddings.add_position")
    return writer.normalize(value, "embeddings.LayerNorm")


def _attention_bias(writer: _Writer) -> str:
    """Write what is added to attention scores: 0 for a token, -10000 for padding, `(N, 1, 1, S)`."""
    mask = writer.node("Unsqueeze", ["attention_mask", writer.ints("axes12", [1, 2])], "mask.unsqueeze")
    mask = writer.node("Cast", [mask], "mask.cast", to=TensorProto.FLOAT)
    mask = writer.node("Sub", [writer.scalar("one", 1.0), mask], "mask.invert")
    return writer.node("Mul", [mask, writer.scalar("masked", _MASKED)], "mask.bias")


def _attention(writer: _Writer, value: str, bias: str, name: str) -> str:
    """Write multi-head self-attention, `softmax(Q K^T / sqrt(d) + bias) V`, its output layer and the shortcut."""
    split = writer.ints("heads_shape", [0, 0, HEADS, WIDTH // HEADS])
    parts: dict[str, str] = {}
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        made = writer.linear(value, f"{name}.self.{part}")
        made = writer.node("Reshape", [made, split], f"{name}.{part}.split")
        parts[part] = writer.node("Transpose", [made], f"{name}.{part}.heads", perm=order)
    scores = writer.node("MatMul", [parts["query"], parts["key"]], f"{name}.scores")
    scores = writer.node("Div", [scores, writer.scalar("sqrt_d", math.sqrt(WIDTH // HEADS))], f"{name}.scale")
    scores = writer.node("Add", [scores, bias], f"{name}.mask")
    shares = writer.node("Softmax", [scores], f"{name}.softmax", axis=-1)
    mixed = writer.node("MatMul", [shares, parts["value"]], f"{name}.context")
    mixed = writer.node("Transpose", [mixed], f"{name}.context.order", perm=[0, 2, 1, 3])
    mixed = writer.node("Reshape", [mixed, writer.ints("width_shape", [0, 0, WIDTH])], f"{name}.context.join")
    return writer.add_and_normalize(writer.linear(mixed, f"{name}.output.dense"), value, f"{name}.output")


def _gelu(writer: _Writer, value: str, name: str) -> str:
    """Write `x (1 + erf(x / sqrt 2)) / 2`."""
    inner = writer.node("Div", [value, writer.scalar("sqrt2", math.sqrt(2))], f"{name}.gelu.div")
    inner = writer.node("Erf", [inner], f"{name}.gelu.erf")
    inner = writer.node("Add", [inner, writer.scalar("one", 1.0)], f"{name}.gelu.add")
    inner = writer.node("Mul", [value, inner], f"{name}.gelu.mul")
    return writer.node("Mul", [inner, writer.scalar("half", 0.5)], f"{name}.gelu.half")


def _mean(writer: _Writer, value: str) -> None:
    """Write the mean over the tokens that the mask keeps."""
    axis = writer.ints("axis1", [1])
    mask = writer.node("Unsqueeze", ["attention_mask", writer.ints("axis_last", [-1])], "mean.unsqueeze")
    mask = writer.node("Cast", [mask], "mean.cast", to=TensorProto.FLOAT)
    kept = writer.node("Mul", [value, mask], "mean.keep")
    total = writer.node("ReduceSum", [kept, axis], "mean.total", keepdims=0)
    count = writer.node("ReduceSum", [mask, axis], "mean.count", keepdims=0)
    writer.node("Div", [total, count], "mean.divide", output="embedding")
