"""What has no rule, no float data or no permission stays float, and says why."""

import numpy as np
import pytest

from quantlab.plan import RecipeRule
from quantlab.workflow.quantize import decide, prepare_for
from tests.operators.harness import INT8, Case, judge, normal, quantized

DOUBLE = Case(
    name="double",
    text="g (double[3,8] x) => (double[3,5] y) { t = MatMul(x, w) y = Relu(t) }",
    feeds={"x": (3, 8)},
    constants={"w": normal(8, 5, dtype=np.float64)},
)


def test_operators_without_a_rule_stay_float() -> None:
    case = Case(
        name="erf",
        text="g (float[3,8] x) => (float[3,5] y) { t = Erf(x) y = MatMul(t, w) }",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 5)},
    )
    result = quantized(case)
    judge(case, result)
    reasons = {node.op: node.reason for node in result.plan.nodes.values() if node.status == "float"}
    assert reasons == {"Erf": "there is no rule for operator Erf"}
    assert result.plan.tensors["t"].readers == ("MatMul_1",)


@pytest.mark.parametrize("typed", [True, False])
def test_operators_of_other_domains_stay_float(typed: bool) -> None:
    types = "<float[3,8] t>" if typed else ""
    case = Case(
        name="gelu",
        text=f"g (float[3,8] x) => (float[3,5] y) {types} {{ t = com.microsoft.Gelu(x) y = MatMul(t, w) }}",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 5)},
        domains={"com.microsoft": 1},
    )
    result = quantized(case)
    reasons = {node.op: node.reason for node in result.plan.nodes.values() if node.status == "float"}
    # What onnx's inference does not know of the operator, onnxruntime's does.
    assert reasons == {"Gelu": "there is no rule for operator Gelu of domain 'com.microsoft'"}


def test_a_namesake_in_another_domain_is_no_relation() -> None:
    case = Case(
        name="namesake",
        text="g (float[3,8] x) => (float[3,8] y) { y = com.example.Relu(x) }",
        feeds={"x": (3, 8)},
        domains={"com.example": 1},
    )
    recipe = INT8.recipe()
    plan = decide(prepare_for(case.model(), recipe), recipe)
    (node,) = plan.nodes.values()
    assert (node.status, node.reason) == ("float", "there is no rule for operator Relu of domain 'com.example'")


def test_double_precision_stays_float() -> None:
    result = quantized(DOUBLE)
    judge(DOUBLE, result)
    assert {node.status for node in result.plan.nodes.values()} == {"float"}
    assert all("float64, which QuantizeLinear does not take" in node.reason for node in result.plan.nodes.values())


@pytest.mark.parametrize("pattern", ["MatMul_0", "MatMul*"])
def test_excluded_nodes_stay_float(pattern: str) -> None:
    case = Case(
        name="excluded",
        text="g (float[3,8] x) => (float[3,4] y) { t = MatMul(x, v) y = MatMul(t, w) }",
        feeds={"x": (3, 8)},
        constants={"v": normal(8, 5), "w": normal(5, 4, seed=1)},
    )
    result = quantized(case, INT8, rules=(RecipeRule(nodes=(pattern,), quantize=False, because="asked to"),))
    judge(case, result)
    assert result.plan.nodes["MatMul_0"].reason == "asked to"
    assert ("t" in result.plan.tensors) == (pattern == "MatMul_0")
