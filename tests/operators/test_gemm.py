"""Gemm: transposed or not, with a bias of any shape, and with alpha and beta that must not be lost."""

import numpy as np
import pytest

from tests.operators.harness import (
    INT8,
    INT8_CHANNELS,
    PLAIN,
    WEIGHTED,
    Case,
    Scheme,
    each,
    executed,
    judge,
    normal,
    quantized,
)

BIAS_SHAPES = {"n": (5,), "1-by-n": (1, 5), "m-by-n": (3, 5), "m-by-1": (3, 1), "scalar": (), "1": (1,)}


def _gemm(name: str, attributes: str = "", bias: tuple[int, ...] = (5,)) -> Case:
    transposed = "transB" in attributes
    rows = (8, 3) if "transA" in attributes else (3, 8)
    call = f"Gemm<{attributes}>(x, w, b)" if attributes else "Gemm(x, w, b)"
    return Case(
        name=f"gemm-{name}",
        text=f"g (float[{rows[0]},{rows[1]}] x) => (float[3,5] y) {{ y = {call} }}",
        feeds={"x": rows},
        constants={"w": normal(5, 8) if transposed else normal(8, 5), "b": normal(*bias)},
        schemes=WEIGHTED,
    )


SHAPED = tuple(_gemm(f"bias-{name}", bias=shape) for name, shape in BIAS_SHAPES.items())
ALPHA = _gemm("alpha", "alpha = 0.5")
FLOAT_BIAS = (
    _gemm("beta", "alpha = 0.5, beta = 2.0, transB = 1"),
    _gemm("negative-alpha", "alpha = -0.5, transB = 1"),
    _gemm("zero-alpha", "alpha = 0.0, transB = 1"),
    _gemm("zero-beta", "beta = 0.0"),
)
CASES = (
    *SHAPED,
    *FLOAT_BIAS,
    ALPHA,
    _gemm("transposed", "transA = 1, transB = 1"),
    Case(
        name="gemm-no-bias",
        text="g (float[3,8] x) => (float[3,5] y) { y = Gemm(x, w) }",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 5)},
        schemes=WEIGHTED,
    ),
    Case(
        name="gemm-computed-weight",
        text="g (float[3,8] x, float[8,5] w) => (float[3,5] y) { y = Gemm(x, w, b) }",
        feeds={"x": (3, 8), "w": (8, 5)},
        constants={"b": normal(5)},
        schemes=PLAIN,
    ),
    Case(
        name="gemm-computed-bias",
        text="g (float[3,8] x, float[5] b) => (float[3,5] y) { y = Gemm(x, w, b) }",
        feeds={"x": (3, 8), "b": (5,)},
        constants={"w": normal(8, 5)},
        schemes=PLAIN,
    ),
)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@pytest.mark.parametrize("transposed", [False, True])
def test_channels_follow_transb(transposed: bool) -> None:
    case = _gemm("axis", "transB = 1" if transposed else "")
    weight = quantized(case, INT8_CHANNELS).plan.tensors["w"]
    assert weight.spec.axis == (0 if transposed else 1)
    assert weight.qparams is not None
    assert weight.qparams.scale.shape == (5,)


@pytest.mark.parametrize("case", SHAPED, ids=lambda case: case.name)
def test_every_bias_shape_runs_in_integers(case: Case) -> None:
    assert "QGemm" in executed(quantized(case, INT8).model)


@pytest.mark.parametrize("case", SHAPED, ids=lambda case: case.name)
def test_a_bias_without_a_value_a_channel_stays_float_per_channel(case: Case) -> None:
    planned = "b" in quantized(case, INT8_CHANNELS).plan.tensors
    assert planned == (case.constants["b"].shape[-1:] == (5,))


def test_alpha_belongs_to_the_scale_of_the_bias() -> None:
    plan = quantized(ALPHA).plan
    x, w, b = (plan.tensors[name].qparams for name in "xwb")
    assert x is not None
    assert w is not None
    assert b is not None
    assert b.scale == x.scale * w.scale * np.float32(0.5)


@pytest.mark.parametrize("case", FLOAT_BIAS, ids=lambda case: case.name)
def test_no_product_of_scales_no_integer_bias(case: Case) -> None:
    result = quantized(case)
    assert "b" not in result.plan.tensors
    (node,) = result.plan.nodes.values()
    assert node.reason == "all it reads and makes has a grid, save 'b', which stays float"
    (gemm,) = (node for node in result.model.graph.node if node.op_type == "Gemm")
    (before,) = case.model().graph.node
    assert list(gemm.attribute) == list(before.attribute)
