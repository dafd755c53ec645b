"""Graphs that break naive writers: colliding names, shared constants, subgraphs, outputs in between."""

import numpy as np
import onnx
import pytest

from quantlab.workflow.quantize import quantize
from tests.operators.harness import (
    INT8,
    INT8_CHANNELS,
    SYMMETRIC,
    UINT8,
    Case,
    Scheme,
    executed,
    initializers,
    judge,
    normal,
    operators,
    quantized,
    run,
)

SUFFIXES = (
    "_scale", "_zero_point", "_quantized", "_quantized_scale", "_quantized_zero_point", "_QuantizeLinear",
    "_DequantizeLinear", "_QuantizeLinear_Input", "_QuantizeLinear_Output", "_DequantizeLinear_Output",
)  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("tensor", ["x", "w", "b", "y"])
def test_new_names_never_collide(tensor: str, suffix: str) -> None:
    taken = tensor + suffix
    case = Case(
        name="collide",
        text=f"""g (float[1,4,5,5] x) => (float[1,4,3,3] y, float[1,4,5,5] z) {{
            y = Conv(x, w, b)
            z = Mul(x, {taken})
        }}""",
        feeds={"x": (1, 4, 5, 5)},
        constants={"w": normal(4, 4, 3, 3), "b": normal(4), taken: normal(4, 1, 1)},
    )
    judge(case, quantized(case))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_new_names_never_collide_with_nodes_and_inner_tensors(suffix: str) -> None:
    taken = "t" + suffix
    case = Case(
        name="collide-inner",
        text=f"""g (float[1,4,5,5] x) => (float[1,4,5,5] y) {{
            {taken} = Sigmoid(x)
            t = Sigmoid({taken})
            y = Sigmoid(t)
        }}""",
        feeds={"x": (1, 4, 5, 5)},
    )
    model = case.model()
    model.graph.node[2].name = "x" + suffix
    result = quantize(model, case.batches(), INT8.recipe())
    judge(case, result)
    names = [node.name for node in result.model.graph.node]
    assert len(set(names)) == len(names)


def test_two_convs_share_a_bias() -> None:
    """The scale of a bias is a product that two Convs do not share: each gets a copy of its own."""
    case = Case(
        name="shared-bias",
        text="""g (float[1,4,5,5] x) => (float[1,4,1,1] y) {
            t = Conv(x, v, b)
            y = Conv(t, w, b)
        }""",
        feeds={"x": (1, 4, 5, 5)},
        constants={"v": normal(4, 4, 3, 3), "w": 9 * normal(4, 4, 3, 3, seed=1), "b": normal(4, seed=2)},
    )
    result = quantized(case)
    judge(case, result)
    assert [name for name, tensor in result.plan.tensors.items() if tensor.role == "bias"] == ["b", "b_Conv_1"]
    assert result.plan.notes == ()
    assert {node.reason for node in result.plan.nodes.values()} == {"all it reads and makes has a grid"}
    assert executed(result.model).count("QLinearConv") == 2


@pytest.mark.parametrize("order", ["bias-first", "sum-first"])
def test_a_bias_that_is_added_elsewhere(order: str) -> None:
    lines = ["t = Conv(x, w, b)", "z = Add(u, b)"]
    body = " ".join(lines if order == "bias-first" else lines[::-1])
    case = Case(
        name=order,
        text=f"g (float[1,4,5,5] x, float[3,4] u) => (float[1,4,3,3] t, float[3,4] z) {{ {body} }}",
        feeds={"x": (1, 4, 5, 5), "u": (3, 4)},
        constants={"w": normal(4, 4, 3, 3), "b": normal(4)},
    )
    result = quantized(case)
    judge(case, result)
    tensor = result.plan.tensors["b"]
    assert tensor.readers is not None
    assert len(tensor.readers) == 1
    assert (tensor.role == "bias") == tensor.readers[0].startswith("Conv")


def test_a_weight_read_on_two_axes_gets_one_scale() -> None:
    case = Case(
        name="two-axes",
        text="""g (float[3,8] x, float[3,8] z) => (float[3,8] y, float[3,8] u) {
            y = Gemm(x, w)
            u = Gemm<transB = 1>(z, w)
        }""",
        feeds={"x": (3, 8), "z": (3, 8)},
        constants={"w": normal(8, 8)},
    )
    result = quantized(case, INT8_CHANNELS)
    judge(case, result)
    assert result.plan.tensors["w"].spec.axis is None
    assert "gets one scale for the whole tensor" in result.plan.notes[0]


def test_a_weight_shared_on_one_axis_is_stored_once() -> None:
    case = Case(
        name="shared-weight",
        text="g (float[3,8] x) => (float[3,8] y) { t = MatMul(x, w) y = MatMul(t, w) }",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 8)},
    )
    result = quantized(case, INT8_CHANNELS)
    judge(case, result)
    reading = [node for node in result.model.graph.node if "w_quantized" in node.input]
    assert len(reading) == 1


@pytest.mark.parametrize("mover", ["Transpose(w)", "Reshape(w, s)"])
def test_a_weight_per_channel_that_is_moved_elsewhere_moves_in_float(mover: str) -> None:
    """Moved, channels lie on another axis; the grid cannot go along."""
    case = Case(
        name="moved-weight",
        text=f"g (float[3,8] x) => (float[3,6] y, float[6,8] z) {{ y = MatMul(x, w) z = {mover} }}",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 6), **({"s": np.array([6, 8])} if "s" in mover.split("w")[1] else {})},
    )
    result = quantized(case, INT8_CHANNELS)
    judge(case, result)
    assert "w" in initializers(result.model)
    assert "z" not in result.plan.tensors


def test_a_bias_that_is_moved_elsewhere_moves_in_float() -> None:
    case = Case(
        name="moved-bias",
        text="""g (float[1,4,5,5] x) => (float[1,4,3,3] y, float[1,4,1,1] z) {
            y = Conv(x, w, b)
            z = Reshape(b, s)
        }""",
        feeds={"x": (1, 4, 5, 5)},
        constants={"w": normal(4, 4, 3, 3), "b": normal(4), "s": np.array([1, 4, 1, 1])},
    )
    result = quantized(case)
    judge(case, result)
    assert "z" not in result.plan.tensors


def test_constants_that_an_operator_takes_as_options_stay_exact() -> None:
    """The scales of Resize and the bounds of Clip are read as they are, though Mul has their constants rounded."""
    case = Case(
        name="options",
        text="""g (float[1,1,4,4] x) => (float[1,1,8,8] y, float[1,1,4,4] z, float[1,1,4,4] u) {
            t = Sigmoid(x)
            y = Resize<mode = "linear">(t, , s)
            z = Mul(x, s)
            v = Add(x, c)
            u = Clip(v, c)
        }""",
        feeds={"x": (1, 1, 4, 4)},
        constants={"s": np.array([1, 1, 2, 2], np.float32), "c": np.asarray(0.3, np.float32)},
    )
    result = quantized(case)
    judge(case, result)
    assert result.plan.tensors["s"].readers == ("Mul_2",)
    assert result.plan.tensors["c"].readers == ("Add_3",)


def test_an_input_that_is_an_output_too_is_handed_on_untouched() -> None:
    case = Case(
        name="through",
        text="g (float[3,8] x) => (float[3,5] y, float[3,8] x) { y = MatMul(x, w) }",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 5)},
    )
    result = quantized(case)
    onnx.checker.check_model(result.model, full_check=True)
    feeds = case.batches()[0]
    assert [value.name for value in result.model.graph.output] == ["y", "x"]
    (quantize_x,) = [node for node in result.model.graph.node if node.name == "x_QuantizeLinear"]
    assert quantize_x.input[0] == "x"
    np.testing.assert_array_equal(run(result.model, feeds)["x"], feeds["x"])


@pytest.mark.parametrize("scheme", [INT8, UINT8, SYMMETRIC], ids=lambda scheme: scheme.name)
def test_outputs_keep_their_names(scheme: Scheme) -> None:
    case = Case(
        name="outputs",
        text="""g (float[1,4,5,5] x) => (float[1,4,3,3] y, float[1,4,3,3] t, float[1,4,1,1] u) {
            t = Conv(x, w)
            y = Relu(t)
            r = Sigmoid(y)
            u = GlobalAveragePool(r)
        }""",
        feeds={"x": (1, 4, 5, 5)},
        constants={"w": normal(4, 4, 3, 3)},
    )
    result = quantized(case, scheme)
    judge(case, result)
    assert [value.name for value in result.model.graph.output] == ["y", "t", "u"]


def test_an_output_made_by_an_absorbed_relu() -> None:
    case = Case(
        name="relu-output",
        text="g (float[1,4,5,5] x) => (float[1,4,3,3] y) { t = Conv(x, w) y = Relu(t) }",
        feeds={"x": (1, 4, 5, 5)},
        constants={"w": normal(4, 4, 3, 3)},
    )
    result = quantized(case)
    judge(case, result)
    (conv,) = (node for node in result.model.graph.node if node.op_type == "Conv")
    assert list(conv.output) == ["y_QuantizeLinear_Input"]


def test_a_tensor_with_quantized_and_float_readers() -> None:
    case = Case(
        name="readers",
        text="""g (float[3,8] x) => (float[3,5] y, float[3,8] z, float[3,8] u) {
            y = MatMul(x, w)
            z = Erf(x)
            t = Sigmoid(x)
            u = Erf(t)
        }""",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 5)},
    )
    result = quantized(case)
    judge(case, result)
    assert result.plan.tensors["x"].readers == ("MatMul_0", "Sigmoid_2")
    assert result.plan.tensors["t"].readers is None


def _if(condition_reads: str, before: str) -> Case:
    return Case(
        name="if",
        text=f"""g (bool c, float[2,3] x) => (float[2,3] y, float[2,3] z) {{
            {before}
            z = Sigmoid({condition_reads})
            y = If(c) <
                then_branch = yes () => (float[2,3] p) {{ p = Neg({condition_reads}) }},
                else_branch = no () => (float[2,3] q) {{ q = Exp({condition_reads}) }}
            >
        }}""",
        feeds={"c": (), "x": (2, 3)},
    )


def test_a_branch_that_reads_the_input_of_a_relu_keeps_it_alive() -> None:
    case = _if("t", "t = Sigmoid(x) r = Relu(t) s = Sigmoid(r)")
    judge(case, quantized(case, UINT8))


def test_a_branch_that_reads_behind_an_absorbed_relu_sees_it_clipped() -> None:
    case = _if("r", "t = Add(x, x) r = Relu(t)")
    result = quantized(case, UINT8)
    judge(case, result)
    assert "Relu" not in operators(result.model)
    negative = {"c": np.asarray(True), "x": np.full((2, 3), -1, np.float32)}
    np.testing.assert_array_equal(run(result.model, negative)["y"], np.zeros((2, 3), np.float32))


def test_nodes_in_any_order_with_captures_in_between() -> None:
    case = _if("r", "t = Add(x, x) r = Relu(t)")
    model = case.model()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    result = quantize(model, case.batches(), UINT8.recipe())
    onnx.checker.check_model(result.model, full_check=True)
    assert set(run(result.model, case.batches()[0])) == {"y", "z"}


def test_unnamed_nodes_are_told_apart() -> None:
    case = Case(
        name="unnamed",
        text="g (float[3,8] x) => (float[3,8] y) { t = MatMul(x, v) u = Erf(t) y = MatMul(u, w) }",
        feeds={"x": (3, 8)},
        constants={"v": normal(8, 8), "w": normal(8, 8, seed=1)},
    )
    result = quantized(case)
    judge(case, result)
    assert list(result.plan.nodes) == ["MatMul_0", "Erf_1", "MatMul_2"]


def test_what_nobody_reads_any_more_is_left_out() -> None:
    case = Case(
        name="stored-once",
        text="g (float[1,4,5,5] x) => (float[1,4,3,3] y) { y = Conv(x, w, b) }",
        feeds={"x": (1, 4, 5, 5)},
        constants={"w": normal(4, 4, 3, 3), "b": normal(4)},
    )
    stored = initializers(quantized(case).model)
    assert {"w", "b"}.isdisjoint(stored)


def test_the_float_model_is_never_changed() -> None:
    case = Case(
        name="pure",
        text="g (float[3,9] x) => (float[3,5] y) { t = MatMul(x, w) y = Relu(t) }",
        feeds={"x": (3, 9)},
        constants={"w": normal(9, 5)},
    )
    model = case.model()
    before = model.SerializeToString()
    quantize(model, case.batches(), INT8.recipe())
    assert model.SerializeToString() == before
