"""Constants with several readers: a copy for each way of reading, and one copy only where the way is the same."""

from __future__ import annotations

import numpy as np
import pytest

import quantlab
from quantlab.graph.prepare import prepare, separate_shared
from tests.graph.builders import assert_same, build, normal, operators

X = {"x": normal(0, 2, 4)}
BIAS = "g (float[2,4] x) => (float[2,4] y) { [a] t = Gemm(x, v, b) [c] u = Gemm(t, w, b) [d] y = Add(u, b) }"
WEIGHTS = {"v": normal(1, 4, 4), "w": normal(2, 4, 4), "b": normal(3, 4)}


@pytest.mark.parametrize("turned", [False, True])
def test_each_adder_of_a_bias_gets_its_own(turned: bool) -> None:
    before = build(BIAS, WEIGHTS)
    if turned:
        before.graph.node.reverse()
    result = separate_shared()(before)
    reads = {node.name: list(node.input) for node in result.model.graph.node}
    assert reads == {"a": ["x", "v", "b_a"], "c": ["t", "w", "b_c"], "d": ["u", "b"]}
    assert result.notes == (
        "separate-shared: Gemm 'a' reads 'b' as a bias of its own, of which it got the copy 'b_a'",
        "separate-shared: Gemm 'c' reads 'b' as a bias of its own, of which it got the copy 'b_c'",
    )
    assert_same(build(BIAS, WEIGHTS), prepare(before).model, X)


TIED = """g (float[2,4] x, int64[2] i) => (float[2,4] y, float[2,4] z) {
    [a] t = Gemm(x, w) [b] u = Gemm<transB = 1>(t, w) [c] v = MatMul(u, w)
    [d] y = Gemm<transB = 1>(v, w) z = Gather(w, i)
}"""


def test_weights_are_copied_for_each_axis_on_request() -> None:
    before = build(TIED, {"w": normal(1, 4, 4)})
    assert separate_shared()(before).model == before
    result = separate_shared(weights=True)(before)
    reads = {node.name: node.input[1] for node in result.model.graph.node if node.name}
    assert reads == {"a": "w_a", "b": "w_b", "c": "w_a", "d": "w_b"}
    assert result.model.graph.node[-1].input[0] == "w"
    assert_same(before, result.model, {**X, "i": np.array([1, 3])})


def test_with_copies_both_weights_get_scales_for_each_channel() -> None:
    text = "g (float[2,4] x) => (float[2,4] y) { [a] t = Gemm(x, w) [b] y = Gemm<transB = 1>(t, w) }"
    model = build(text, {"w": normal(1, 4, 4)})
    recipe = quantlab.Recipe(per_channel=True)
    shared = quantlab.quantize(model, [X], recipe).plan.tensors
    assert shared["w"].spec.axis is None
    apart = quantlab.quantize(prepare(model, separate_weights=True).model, [X], recipe).plan.tensors
    assert {name: tensor.spec.axis for name, tensor in apart.items() if tensor.role == "weight"} == {"w": 1, "w_b": 0}


def test_one_reader_needs_no_copy() -> None:
    before = build("g (float[2,4] x) => (float[2,4] y) { y = Gemm(x, v, b) }", WEIGHTS)
    assert separate_shared(weights=True)(before).changed is False
    assert operators(before) == ["Gemm"]
