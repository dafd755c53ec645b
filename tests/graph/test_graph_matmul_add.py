"""Joining MatMul and Add into Gemm: the same numbers within float rounding, and where it must not happen."""

import numpy as np
import onnx
import pytest

from quantlab.graph.passes import Sequential
from quantlab.graph.prepare import INFER_SHAPES, JOIN_MATMUL_ADD, prepare
from tests.graph.builders import assert_same, build, operators, run

K, N = 5, 3
RNG = np.random.default_rng(0)
U = RNG.normal(size=(4, K)).astype(np.float32)
W = RNG.normal(size=(K, N)).astype(np.float32)
B = RNG.normal(size=N).astype(np.float32)
JOIN = Sequential(INFER_SHAPES, JOIN_MATMUL_ADD)


def model(add="Add(t, b)", dims="[M, 5]", bias=B, extra=""):
    text = f"g (float{dims} u) => (float[] y) {{ t = MatMul(u, w) y = {add} {extra} }}"
    graph = build(text, {"w": W, "b": bias})
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
    return graph


@pytest.mark.parametrize("add", ["Add(t, b)", "Add(b, t)"])
@pytest.mark.parametrize("bias", [B, B[None]], ids=["(N,)", "(1, N)"])
def test_joined(add, bias):
    before = model(add, bias=bias)
    result = JOIN(before)
    assert operators(result.model) == ["Gemm"]
    onnx.checker.check_model(result.model, full_check=True)
    old, new = run(before, {"u": U})["y"], run(result.model, {"u": U})["y"]
    # K + 1 roundings of partial sums, each at most half a unit in the last place of the sum of magnitudes, both times.
    bound = 2 * (K + 1) * np.finfo(np.float32).eps * (np.abs(U) @ np.abs(W) + np.abs(B))
    assert (np.abs(old - new) <= bound).all()
    assert "joined unnamed MatMul making ['t'] and unnamed Add" in result.notes[-1]


@pytest.mark.parametrize(
    "before",
    [
        model(dims="[2, M, 5]"),
        model(bias=B[:1]),
        model(bias=np.ones((4, N), np.float32)),
        model(add="Add(t, t)"),
        model(extra="z = Relu(t)"),
    ],
    ids=["three axes", "one number", "a number a row", "added to itself", "product read elsewhere"],
)
def test_left_alone(before):
    if len(before.graph.node) == 3:
        before.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None))
    assert "MatMul" in operators(JOIN(before).model)


def test_product_that_is_an_output_is_left_alone():
    before = model()
    before.graph.output.append(onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, None))
    after = JOIN(before).model
    assert operators(after) == ["MatMul", "Add"]
    assert_same(before, after, {"u": U})


def test_a_batch_norm_behind_the_add_is_folded_too():
    text = (
        "g (float[M, 5] u) => (float[M, 3] y) { t = MatMul(u, w) s = Add(t, b) y = BatchNormalization(s, g, h, m, v) }"
    )
    ones = {name: np.abs(RNG.normal(size=N)).astype(np.float32) + 0.5 for name in "ghmv"}
    assert operators(prepare(build(text, {"w": W, "b": B, **ones})).model) == ["Gemm"]
