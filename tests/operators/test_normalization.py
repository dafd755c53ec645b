"""Normalizations on request: data and scale on grids, the bias int32 on their product."""

import numpy as np
import pytest

from tests.operators.harness import INT8, PLAIN, Case, Scheme, each, judge, normal, quantized

X = "float[1,4,8,8]"
SCALE, BIAS = np.abs(normal(4, seed=1)) + np.float32(0.5), normal(4, seed=2)
LONG, LONG_BIAS = np.abs(normal(8, seed=3)) + np.float32(0.5), normal(8, seed=4)


def _listed(name: str, op: str, call: str, **constants: object) -> Case:
    return Case(
        name=name,
        text=f"g ({X} x) => ({X} y) {{ y = {call} }}",
        feeds={"x": (1, 4, 8, 8)},
        constants=constants,  # type: ignore[arg-type]
        schemes=PLAIN,
        op_types=(op,),
    )


CASES = (
    _listed("layer-norm", "LayerNormalization", "LayerNormalization<axis = -1>(x, s, b)", s=LONG, b=LONG_BIAS),
    _listed("layer-norm-no-bias", "LayerNormalization", "LayerNormalization<axis = -1>(x, s)", s=LONG),
    _listed("instance-norm", "InstanceNormalization", "InstanceNormalization(x, s, b)", s=SCALE, b=BIAS),
    Case(
        name="batch-norm-unfolded",
        text=f"g ({X} x) => ({X} y) {{ t = Relu(x) y = BatchNormalization(t, s, b, m, v) }}",
        feeds={"x": (1, 4, 8, 8)},
        constants={"s": SCALE, "b": BIAS, "m": normal(4, seed=5), "v": np.abs(normal(4, seed=6)) + np.float32(0.5)},
        schemes=PLAIN,
        op_types=("BatchNormalization",),
    ),
)


@each(*CASES)
def test_listed_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    judge(case, result)
    plans = result.plan.tensors
    assert plans["s"].role == "weight"
    if "b" in plans:
        assert plans["b"].role == "bias"
        product = np.float32(plans[plans["b"].product[0]].qparams.scale * plans["s"].qparams.scale)
        np.testing.assert_allclose(plans["b"].qparams.scale, product, rtol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_not_listed_they_stay_float_and_say_why(case: Case) -> None:
    plain = Case(name=case.name, text=case.text, feeds=case.feeds, constants=case.constants)
    result = quantized(plain, INT8)
    reasons = [node.reason for node in result.plan.nodes.values() if node.op == case.op_types[0]]
    assert all(reason.startswith(f"onnxruntime has no 8-bit {case.op_types[0]}, so that") for reason in reasons)
    assert "s" not in result.plan.tensors
