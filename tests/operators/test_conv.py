"""Conv: weights per tensor or per channel of axis 0, an int32 bias, an integer kernel in onnxruntime."""

import numpy as np
import pytest

from tests.operators.harness import (
    INT8,
    INT8_CHANNELS,
    INT16_WEIGHTS,
    PLAIN,
    SYMMETRIC,
    U8S8_CHANNELS,
    UINT8,
    WEIGHTED,
    Case,
    Scheme,
    each,
    executed,
    judge,
    normal,
    operators,
    quantized,
    statuses,
)

PLAIN_2D = Case(
    name="conv2d",
    text="g (float[1,4,9,9] x) => (float[1,6,7,7] y) { y = Conv(x, w, b) }",
    feeds={"x": (1, 4, 9, 9)},
    constants={"w": normal(6, 4, 3, 3), "b": normal(6)},
    opset=13,
    schemes=WEIGHTED,
)
COMPUTED_WEIGHT = Case(
    name="conv-computed-weight",
    text="g (float[1,4,9,9] x, float[6,4,3,3] w) => (float[1,6,7,7] y) { y = Conv(x, w, b) }",
    feeds={"x": (1, 4, 9, 9), "w": (6, 4, 3, 3)},
    constants={"b": normal(6)},
    schemes=PLAIN,
)
NO_BIAS = Case(
    name="conv-no-bias",
    text="g (float[1,4,9,9] x) => (float[1,6,7,7] y) { y = Conv(x, w) }",
    feeds={"x": (1, 4, 9, 9)},
    constants={"w": normal(6, 4, 3, 3)},
    opset=21,
    schemes=WEIGHTED,
)
CASES = (
    PLAIN_2D,
    NO_BIAS,
    COMPUTED_WEIGHT,
    Case(
        name="conv-wide-bias",
        text="g (float[1,4,5,5] x) => (float[1,4,3,3] y) { y = Conv(x, w, b) }",
        feeds={"x": (1, 4, 5, 5)},
        constants={"w": np.float32(1e-8) * normal(4, 4, 3, 3), "b": np.array([1, -2, 0.5, 4], np.float32)},
        schemes=(INT8, INT8_CHANNELS, U8S8_CHANNELS, SYMMETRIC, INT16_WEIGHTS),
    ),
    Case(
        name="conv1d",
        text="g (float[1,4,9] x) => (float[1,6,7] y) { y = Conv(x, w, b) }",
        feeds={"x": (1, 4, 9)},
        constants={"w": normal(6, 4, 3), "b": normal(6)},
        schemes=WEIGHTED,
    ),
    Case(
        name="conv3d",
        text="g (float[1,4,5,5,5] x) => (float[1,6,3,3,3] y) { y = Conv(x, w, b) }",
        feeds={"x": (1, 4, 5, 5, 5)},
        constants={"w": normal(6, 4, 3, 3, 3), "b": normal(6)},
        schemes=WEIGHTED,
    ),
    Case(
        name="conv-groups",
        text="g (float[1,4,9,9] x) => (float[1,6,7,7] y) { y = Conv<group = 2>(x, w, b) }",
        feeds={"x": (1, 4, 9, 9)},
        constants={"w": normal(6, 2, 3, 3), "b": normal(6)},
        schemes=WEIGHTED,
    ),
    Case(
        name="conv-depthwise",
        text="g (float[1,4,9,9] x) => (float[1,4,7,7] y) { y = Conv<group = 4>(x, w, b) }",
        feeds={"x": (1, 4, 9, 9)},
        constants={"w": normal(4, 1, 3, 3), "b": normal(4)},
        schemes=WEIGHTED,
    ),
)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@pytest.mark.parametrize("scheme", [INT8, INT8_CHANNELS], ids=lambda scheme: scheme.name)
def test_plan(scheme: Scheme) -> None:
    plan = quantized(PLAIN_2D, scheme).plan
    roles = {name: tensor.role for name, tensor in plan.tensors.items()}
    assert roles == {"x": "activation", "w": "weight", "b": "bias", "y": "activation"}
    assert plan.tensors["w"].spec.axis == (0 if scheme.per_channel else None)
    assert plan.tensors["w"].spec.symmetric
    assert plan.tensors["b"].product == ("x", "w")
    assert plan.tensors["b"].spec.dtype.name == "int32"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("scheme", [INT8, UINT8], ids=lambda scheme: scheme.name)
def test_onnxruntime_runs_it_in_integers(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    assert statuses(result) == {"Conv": "quantized"}
    assert operators(result.model) == ["Conv"]
    assert "QLinearConv" in executed(result.model)


def test_weight_per_channel_uses_only_zero_points_in_the_middle() -> None:
    for scheme in (case_scheme for case_scheme in WEIGHTED if case_scheme.per_channel):
        weight = quantized(PLAIN_2D, scheme).plan.tensors["w"]
        assert weight.qparams is not None
        middle = 0 if weight.spec.dtype.signed else 2 ** (weight.spec.dtype.bits - 1)
        assert set(weight.qparams.zero_point.tolist()) == {middle}
