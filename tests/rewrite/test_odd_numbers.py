"""Numbers that break naive writers: dead channels, half precision, biases beyond 32 bits, integers below a byte."""

import numpy as np
import onnx
import pytest

from quantlab.arrays import dtype
from quantlab.plan import Recipe, weight_spec
from quantlab.workflow.quantize import quantize
from tests.operators.harness import (
    INT8,
    INT8_CHANNELS,
    SYMMETRIC,
    U8S8_CHANNELS,
    UINT8,
    UINT8_CHANNELS,
    Case,
    Scheme,
    initializers,
    judge,
    normal,
    quantized,
    run,
)


@pytest.mark.parametrize("scheme", [INT8, U8S8_CHANNELS, UINT8_CHANNELS], ids=lambda scheme: scheme.name)
def test_an_all_zero_channel_stays_zero(scheme: Scheme) -> None:
    weight = normal(4, 4, 3, 3)
    weight[2] = 0
    case = Case(
        name="dead-channel",
        text="g (float[1,4,5,5] x) => (float[1,4,3,3] y) { y = Conv(x, w, b) }",
        feeds={"x": (1, 4, 5, 5)},
        constants={"w": weight, "b": np.array([1, 2, 0, 4], np.float32)},
    )
    result = quantized(case, scheme)
    judge(case, result)
    grid = result.plan.tensors["w"].qparams
    assert grid is not None
    assert len(set(grid.zero_point.ravel().tolist())) == 1
    for optimize in (False, True):
        assert not run(result.model, case.batches()[0], optimize=optimize)["y"][:, 2].any()


def _half(name: str, factor: float, call: str = "y = Conv(x, w, b)") -> Case:
    return Case(
        name=name,
        text=f"g (float16[1,4,9,9] x) => (float16[1,6,7,7] y) {{ {call} }}",
        feeds={"x": (1, 4, 9, 9)},
        constants={
            "w": (factor * normal(6, 4, 3, 3)).astype(np.float16),
            "b": normal(6, dtype=np.float16),
        },
    )


@pytest.mark.parametrize("scheme", [INT8, INT8_CHANNELS, UINT8, SYMMETRIC], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("factor", [1.0, 1e-2, 1e-4, 1e-5])
def test_half_precision(scheme: Scheme, factor: float) -> None:
    """Small weights have scales below 6.1e-5, the smallest normal number of float16, and must not vanish."""
    case = _half("half", factor)
    result = quantized(case, scheme)
    judge(case, result)
    assert result.model.opset_import[0].version >= 19
    scales = {name: value for name, value in initializers(result.model).items() if name.endswith("_scale")}
    assert {value.dtype for value in scales.values()} == {np.dtype(np.float16)}
    assert all((value > 0).all() for value in scales.values())
    assert initializers(result.model)["w_quantized"].any()


def test_half_precision_softmax_has_a_scale_of_its_type() -> None:
    case = _half("half-softmax", 1.0, "t = Conv(x, w, b) y = Softmax(t)")
    result = quantized(case)
    onnx.checker.check_model(result.model, full_check=True)
    assert initializers(result.model)["y_scale"].dtype == np.float16
    exact, found = (run(model, case.batches()[0])["y"] for model in (case.model(), result.model))
    np.testing.assert_allclose(found, exact, atol=0.05)


@pytest.mark.parametrize("kind", ["int8", "uint8", "uint16"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_bias_too_large_for_its_scale_widens_the_weight(kind: str, per_channel: bool) -> None:
    case = Case(
        name="wide-bias",
        text="g (float[1,4,5,5] x) => (float[1,4,3,3] y) { y = Conv(x, w, b) }",
        feeds={"x": (1, 4, 5, 5)},
        constants={"w": np.float32(1e-9) * normal(4, 4, 3, 3), "b": np.array([1, -2, 3, 4], np.float32)},
    )
    recipe = Recipe(weight=weight_spec(kind), per_channel=per_channel)
    result = quantize(case.model(), case.batches(), recipe)
    judge(case, result)
    assert "widened so that bias 'b' fits into 32 bits" in result.plan.tensors["w"].source
    stored = initializers(result.model)
    np.testing.assert_allclose(stored["b_quantized"] * stored["b_quantized_scale"], case.constants["b"], rtol=1e-3)


def test_float16_is_noticed_without_a_float16_constant() -> None:
    head = '<ir_version: 8, opset_import: ["": 13]>'
    text = f"{head} g (float16[1,4] x) => (float16[1,4] y) {{ t = Sigmoid(x) y = Add(t, x) }}"
    samples = [{"x": np.array([[-1, 0, 1, 2]], np.float16)}]
    result = quantize(onnx.parser.parse_model(text), samples)
    assert result.model.opset_import[0].version == 19
    onnx.checker.check_model(result.model, full_check=True)
    np.testing.assert_allclose(run(result.model, samples[0])["y"], [[-0.73, 0.5, 1.73, 2.88]], atol=0.03)


@pytest.mark.parametrize("kind", ["int4", "uint4"])
def test_narrow_weights_are_packed(kind: str) -> None:
    case = Case(
        name="packed",
        text="g (float[3,9] x) => (float[3,5] y) { y = MatMul(x, w) }",
        feeds={"x": (3, 9)},
        constants={"w": normal(9, 5)},
        opset=21,
    )
    row = dtype(kind)
    recipe = Recipe(weight=weight_spec(kind))
    result = quantize(case.model(), case.batches(), recipe)
    judge(case, result)
    (stored,) = (tensor for tensor in result.model.graph.initializer if tensor.name == "w_quantized")
    assert stored.data_type == row.onnx_code
    assert len(stored.raw_data) == (9 * 5 + 1) // 2
