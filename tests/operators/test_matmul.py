"""MatMul: a constant on either side is a weight; only columns of a matrix on the right have scales of their own."""

import pytest

from tests.operators.harness import (
    INT8,
    INT8_CHANNELS,
    PLAIN,
    UINT8,
    WEIGHTED,
    Case,
    Scheme,
    each,
    executed,
    judge,
    normal,
    quantized,
)

RIGHT = Case(
    name="matmul-right",
    text="g (float[3,8] x) => (float[3,5] y) { y = MatMul(x, w) }",
    feeds={"x": (3, 8)},
    constants={"w": normal(8, 5)},
    schemes=WEIGHTED,
)
LEFT = Case(
    name="matmul-left",
    text="g (float[8,5] x) => (float[3,5] y) { y = MatMul(w, x) }",
    feeds={"x": (8, 5)},
    constants={"w": normal(3, 8)},
    schemes=WEIGHTED,
)
STACK = Case(
    name="matmul-stack",
    text="g (float[2,3,8] x) => (float[2,3,5] y) { y = MatMul(x, w) }",
    feeds={"x": (2, 3, 8)},
    constants={"w": normal(2, 8, 5)},
    schemes=WEIGHTED,
)
VECTOR = Case(
    name="matmul-vector",
    text="g (float[2,3,8] x) => (float[2,3] y) { y = MatMul(x, w) }",
    feeds={"x": (2, 3, 8)},
    constants={"w": normal(8)},
    schemes=WEIGHTED,
)
CONSTANTS = Case(
    name="matmul-two-constants",
    text="g (float[3,5] x) => (float[3,5] y) { t = MatMul(v, w) y = Add(t, x) }",
    feeds={"x": (3, 5)},
    constants={"v": normal(3, 8), "w": normal(8, 5)},
    schemes=WEIGHTED,
)
CASES = (
    RIGHT,
    LEFT,
    STACK,
    VECTOR,
    CONSTANTS,
    Case(
        name="matmul-batched",
        text="g (float[2,3,8] x) => (float[2,3,5] y) { y = MatMul(x, w) }",
        feeds={"x": (2, 3, 8)},
        constants={"w": normal(8, 5)},
        schemes=WEIGHTED,
    ),
    Case(
        name="matmul-activations",
        text="g (float[2,3,8] x, float[2,8,5] z) => (float[2,3,5] y) { y = MatMul(x, z) }",
        feeds={"x": (2, 3, 8), "z": (2, 8, 5)},
        schemes=PLAIN,
    ),
)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@pytest.mark.parametrize(
    ("case", "axis"),
    [(RIGHT, 1), (LEFT, None), (STACK, None), (VECTOR, None)],
    ids=["right", "left", "stack", "vector"],
)
def test_axis_per_channel(case: Case, axis: int | None) -> None:
    plan = quantized(case, INT8_CHANNELS).plan
    assert plan.tensors["w"].role == "weight"
    assert plan.tensors["w"].spec.axis == axis


@pytest.mark.parametrize("scheme", [INT8, INT8_CHANNELS, UINT8], ids=lambda scheme: scheme.name)
def test_onnxruntime_runs_it_in_integers(scheme: Scheme) -> None:
    assert "QLinearMatMul" in executed(quantized(RIGHT, scheme).model)
