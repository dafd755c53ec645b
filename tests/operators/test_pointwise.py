"""Operators that give each tensor a grid of its own: Add, Mul, Concat, Sigmoid, LeakyRelu, GlobalAveragePool."""

import numpy as np
import pytest

from tests.operators.harness import (
    INT8,
    PLAIN,
    UINT8,
    Case,
    Scheme,
    each,
    executed,
    judge,
    normal,
    operators,
    quantized,
)


def _unary(name: str, call: str) -> Case:
    return Case(
        name=name,
        text=f"g (float[1,4,8,8] x) => (float[1,4,A,B] y) {{ y = {call} }}",
        feeds={"x": (1, 4, 8, 8)},
        schemes=PLAIN,
    )


def _binary(op: str) -> Case:
    return Case(
        name=op.lower(),
        text=f"g (float[1,4,8,8] x, float[1,4,8,8] z) => (float[1,4,8,8] y) {{ y = {op}(x, z) }}",
        feeds={"x": (1, 4, 8, 8), "z": (1, 4, 8, 8)},
        schemes=PLAIN,
    )


def _with_constant(op: str) -> Case:
    return Case(
        name=f"{op.lower()}-constant",
        text=f"g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ y = {op}(x, c) }}",
        feeds={"x": (1, 4, 8, 8)},
        constants={"c": normal(4, 1, 1) + np.float32(1)},
        schemes=PLAIN,
    )


CASES = (
    _unary("sigmoid", "Sigmoid(x)"),
    _unary("leaky-relu", "LeakyRelu<alpha = 0.1>(x)"),
    _unary("global-average-pool", "GlobalAveragePool(x)"),
    _binary("Add"),
    _binary("Mul"),
    _with_constant("Add"),
    _with_constant("Mul"),
    Case(
        name="concat",
        text="g (float[1,4,8,8] x, float[1,2,8,8] z) => (float[1,6,8,8] y) { y = Concat<axis = 1>(x, z) }",
        feeds={"x": (1, 4, 8, 8), "z": (1, 2, 8, 8)},
        schemes=PLAIN,
    ),
    Case(
        name="add-twice-the-same",
        text="g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = Add(x, x) }",
        feeds={"x": (1, 4, 8, 8)},
        schemes=PLAIN,
    ),
)
INTEGER_KERNELS = {
    "sigmoid": "QLinearSigmoid",
    "leaky-relu": "QLinearLeakyRelu",
    "global-average-pool": "QLinearGlobalAveragePool",
    "add": "QLinearAdd",
    "mul": "QLinearMul",
    "concat": "QLinearConcat",
}


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@each(*CASES)
def test_every_tensor_has_a_grid_of_its_own(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    assert set(result.plan.tensors) == {*case.feeds, *case.constants, "y"}
    assert all(tensor.like is None and tensor.spec == scheme.activation for tensor in result.plan.tensors.values())
    assert {node.status for node in result.plan.nodes.values()} == {"quantized"}
    assert operators(result.model) == operators(case.model())


@pytest.mark.parametrize("scheme", [INT8, UINT8], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("case", [case for case in CASES if case.name in INTEGER_KERNELS], ids=lambda case: case.name)
def test_onnxruntime_runs_it_in_integers(case: Case, scheme: Scheme) -> None:
    assert INTEGER_KERNELS[case.name] in executed(quantized(case, scheme).model)


def test_a_constant_needs_no_calibration() -> None:
    plan = quantized(_with_constant("Add")).plan
    assert plan.tensors["c"].role == "weight"
    assert plan.tensors["c"].source == "smallest and largest of the constant's 4 values"


def test_integers_are_no_business_of_ours() -> None:
    case = Case(name="int", text="g (int64[4] x) => (int64[4] y) { y = Add(x, x) }", feeds={"x": (4,)})
    result = quantized(case)
    assert not result.plan.tensors
    (node,) = result.plan.nodes.values()
    assert (node.status, node.reason) == ("float", "the type of 'x' is int64, not a float")
