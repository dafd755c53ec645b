"""Constants folded into the linear node before or behind them.

All numbers are small integers and powers of two, so that every sum and product is exact: outputs are compared bit for
bit, and a wrong fold cannot hide behind rounding.
"""

from __future__ import annotations

import numpy as np
import pytest

from quantlab.graph.passes import Sequential
from quantlab.graph.prepare import FOLD_FORWARD, INFER_SHAPES, fold_arithmetic, prepare
from tests.graph.builders import Array, assert_same, build, initializers, operators

FOLD = fold_arithmetic()
FORWARD = Sequential(INFER_SHAPES, FOLD_FORWARD)


def whole(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def powers(seed: int, *shape: int) -> Array:
    return (2.0 ** np.random.default_rng(seed).integers(-2, 3, shape)).astype(np.float32)


IMAGE, CHANNELS = "float[2,4,5,5] x", (1, 6, 1, 1)
CONSTANTS = {
    "w": whole(1, 6, 4, 3, 3),
    "b": whole(2, 6),
    "k": powers(3, *CHANNELS),
    "l": whole(4, 6, 1, 1),
    "one": np.float32([2.0]).reshape(()),
    "wg": whole(5, 6, 2, 3, 3),
    "wt": whole(6, 4, 3, 3, 3),
}
CONV = "t = Conv(x, w, b)"
BEHIND = {
    "mul": f"{CONV} y = Mul(t, k)",
    "mul, constant first": f"{CONV} y = Mul(k, t)",
    "div": f"{CONV} y = Div(t, k)",
    "add": f"{CONV} y = Add(t, l)",
    "sub": f"{CONV} y = Sub(t, l)",
    "constant minus": f"{CONV} y = Sub(l, t)",
    "one number": f"{CONV} y = Mul(t, one)",
    "no bias, scaled": "t = Conv(x, w) y = Mul(t, k)",
    "no bias, shifted": "t = Conv(x, w) y = Add(t, one)",
    "a chain": f"{CONV} u = Mul(t, k) v = Add(u, l) s = Sub(one, v) y = Div(s, k)",
    "groups": "t = Conv<group = 2>(x, wg, b) u = Mul(t, k) y = Add(u, l)",
    "transposed, groups": "t = ConvTranspose<group = 2>(x, wt, b) u = Mul(t, k) y = Add(u, l)",
}


@pytest.mark.parametrize("kind", BEHIND)
def test_constants_behind_a_convolution(kind: str) -> None:
    side = 7 if "Transpose" in BEHIND[kind] else 3
    before = build(f"g ({IMAGE}) => (float[2,6,{side},{side}] y) {{ {BEHIND[kind]} }}", CONSTANTS)
    after = FOLD(before).model
    assert len(operators(after)) == 1
    assert_same(before, after, {"x": whole(0, 2, 4, 5, 5)})


ROWS = {"w": whole(1, 4, 6), "v": whole(7, 6, 4), "b": whole(2, 6), "k": powers(3, 6), "row": whole(4, 1, 6)}
LINEAR = {
    "gemm": ("3,4", "t = Gemm<alpha = 2.0, beta = 0.5>(x, w, b) u = Mul(t, k) y = Add(u, row)", ["Gemm"]),
    "gemm, transposed": ("3,4", "t = Gemm<transB = 1>(x, v) u = Div(t, k) y = Add(u, b)", ["Gemm"]),
    "matmul, scaled": ("3,4", "t = MatMul(x, w) y = Mul(t, k)", ["MatMul"]),
    "matmul, shifted": ("3,4", "t = MatMul(x, w) u = Mul(t, k) y = Add(u, row)", ["Gemm"]),
    "a stack of rows, scaled": ("2,3,4", "t = MatMul(x, w) y = Mul(t, k)", ["MatMul"]),
    "a stack of rows keeps its bias": ("2,3,4", "t = MatMul(x, w) u = Mul(t, k) y = Add(u, b)", ["MatMul", "Add"]),
}


@pytest.mark.parametrize("kind", LINEAR)
def test_constants_behind_a_product(kind: str) -> None:
    dims, nodes, left = LINEAR[kind]
    shape = tuple(map(int, dims.split(",")))
    before = build(f"g (float[{dims}] x) => (float[{dims[:-1]}6] y) {{ {nodes} }}", ROWS)
    result = FOLD(before)
    assert operators(result.model) == left
    assert_same(before, result.model, {"x": whole(0, *shape)})


def test_a_shared_weight_is_copied_and_the_name_of_the_conv_stays() -> None:
    text = (
        f"g ({IMAGE}) => (float[2,6,3,3] y, float[2,6,3,3] z) {{ [a] t = Conv(x, w, b) y = Mul(t, k) z = Conv(x, w) }}"
    )
    before = build(text, CONSTANTS)
    after = FOLD(before).model
    assert [node.name for node in after.graph.node] == ["a", ""]
    np.testing.assert_array_equal(initializers(after)["w"], CONSTANTS["w"])
    assert_same(before, after, {"x": whole(0, 2, 4, 5, 5)})


REFUSED = {
    f"{CONV} [n] y = Mul(t, map)": (
        "left Mul 'n' alone: its constant 'map' of shape (1, 1, 3, 3) is not one value for each channel of a tensor "
        "with 4 axes"
    ),
    f"{CONV} [n] y = Div(t, zero)": "left Div 'n' alone: it divides by 0 in channel 1",
    f"{CONV} [n] s = Mul(t, k) [m] y = Add(t, s)": "left Mul 'n' alone: its input 't' is read by Add 'm' too",
    "[c] t = Conv(x, w1) [n] y = Mul(t, k)": "left Mul 'n' alone: it has 6 channels, Conv 'c' makes 1",
    f"{CONV} [n] y = Mul(t, five)": (
        "left Mul 'n' alone: its constant 'five' of shape (1, 1, 6, 1, 1) is not one value for each channel of a "
        "tensor with 4 axes"
    ),
}


@pytest.mark.parametrize("nodes", REFUSED)
def test_what_is_no_factor_for_each_channel_stays(nodes: str) -> None:
    more = {"map": whole(8, 1, 1, 3, 3), "zero": np.float32([1, 0, 1, 1, 1, 1]).reshape(CHANNELS)}
    more |= {"w1": whole(9, 1, 4, 3, 3), "five": powers(3, 1, 1, 6, 1, 1)}
    before = build(f"g ({IMAGE}) => (float y) {{ {nodes} }}", {**CONSTANTS, **more})
    result = FOLD(before)
    assert result.notes == (f"fold-arithmetic: {REFUSED[nodes]}",)
    assert result.model == before


def test_an_overflowing_weight_is_refused() -> None:
    text = "g (float16[1,2] x) => (float16[1,2] y) { [c] t = MatMul(x, w) [n] y = Mul(t, k) }"
    before = build(text, {"w": np.full((2, 2), 6e4, np.float16), "k": np.full(2, 2, np.float16)})
    assert FOLD(before).notes == (
        "fold-arithmetic: left Mul 'n' alone: the folded weight or bias of MatMul 'c' would not be finite in float16",
    )


# ------------------------------------------------------------------------------------------------------------ forward

IN = {
    "k": powers(3, 1, 4, 1, 1),
    "l": whole(4, 4, 1, 1),
    "g": powers(5, 4) * 2,
    "e": whole(6, 4),
    "m": whole(7, 4),
    "v": np.full(4, 4, np.float32),
}
NORM = "BatchNormalization<epsilon = 0.0>"
BEFORE = {
    "mul": "t = Mul(x, k) y = Conv(t, w, b)",
    "mul, with zeros padded on": "t = Mul(x, k) y = Conv<pads = [1, 1, 1, 1]>(t, w, b)",
    "add": "t = Add(x, l) y = Conv(t, w, b)",
    "a chain": "u = Sub(x, l) p = Div(u, k) t = Sub(one, p) y = Conv(t, w)",
    "batch norm": f"t = {NORM}(x, g, e, m, v) y = Conv(t, w, b)",
    "groups": f"t = {NORM}(x, g, e, m, v) y = Conv<group = 2>(t, wg, b)",
    "transposed, scaled": "t = Mul(x, k) y = ConvTranspose<group = 2>(t, wt, b)",
}


@pytest.mark.parametrize("kind", BEFORE)
def test_constants_in_front_of_a_convolution(kind: str) -> None:
    side = 7 if "Transpose" in BEFORE[kind] else 5 if "pads" in BEFORE[kind] else 3
    before = build(f"g ({IMAGE}) => (float[2,6,{side},{side}] y) {{ {BEFORE[kind]} }}", {**CONSTANTS, **IN})
    after = FORWARD(before).model
    assert len(operators(after)) == 1
    assert_same(before, after, {"x": whole(0, 2, 4, 5, 5)})


ROW = {"w": whole(1, 4, 6), "v": whole(7, 6, 4), "b": whole(2, 6), "k": powers(3, 4), "l": whole(4, 1, 4)}
ROW |= {"g": IN["g"], "e": IN["e"], "m": IN["m"], "s": IN["v"]}
PRODUCTS = {
    "gemm": ("3,4", "t = Mul(x, k) y = Gemm<alpha = 2.0, beta = 0.5>(t, w, b)", ["Gemm"]),
    "gemm, shifted": ("3,4", "u = Mul(x, k) t = Add(u, l) y = Gemm<alpha = 2.0, beta = 0.5>(t, w, b)", ["Gemm"]),
    "gemm, transposed": ("3,4", f"t = {NORM}(x, g, e, m, s) y = Gemm<transB = 1>(t, v)", ["Gemm"]),
    "matmul, scaled": ("3,4", "t = Mul(x, k) y = MatMul(t, w)", ["MatMul"]),
    "matmul, shifted": ("3,4", "t = Add(x, l) y = MatMul(t, w)", ["Gemm"]),
    "a stack of rows, scaled": ("2,3,4", "t = Mul(x, k) y = MatMul(t, w)", ["MatMul"]),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_constants_in_front_of_a_product(kind: str) -> None:
    dims, nodes, left = PRODUCTS[kind]
    before = build(f"g (float[{dims}] x) => (float[{dims[:-1]}6] y) {{ {nodes} }}", ROW)
    after = FORWARD(before).model
    assert operators(after) == left
    assert_same(before, after, {"x": whole(0, *map(int, dims.split(",")))})


WRONG = {
    "[n] t = Add(x, l) [c] y = Conv<pads = [0, 1, 0, 1]>(t, w)": (
        "Conv 'c' pads with zeros (pads [0, 1, 0, 1]), to which the offset would not be added"
    ),
    '[n] t = Add(x, l) [c] y = Conv<auto_pad = "SAME_UPPER">(t, w)': (
        "Conv 'c' pads with zeros (auto_pad SAME_UPPER), to which the offset would not be added"
    ),
    "[n] t = Add(x, l) [c] y = ConvTranspose(t, wt)": (
        "ConvTranspose 'c' sums over fewer products at the edges, so that an offset is no bias"
    ),
    "[n] t = Mul(x, k) [c] y = Conv(z, t)": "Conv 'c' reads 't' as its weight or bias",
    "[n] t = Mul(z, k) [c] y = Conv(t, w)": "its input 'z' has 1 channels, the constant 4 values",
}


@pytest.mark.parametrize("nodes", WRONG)
def test_what_would_be_wrong_is_refused(nodes: str) -> None:
    before = build(f"g ({IMAGE}, float[2,1,5,5] z) => (float y) {{ {nodes} }}", {**CONSTANTS, **IN})
    result = FORWARD(before)
    operator = nodes.split()[3].partition("(")[0]
    assert result.notes[-1] == f"fold-forward: left {operator} 'n' alone: {WRONG[nodes]}"
    assert list(result.model.graph.node) == list(before.graph.node)


def test_forward_is_done_on_request_only() -> None:
    before = build(f"g ({IMAGE}) => (float[2,6,3,3] y) {{ {BEFORE['mul']} }}", {**CONSTANTS, **IN})
    assert operators(prepare(before).model) == ["Mul", "Conv"]
    assert operators(prepare(before, fold_forward=True).model) == ["Conv"]


def test_constants_on_both_sides_of_a_batch_norm() -> None:
    nodes = f"{CONV} u = Mul(t, k) v = BatchNormalization<epsilon = 0.0>(u, g, e, m, s) y = Add(v, l)"
    more = {"g": powers(5, 6) * 2, "e": whole(6, 6), "m": whole(7, 6), "s": np.full(6, 4, np.float32)}
    before = build(f"g ({IMAGE}) => (float[2,6,3,3] y) {{ {nodes} }}", {**CONSTANTS, **more})
    after = prepare(before).model
    assert operators(after) == ["Conv"]
    assert_same(before, after, {"x": whole(0, 2, 4, 5, 5)})
