"""Softmax: its output lies in 0..1 whatever the data, in the type of the model."""

import pytest

from tests.operators.harness import INT8, PLAIN, UINT8, Case, Scheme, each, executed, judge, quantized

SOFTMAX = Case(
    name="softmax",
    text="g (float[4,16] x) => (float[4,16] y) { y = Softmax(x) }",
    feeds={"x": (4, 16)},
    schemes=PLAIN,
)
CASES = (SOFTMAX,)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@pytest.mark.parametrize("scheme", [INT8, UINT8], ids=lambda scheme: scheme.name)
def test_the_range_needs_no_data(scheme: Scheme) -> None:
    result = quantized(SOFTMAX, scheme)
    tensor = result.plan.tensors["y"]
    assert tensor.source == "0..1 by the definition of the operator"
    assert tensor.values is not None
    assert (float(tensor.values.lo), float(tensor.values.hi)) == (0, 1)
    assert "QLinearSoftmax" in executed(result.model)
