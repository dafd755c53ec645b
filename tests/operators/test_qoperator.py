"""Format QOperator: operators on integers, each judged by the oracle that judges QDQ models.

The oracle runs the float model node by node and rounds what the plan rounds; it knows nothing of integer operators.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from quantlab.arrays import INT16, QuantSpec
from quantlab.errors import OptionError, QuantlabWarning
from quantlab.graph import GraphView
from quantlab.plan import Layout, QuantPlan, Recipe, RecipeRule, activation_spec, resolve, weight_spec
from quantlab.plan.forms import integer_needs
from quantlab.rewrite.qoperator.writers import integer_writers
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import calibrate, decide, prepare_for, write
from tests.operators import test_options_parity
from tests.operators.harness import (
    Case,
    Scheme,
    each,
    initializers,
    judge,
    normal,
    oracle,
    quantized,
    run,
)
from tests.operators.qoperator_cases import (
    BY_NAME,
    CASES,
    EMBEDDINGS,
    GRAPHS,
    KEPT_RELU,
    S8S8,
    SINGLE,
    SYMMETRIC,
    U8S8,
    U8S8_CHANNELS,
    U8U8,
    WHERE,
    embedding,
    image,
)

pytestmark = pytest.mark.filterwarnings("ignore:int8 activations in format QOperator")


ALONE = {case.name for case in (*SINGLE, *KEPT_RELU, *EMBEDDINGS, WHERE)}


@each(*(case for case in CASES if case.name in ALONE))
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@each(*(case for case in CASES if case.name not in ALONE))
def test_graphs_equal_the_oracle(case: Case, scheme: Scheme) -> None:
    # How noise adds up over several operators is not what is tested here, so that there is no floor.
    test_options_parity.runs_as_planned(case, quantized(case, scheme))


@pytest.mark.parametrize("case", EMBEDDINGS, ids=lambda case: case.name)
def test_tables_of_embeddings_give_the_oracle_to_the_bit(case: Case) -> None:
    result = quantized(case, U8S8)
    for feeds in case.batches():
        found = run(result.model, feeds)
        for name, value in oracle(result, feeds).items():
            np.testing.assert_array_equal(found[name], value)


ON_INTEGERS = {
    "conv2d": ["QLinearConv"],
    "gemm-bias-n": ["QGemm"],
    "matmul-right": ["QLinearMatMul"],
    "matmul-activations": ["QLinearMatMul"],
    "add": ["QLinearAdd"],
    "mul": ["QLinearMul"],
    "sigmoid": ["QLinearSigmoid"],
    "leaky-relu": ["QLinearLeakyRelu"],
    "concat": ["QLinearConcat"],
    "softmax": ["QLinearSoftmax"],
    "average-pool": ["QLinearSigmoid", "QLinearAveragePool"],
    "average": ["QLinearConv", "QLinearGlobalAveragePool", "Flatten"],
    "relu": ["QLinearAdd"],
    "max-pool": ["QLinearSigmoid", "MaxPool"],
    "split-input": ["Split", "QLinearSigmoid", "QLinearConcat"],
    "pad-zero": ["QLinearSigmoid", "Pad"],
    "resize-linear": ["QLinearSigmoid", "Resize"],
    "arg-max": ["QLinearConv", "ArgMax"],
    "where": ["QLinearSigmoid", "QLinearWhere"],
}


@pytest.mark.parametrize("name", ON_INTEGERS)
def test_nothing_is_converted_between_operators_on_integers(name: str) -> None:
    nodes = [node.op_type for node in quantized(BY_NAME[name], U8S8).model.graph.node]
    while nodes[0] == "QuantizeLinear":
        nodes.pop(0)
    while nodes[-1] == "DequantizeLinear":
        nodes.pop()
    assert nodes == ON_INTEGERS[name]


def test_every_need_has_a_writer_and_every_writer_a_need() -> None:
    # An absorbed Relu or Clip is not written at all, and another one is float.
    assert set(integer_needs) - set(integer_writers) == {"Relu", "Clip"}
    assert set(integer_writers) <= set(integer_needs)


@pytest.mark.parametrize("scheme", [U8S8, U8S8_CHANNELS, U8U8], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("name", ["conv2d", "gemm-bias-n", "matmul-right", "add", "concat", "residual", "average"])
def test_within_a_step_of_the_qdq_model(name: str, scheme: Scheme) -> None:
    case = BY_NAME[name]
    result, pairs = quantized(case, scheme), quantized(case, replace(scheme, format="QDQ"))
    for feeds in case.batches():
        found, other = run(result.model, feeds), run(pairs.model, feeds)
        for output, value in found.items():
            grid = pairs.plan.tensors[output].qparams
            assert grid is not None
            assert np.abs(value - other[output]).max() <= 1.001 * float(grid.scale)


def _reason(case: Case, op: str, scheme: Scheme = U8S8, rules: tuple[RecipeRule, ...] = ()) -> tuple[str, str]:
    (node,) = (node for node in quantized(case, scheme, rules=rules).plan.nodes.values() if node.op == op)
    return node.status, node.reason


REASONS = {
    "conv-transpose": ("ConvTranspose", "models of format QOperator have no ConvTranspose on integers"),
    "gather-activation": ("Gather", "models of format QOperator gather integers from constant tables only"),
    "relu-read-twice": ("Relu", "no Relu on integers: others read its input too"),
    "clip-above-zero": ("Clip", "no Clip on integers: its bounds 0.5..1 leave out zero, which every grid contains"),
    "resize-cubic": ("Resize", "no Resize on integers: 'y' has another grid than 't'"),
    "pad-3": ("Pad", "no Pad on integers: 'y' has another grid than 't'"),
    "gemm-computed-bias": ("Gemm", "no Gemm on integers: bias 'b' stays float"),
    "gemm-negative-alpha": ("Gemm", "no Gemm on integers: bias 'b' stays float"),
    "arg-max-of-floats": ("ArgMax", "no ArgMax on integers: 't' has no grid"),
    "squeeze-and-excite": ("GlobalAveragePool", "no GlobalAveragePool on integers: 'e' has no grid"),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_stays_float_says_why(name: str) -> None:
    op, reason = REASONS[name]
    assert _reason(BY_NAME[name], op) == ("float", reason)


@pytest.mark.parametrize(
    ("attributes", "inputs", "outputs", "reason"),
    [
        ("<mask_index_type = 1>", "gamma, beta", "y, m", "QEmbedLayerNormalization knows no mask_index_type"),
        ("", "gamma, beta", "y, m, s", "QEmbedLayerNormalization does not give out the sum of the embeddings"),
        ("", "gamma, beta, , ids", "y, m", "QEmbedLayerNormalization takes no position_ids"),
        ("", "g, beta", "y, m", "'g' is computed, and QEmbedLayerNormalization takes constant tables"),
    ],
)
def test_embeddings_that_stay_float(attributes: str, inputs: str, outputs: str, reason: str) -> None:
    plain = embedding("embedding")
    text = plain.text.replace("EmbedLayerNormalization", f"EmbedLayerNormalization{attributes}")
    text = text.replace("gamma, beta", inputs).replace("y, m =", f"{outputs} =").replace("g (", "g (float[8] g, ")
    case = replace(plain, text=text, feeds={**plain.feeds, "g": (8,)})
    assert _reason(case, "EmbedLayerNormalization") == ("float", reason)


def test_an_average_over_gaps_stays_float() -> None:
    case = replace(
        BY_NAME["average-pool"],
        text=BY_NAME["average-pool"].text.replace("pads = [1,1,1,1]", "pads = [2,2,2,2], dilations = [2,2]"),
        opset=19,
    )
    assert _reason(case, "AveragePool")[1] == "no AveragePool on integers: QLinearAveragePool knows no dilations"


def test_types_that_no_kernel_multiplies_stay_float() -> None:
    rule = RecipeRule(ops=("Conv",), activation=activation_spec("int8"), weight=weight_spec("uint8"))
    status, reason = _reason(BY_NAME["conv2d"], "Conv", rules=(rule,))
    assert (status, reason) == ("float", "no Conv on integers: 'x' is int8 and 'w' uint8")


def test_different_types_around_a_node_leave_it_in_float() -> None:
    rule = RecipeRule(ops=("Sigmoid",), activation=activation_spec("int8"))
    case = image("mixed", "t = Sigmoid(x) u = Abs(x) z = LeakyRelu(u) y = Add(t, z)")
    assert _reason(case, "Add", rules=(rule,)) == ("float", "no Add on integers: 't' is int8 and 'y' is uint8")
    judge(case, quantized(case, U8S8, rules=(rule,)))


def test_a_relu_whose_grid_turns_out_not_to_end_at_zero_stays_and_the_operator_before_it_keeps_its_integers() -> None:
    # A range that is mirrored at zero is found only when it is measured.
    recipe = replace(U8S8.recipe(), calibrate="onnxruntime_minmax", calibrate_options={"symmetric": True})
    case = image("relu-mirrored", "t = Conv(x, w, b) u = Relu(t) v = MaxPool<kernel_shape = [1,1]>(u) y = Sigmoid(v)")
    prepared = prepare_for(case.model(), recipe)
    plan = calibrate(prepared, decide(prepared, recipe), case.batches(), recipe, engine=Engine.like_onnxruntime())
    result = write(prepared, plan)
    judge(case, result)
    relu = plan.nodes["Relu_1"]
    assert (relu.status, relu.reason) == (
        "float", "no Relu on integers: kept before the grid of 'u', which does not end where it clips"
    )  # fmt: skip
    assert {name: tensor.like for name, tensor in plan.tensors.items() if tensor.like} == {"u": "t", "v": "t"}
    operators = [node.op_type for node in result.model.graph.node]
    assert operators == [
        "QuantizeLinear", "QLinearConv", "DequantizeLinear", "Relu", "QuantizeLinear", "MaxPool", "QLinearSigmoid",
        "DequantizeLinear",
    ]  # fmt: skip
    again = QuantPlan.from_json(plan.to_json())
    assert write(prepared, again).model == write(prepared, plan).model


PAIRS = tuple(
    replace(scheme, format="QDQ")
    for scheme in (U8S8_CHANNELS, SYMMETRIC, replace(U8S8, name="int16", activation=activation_spec("int16")))
)


@pytest.mark.parametrize("scheme", PAIRS, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("case", [*GRAPHS, *KEPT_RELU], ids=lambda case: case.name)
def test_a_plan_made_for_pairs_can_be_written_on_integers(case: Case, scheme: Scheme) -> None:
    # Every tensor keeps the grid of the plan; nodes that have no form for it read and make floats between pairs.
    made = quantized(case, scheme)
    plan = resolve(replace(made.plan, format="QOperator"), {}, GraphView.of(made.prepared.model))
    test_options_parity.runs_as_planned(case, write(made.prepared, plan))


def test_softmax_gets_256_steps() -> None:
    grid = quantized(BY_NAME["softmax"], S8S8).plan.tensors["y"].qparams
    assert grid is not None
    assert (float(grid.scale), int(grid.zero_point)) == (1 / 256, -128)


def test_beta_moves_into_the_grid_of_the_bias() -> None:
    case = BY_NAME["gemm-beta"]
    result = quantized(case, U8S8)
    (gemm,) = (node for node in result.model.graph.node if node.op_type == "QGemm")
    assert {attribute.name: helper.get_attribute_value(attribute) for attribute in gemm.attribute} == {
        "alpha": 0.5, "transB": 1
    }  # fmt: skip
    stored = initializers(result.model)
    scale = float(stored["x_scale"]) * float(stored["w_scale"])
    wanted = 2 * case.constants["b"].astype(np.float64) / (0.5 * scale)
    np.testing.assert_allclose(stored["b_quantized"], wanted, rtol=0, atol=0.5 + 1e-3)


def test_a_beta_of_zero_leaves_no_bias() -> None:
    result = quantized(BY_NAME["gemm-zero-beta"], U8S8)
    (gemm,) = (node for node in result.model.graph.node if node.op_type == "QGemm")
    assert gemm.input[6] == ""
    assert "b" not in initializers(result.model)


def test_branches_read_floats_and_their_own_integers() -> None:
    case = Case(
        name="branches",
        text="g (float[1,4,8,8] x, bool f) => (float[1,4,8,8] y) { t = Conv(x, w, b) u = Sigmoid(t) y = Identity(u) }",
        feeds={"x": (1, 4, 8, 8), "f": ()},
        constants={"w": normal(4, 4, 1, 1), "b": normal(4)},
    )
    model = case.model()
    vi = helper.make_tensor_value_info
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Conv", ["u", "w"], [f"{name}_c"]), helper.make_node(op, [f"{name}_c"], [name])],
            name,
            [],
            [vi(name, onnx.TensorProto.FLOAT, (1, 4, 8, 8))],
        )
        for name, op in (("then", "Relu"), ("else", "Sigmoid"))
    }
    del model.graph.node[-1]
    model.graph.node.append(helper.make_node("If", ["f"], ["y"], **branches))
    recipe = replace(U8S8.recipe(), subgraphs=True)
    prepared = prepare_for(model, recipe)
    data = [{**feeds, "f": np.array(value)} for value in (False, True) for feeds in case.batches()]
    result = write(prepared, calibrate(prepared, decide(prepared, recipe), data, recipe))
    onnx.checker.check_model(result.model, full_check=True)
    (choice,) = (node for node in result.model.graph.node if node.op_type == "If")
    inner = {attribute.name: [node.op_type for node in attribute.g.node] for attribute in choice.attribute}
    assert "QLinearConv" in inner["then_branch"]
    assert "QLinearSigmoid" in inner["else_branch"]
    for feeds in data:
        exact, found = run(model, feeds)["y"], run(result.model, feeds)["y"]
        assert np.abs(exact - found).max() < 0.05 * np.abs(exact).max()


@pytest.mark.filterwarnings("default:int8 activations in format QOperator")
def test_int8_activations_are_warned_of_on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    case = BY_NAME["conv2d"]
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    text = (
        "int8 activations in format QOperator run slower than float on x86-64: take activation type uint8, or format "
        "QDQ, whose models onnxruntime converts to uint8 by itself"
    )
    with pytest.warns(QuantlabWarning, match=text):
        quantized(case, S8S8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantized(case, U8S8)
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        quantized(case, S8S8)


def test_the_format_is_in_recipe_and_plan_as_json() -> None:
    recipe = U8S8.recipe()
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json({}).format == "QDQ"
    plan = quantized(BY_NAME["residual"], U8S8).plan
    assert plan.format == "QOperator"
    assert '"format": "QOperator"' in plan.to_json()
    assert QuantPlan.from_json(plan.to_json()) == plan
    with pytest.raises(
        OptionError, match="field 'format' in the plan cannot be read: it must be one of QDQ, QOperator"
    ):
        QuantPlan.from_json(plan.to_json().replace('"QOperator"', '"QLinear"'))


def test_recipes_without_a_form_are_refused() -> None:
    with pytest.raises(
        OptionError, match=r"format 'Qoperator' is unknown; did you mean 'QOperator'\? \(allowed: QDQ, "
    ):
        Recipe(format="Qoperator")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(OptionError, match="format QOperator has no operators on int16: take int8 or uint8"):
        Recipe(format="QOperator", activation=QuantSpec(dtype=INT16))
    with pytest.raises(OptionError, match=r"layout says how pairs .* are written.*: take format QDQ"):
        Recipe(format="QOperator", layout=Layout(weight_pairs=True))
    with pytest.raises(OptionError, match=r"QLinearConv and QGemm take biases as integers only: .* format QDQ"):
        Recipe(format="QOperator", bias=False)
