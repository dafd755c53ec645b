"""A new operator is one function in one file."""

import onnx
import pytest

from quantlab.errors import OptionError
from quantlab.graph import GraphView
from quantlab.plan import Refuse, Settings, Wish, activation, op_rules
from tests.operators.harness import INT8, Case, judge, normal, quantized

CASE = Case(
    name="new",
    text="g (float[3,8] x) => (float[3,5] y) { t = Erf(x) y = MatMul(t, w) }",
    feeds={"x": (3, 8)},
    constants={"w": normal(8, 5)},
)


def _erf(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish] | Refuse:
    if not settings.listed:
        return Refuse("not asked for")
    return [activation(node.input[0], settings), Wish(tensor=node.output[0], spec=settings.activation, fixed=(-1, 1))]


def test_a_rule_of_ones_own() -> None:
    with op_rules.scoped(Erf=_erf):
        left = quantized(CASE, INT8)
        asked = quantized(Case(**{**vars(CASE), "op_types": ("Erf", "MatMul")}), INT8)
    judge(CASE, asked)
    assert left.plan.nodes["Erf_0"].reason == "not asked for"
    assert asked.plan.nodes["Erf_0"].status == "quantized"
    assert asked.plan.tensors["t"].source == "-1..1 by the definition of the operator"
    assert "Erf" not in op_rules


def test_two_rules_for_one_operator_are_refused() -> None:
    with pytest.raises(OptionError, match="operator 'Conv' is registered already"):
        op_rules.register("Conv")(_erf)
