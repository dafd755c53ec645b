"""Operators that onnxruntime computes in float even between grids: rounded only when listed by name."""

import numpy as np
import pytest

from tests.operators.harness import INT8, PLAIN, Array, Case, Scheme, each, judge, normal, operators, quantized


def _listed(op: str, call: str, outputs: str = "float[1,4,8,8] y", **constants: Array) -> Case:
    return Case(
        name=op.lower(),
        text=f"g (float[1,4,8,8] x) => ({outputs}) {{ y = {call} }}",
        feeds={"x": (1, 4, 8, 8)},
        constants=constants,
        schemes=PLAIN,
        op_types=(op,),
    )


DIVISOR = np.abs(normal(4, 1, 1)) + np.float32(1)
CASES = (
    _listed("Sub", "Sub(x, c)", c=normal(4, 1, 1)),
    _listed("Div", "Div(x, c)", c=DIVISOR),
    _listed("HardSwish", "HardSwish(x)"),
    _listed("HardSigmoid", "HardSigmoid(x)"),
    _listed("CumSum", "CumSum(x, axis)", axis=np.asarray(1, np.int64)),
    _listed("ReduceMean", "ReduceMean<axes = [3]>(x)", "float[1,4,8,1] y"),
    _listed("ReduceSum", "ReduceSum(x, axis)", "float[1,4,8,1] y", axis=np.asarray([3], np.int64)),
)


@each(*CASES)
def test_listed_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    judge(case, result)
    assert {node.status for node in result.plan.nodes.values()} == {"quantized"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_not_listed_they_stay_float_and_say_why(case: Case) -> None:
    plain = Case(name=case.name, text=case.text, feeds=case.feeds, constants=case.constants)
    result = quantized(plain, INT8)
    (node,) = result.plan.nodes.values()
    assert node.status == "float"
    assert node.reason == (
        f"onnxruntime has no 8-bit {node.op}, so that rounding its tensors would cost accuracy and gain "
        "nothing; list it in op_types to quantize it all the same"
    )
    assert not result.plan.tensors
    assert operators(result.model) == [node.op]
