"""Models and schemes for format QOperator: those of single operators, and graphs that show what lies between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quantlab.plan import activation_spec, weight_spec
from tests.operators import test_options_parity
from tests.operators.harness import Array, Case, Scheme, normal
from tests.operators.test_parity import CASES as SINGLE


def _scheme(activation: str, weight: str, *, per_channel: bool = False) -> Scheme:
    return Scheme(
        name=f"{activation}-{weight}{'-per-channel' if per_channel else ''}",
        activation=activation_spec(activation),
        weight=weight_spec(weight),
        per_channel=per_channel,
        format="QOperator",
    )


U8U8, U8S8, S8S8 = (_scheme(*types) for types in (("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")))
U8U8_CHANNELS, U8S8_CHANNELS, S8S8_CHANNELS = (
    _scheme(scheme.activation.dtype.name, scheme.weight.dtype.name, per_channel=True) for scheme in (U8U8, U8S8, S8S8)
)
SYMMETRIC = replace(S8S8, name="symmetric", activation=activation_spec("int8", symmetric=True))
REDUCED = replace(U8S8_CHANNELS, name="uint8-int8-7-bits", weight=weight_spec("int8", reduce_range=True))
SCHEMES = (U8U8, U8U8_CHANNELS, U8S8, U8S8_CHANNELS, S8S8, S8S8_CHANNELS, SYMMETRIC, REDUCED)


def image(name: str, body: str, outputs: str = "float[1,4,8,8] y", **constants: Array) -> Case:
    shared = {"w": normal(4, 4, 1, 1, seed=3), "b": normal(4, seed=4), "c": normal(4, 1, 1, seed=5)}
    return Case(
        name=name,
        text=f"g (float[1,4,8,8] x) => ({outputs}) {{ {body} }}",
        feeds={"x": (1, 4, 8, 8)},
        constants={key: value for key, value in shared.items() if f", {key}" in body} | constants,
    )


def embedding(name: str, ends: str = "", *, mask: bool = False, segments: bool = True) -> Case:
    ids = ["ids", *(["segments"] if segments else []), *(["mask"] if mask else [])]
    tables = ", ".join(
        ["word", "position", "segment" if segments else "", "gamma", "beta", *(["mask"] if mask else [])]
    )
    call = f"com.microsoft.EmbedLayerNormalization{ends}(ids, {'segments' if segments else ''}, {tables})"
    outputs = "float[2,5,8] y, int32[2] m" if mask else "float[2,5,8] y"
    kinds = ", ".join(f"int32[2,5] {name}" for name in ids)
    constants = {"word": (11, 8), "position": (7, 8), "segment": (3, 8), "gamma": (8,), "beta": (8,)}
    return Case(
        name=name,
        text=f"g ({kinds}) => ({outputs}) {{ y, m = {call} }}",
        feeds=dict.fromkeys(ids, (2, 5)),
        constants={
            key: normal(*shape, seed=seed)
            for seed, (key, shape) in enumerate(constants.items())
            if segments or key != "segment"
        },
        domains={"com.microsoft": 1},
    )


WHERE = Case(
    name="where",
    text="g (float[1,4,8,8] x, bool[1,4,8,8] c) => (float[1,4,8,8] y) { t = Sigmoid(x) y = Where(c, t, x) }",
    feeds={"x": (1, 4, 8, 8), "c": (1, 4, 8, 8)},
    op_types=("Where", "Sigmoid"),
)
EMBEDDINGS = (
    embedding("embedding"),
    embedding("embedding-mask", mask=True),
    embedding("embedding-epsilon", "<epsilon = 0.01>"),
    embedding("embedding-without-segments", segments=False),
)
KEPT_RELU = (
    image("relu-read-twice", "t = Add(x, c) u = Relu(t) y = Mul(u, t)"),
    image("relu-behind-pool", "t = Add(x, c) p = MaxPool<kernel_shape = [1,1]>(t) y = Relu(p)"),
    image("relu-behind-output", "t = Add(x, c) y = Relu(t)", "float[1,4,8,8] y, float[1,4,8,8] t"),
    image("relu-clip", "t = Add(x, c) u = Relu(t) y = Clip(u, , hi)", hi=np.asarray(1, np.float32)),
)
GRAPHS = (
    *(test_options_parity.CASES[name] for name in ("net", "attention", "moves")),
    image("arg-max", "t = Conv(x, w, b) y = ArgMax<axis = 1>(t)", "int64[1,1,8,8] y"),
    image("arg-max-of-floats", "t = Abs(x) y = ArgMax<axis = 1>(t)", "int64[1,1,8,8] y"),
    image("arg-max-beside", "t = Conv(x, w, b) y = ArgMax<axis = 1>(t)", "int64[1,1,8,8] y, float[1,4,8,8] t"),
    image("residual", "t = Conv(x, w, b) r = Relu(t) s = Conv(r, w, b) q = Add(s, r) y = Relu(q)"),
    image("float-between", "t = Conv(x, w, b) e = Erf(t) y = Conv(e, w, b)"),
    image("both-ways", "t = Conv(x, w, b) e = Erf(t) s = Sigmoid(t) y = Add(e, s)"),
    image(
        "squeeze-and-excite",
        "t = Conv(x, w, b) e = HardSwish(t) g = GlobalAveragePool(e) k = Conv(g, w, b) s = Sigmoid(k) y = Mul(e, s)",
    ),
    image("average", "t = Conv(x, w, b) r = Relu(t) g = GlobalAveragePool(r) y = Flatten(g)", "float[1,4] y"),
    image("bias-twice", "t = Conv(x, w, b) r = Abs(t) y = Conv(r, w, b)"),
    image(
        "slice-between",
        "t = Conv(x, w, b) s = Slice(t, i, j, k) y = Sigmoid(s)",
        "float[1,2,8,8] y",
        **{name: np.array([value], np.int64) for name, value in (("i", 1), ("j", 3), ("k", 1))},
    ),
    image("split-input", "p, q = Split<axis = 1>(x, s) u = Sigmoid(p) y = Concat<axis = 1>(u, q)", s=np.array([2, 2])),
    Case(
        name="conv-many-wide-biases",
        text="g (float[1,1,3,3] x) => (float[1,256,3,3] y) { y = Conv(x, w, b) }",
        feeds={"x": (1, 1, 3, 3)},
        constants={"w": np.float32(1e-8) * normal(256, 1, 1, 1, seed=6), "b": normal(256, seed=7)},
    ),
    image("pool-input", "y = AveragePool<kernel_shape = [1,1]>(x)"),
)
CASES = tuple(replace(case, schemes=SCHEMES) for case in (*SINGLE, *GRAPHS, *KEPT_RELU, *EMBEDDINGS, WHERE))
BY_NAME = {case.name: case for case in CASES}
