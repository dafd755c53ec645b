"""What onnxruntime.quantization 1.31.1 gets wrong in static quantization, and the test that shows what is right here.

Most defects are shown where the operator or the module is tested; `ELSEWHERE` says where, and a test makes sure that
those tests exist. The others have their test in this file, whose docstring says what the peer does.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from quantlab.arrays import INT4, Range
from quantlab.calibration import RangeTable
from quantlab.errors import DataError, OptionError
from quantlab.plan import Recipe, RecipeRule, activation_spec, weight_spec
from quantlab.workflow.quantize import quantize
from tests.operators.harness import INT8, Array, Case, initializers, judge, normal, quantized, run
from tests.operators.peer import reader
from tests.operators.qoperator_cases import U8S8

ROOT = Path(__file__).parents[1]
HERE = "tests/test_known_defects.py"
OPERATORS, REWRITE, ORT = "tests/operators", "tests/rewrite", "tests/ort"

ELSEWHERE: Mapping[str, Sequence[str]] = {
    "beta of Gemm is dropped, and in QOperator alpha too": (
        f"{OPERATORS}/test_gemm.py::test_no_product_of_scales_no_integer_bias",
        f"{OPERATORS}/test_gemm.py::test_alpha_belongs_to_the_scale_of_the_bias",
        f"{OPERATORS}/test_qoperator.py::test_beta_moves_into_the_grid_of_the_bias",
        f"{HERE}::test_alpha_and_beta_hold_with_a_bias_in_float",
    ),
    "Relu and Clip go where the grid behind them does not saturate": (
        f"{OPERATORS}/test_clipping.py::test_bounds_without_zero_stay",
        f"{OPERATORS}/test_clipping.py::test_a_relu_that_never_fires_gives_zero",
        f"{OPERATORS}/test_overrides_parity.py::test_a_symmetric_input_keeps_its_relu",
        f"{OPERATORS}/test_float8_models.py::test_a_relu_stays_for_float8_has_negative_levels",
    ),
    "sorting ignores what subgraphs read": (
        f"{ORT}/test_onnx_model.py::test_what_a_subgraph_reads_comes_before_it",
        f"{REWRITE}/test_odd_graphs.py::test_nodes_in_any_order_with_captures_in_between",
    ),
    "a Relu goes although a branch reads its input": (
        f"{REWRITE}/test_odd_graphs.py::test_a_branch_that_reads_the_input_of_a_relu_keeps_it_alive",
    ),
    "a weight that several Gemms transpose is transposed several times": (
        f"{ORT}/test_onnx_model.py::test_gemms_that_share_a_weight_are_taken_apart",
        f"{HERE}::test_a_weight_that_gemms_and_a_matmul_share_is_transposed_for_nobody",
    ),
    "a new constant takes the name of an old one": (
        f"{REWRITE}/test_odd_graphs.py::test_new_names_never_collide",
        f"{REWRITE}/test_odd_graphs.py::test_new_names_never_collide_with_nodes_and_inner_tensors",
        f"{HERE}::test_a_constant_with_the_name_of_a_scale_to_be_keeps_its_values",
    ),
    "nodes with subgraphs lose their domain and words": (f"{HERE}::test_nodes_with_subgraphs_keep_domain_and_words",),
    "Softmax of half precision gets a scale of single precision": (
        f"{OPERATORS}/test_boundaries.py::test_scales_of_a_half_precision_softmax_are_of_half_precision",
        f"{REWRITE}/test_odd_numbers.py::test_half_precision_softmax_has_a_scale_of_its_type",
    ),
    "Softmax on a float8 grid fails": (f"{OPERATORS}/test_float8_models.py::test_softmax_has_its_range_by_definition",),
    "weights of 4 bits fail in QOperator after calibration": (
        f"{HERE}::test_weights_of_4_bits_are_refused_for_integer_operators_before_any_sample",
    ),
    "small weights of half precision vanish": (
        f"{REWRITE}/test_odd_numbers.py::test_half_precision",
        "tests/arrays/test_qparams.py::test_small_float16_weights_survive_unlike_in_onnxruntime",
    ),
    "Where reads what nobody makes, whether excluded or not": (
        f"{OPERATORS}/test_selection.py::test_an_excluded_where_reads_what_is_dequantized_and_stays",
        f"{HERE}::test_a_where_in_float_reads_what_integer_operators_made",
    ),
    "biases of shapes other than (N,), and grouped ConvTranspose, fail per channel": (
        f"{OPERATORS}/test_gemm.py::test_a_bias_without_a_value_a_channel_stays_float_per_channel",
        f"{OPERATORS}/test_gemm.py::test_every_bias_shape_runs_in_integers",
        f"{OPERATORS}/test_conv_transpose.py::test_bias_of_groups_repeats_the_scales_of_the_weight",
    ),
    "a missing range ends in an error about None": (f"{HERE}::test_a_missing_range_is_named",),
    "a tensor that shares the grid of one without a grid is waited for without end": (
        f"{OPERATORS}/test_movement.py::test_without_a_grid_to_share_they_stay_float",
        f"{HERE}::test_sharing_with_what_stays_float_comes_to_an_end",
    ),
    "LSTM loses its layout, and its weights change their shape": (
        f"{OPERATORS}/test_boundaries.py::test_attributes_of_what_stays_float_stay",
        f"{HERE}::test_an_lstm_keeps_layout_and_weights",
    ),
    "percentile calibration stores counts where the histogram belongs": (
        f"{ORT}/test_calibrators.py::test_percentiles_keep_their_histograms",
    ),
    "Upsample becomes a Resize that samples elsewhere": (
        "tests/graph/test_graph_prepare.py::test_upsampling_keeps_its_old_sampling_points",
        f"{ORT}/test_fusions_and_registry.py::test_upsampling_is_replaced_where_the_opset_is_raised",
    ),
    "a channel of zeros gets a zero point of its own": (
        f"{REWRITE}/test_odd_numbers.py::test_an_all_zero_channel_stays_zero",
        f"{HERE}::test_a_channel_of_zeros_has_the_zero_point_of_the_others",
    ),
}
"""Defect to the tests that show the right behaviour."""


@pytest.mark.parametrize("defect", ELSEWHERE)
def test_every_defect_has_its_tests(defect: str) -> None:
    assert ELSEWHERE[defect]
    for node in ELSEWHERE[defect]:
        path, name = node.split("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}, node


def by_peer(model: onnx.ModelProto, batches: Sequence[Mapping[str, Array]], folder: Path, **options: Any) -> Any:
    onnx.save(model, folder / "float.onnx")
    quantize_static(folder / "float.onnx", folder / "peer.onnx", reader(batches), **options)
    return onnx.load(folder / "peer.onnx")


def test_alpha_and_beta_hold_with_a_bias_in_float(tmp_path: Path) -> None:
    """The peer resets beta to 1 even where it leaves the bias in float."""
    case = Case(
        name="gemm",
        text="g (float[3,8] x) => (float[3,5] y) { y = Gemm<alpha = 0.5, beta = 0.25>(x, w, b) }",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 5), "b": np.full(5, 8, np.float32)},
    )
    recipe = Recipe(bias=False, optimize=False)
    mine = quantize(case.model(), case.batches(), recipe).model
    theirs = by_peer(case.model(), case.batches(), tmp_path, extra_options={"QuantizeBias": False})
    exact, ours, peers = (run(model, case.batches()[0])["y"] for model in (case.model(), mine, theirs))
    assert np.abs(ours - exact).max() < 0.2
    assert np.abs(peers - exact).max() > 5


def test_a_weight_that_gemms_and_a_matmul_share_is_transposed_for_nobody(tmp_path: Path) -> None:
    """The peer transposes the shared weight in place for every Gemm that has transB, under whoever else reads it."""
    case = Case(
        name="shared",
        text="""g (float[3,6] x) => (float[3,6] p, float[3,6] q, float[3,6] r) {
            p = Gemm<transB = 1>(x, w) q = Gemm<transB = 1>(x, w) r = MatMul(x, w)
        }""",
        feeds={"x": (3, 6)},
        constants={"w": normal(6, 6)},
    )
    result = quantized(case, U8S8)
    feeds = case.batches()[0]
    exact, ours = run(case.model(), feeds), run(result.model, feeds)
    for name, value in exact.items():
        assert np.abs(ours[name] - value).max() < 0.05 * np.abs(value).max()


def test_a_constant_with_the_name_of_a_scale_to_be_keeps_its_values(tmp_path: Path) -> None:
    """The peer keeps the constant and reads it as the scale of `x`."""
    case = Case(
        name="taken",
        text="g (float[1,3,4,4] x) => (float[1,3,4,4] y) "
        "{ t = BatchNormalization(x, x_scale, b, m, v) u = Sigmoid(x) y = Add(t, u) }",
        feeds={"x": (1, 3, 4, 4)},
        constants={
            "x_scale": np.array([0.5, 1, 2], np.float32),
            "b": normal(3),
            "m": normal(3, seed=1),
            "v": np.full(3, 2, np.float32),
        },
    )
    mine = quantize(case.model(), case.batches(), Recipe(optimize=False)).model
    np.testing.assert_array_equal(initializers(mine)["x_scale"], case.constants["x_scale"])
    feeds = case.batches()[0]
    exact = run(case.model(), feeds)["y"]
    assert np.abs(run(mine, feeds)["y"] - exact).max() < 0.1
    theirs = by_peer(case.model(), case.batches(), tmp_path)
    with pytest.raises(Exception, match="x_zero_point must be null or 1D tensor with size 3"):
        run(theirs, feeds)


def test_nodes_with_subgraphs_keep_domain_and_words(tmp_path: Path) -> None:
    """The peer makes such nodes anew, without their domain and their doc string."""
    case = Case(
        name="branches",
        text="""g (bool c, float[2,3] x) => (float[2,3] y) {
            t = Sigmoid(x)
            y = If(c) <
                then_branch = yes () => (float[2,3] p) { p = Neg(t) },
                else_branch = no () => (float[2,3] q) { q = Exp(t) }
            >
        }""",
        feeds={"c": (), "x": (2, 3)},
    )
    model, batches = case.model(), case.batches()
    model.graph.node[1].doc_string = "why"
    theirs = by_peer(model, batches, tmp_path, extra_options={"EnableSubgraph": True})
    ours = (quantize(model, batches, recipe).model for recipe in (Recipe(), Recipe(subgraphs=True), U8S8.recipe()))
    words = [[node.doc_string for node in made.graph.node if node.op_type == "If"] for made in (*ours, theirs)]
    assert words == [["why"], ["why"], ["why"], [""]]
    foreign = Case(
        name="foreign",
        text="""g (float[2,3] x) => (float[2,3] y) <float[2,3] t> {
            t = com.example.Repeat<body = inner () => (float[2,3] p) { p = Neg(x) }>(x)
            y = MatMul(t, w)
        }""",
        feeds={"x": (2, 3)},
        constants={"w": normal(3, 3)},
        domains={"com.example": 1},
    )
    made = quantize(foreign.model(), None, Recipe(weights_only=True)).model
    (node,) = (node for node in made.graph.node if node.op_type == "Repeat")
    assert (node.domain, [entry.name for entry in node.attribute]) == ("com.example", ["body"])
    assert "DequantizeLinear" in {one.op_type for one in made.graph.node}


def test_weights_of_4_bits_are_refused_for_integer_operators_before_any_sample(tmp_path: Path) -> None:
    """The peer measures all samples, and then fails on the type of the rounded weight."""
    case = Case(
        name="narrow",
        text="g (float[3,8] x) => (float[3,5] y) { y = MatMul(x, w) }",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 5)},
    )
    with pytest.raises(OptionError, match=r"^format QOperator has no operators on int4: take int8 or uint8 for activ"):
        Recipe(weight=weight_spec("int4"), format="QOperator")
    with pytest.raises(RuntimeError):
        by_peer(case.model(), case.batches(), tmp_path, quant_format=QuantFormat.QOperator, weight_type=QuantType.QInt4)
    pairs = quantize(case.model(), case.batches(), Recipe(weight=weight_spec("int4"))).model
    (stored,) = (tensor for tensor in pairs.graph.initializer if tensor.name == "w_quantized")
    assert stored.data_type == INT4.onnx_code


@pytest.mark.parametrize("excluded", [False, True])
def test_a_where_in_float_reads_what_integer_operators_made(excluded: bool, tmp_path: Path) -> None:
    """The peer hands Where the name of a float tensor that integer operators no longer make, and forces it if told."""
    case = Case(
        name="where",
        text="g (bool[3,8] c, float[3,8] x) => (float[3,8] y) { a = Sigmoid(x) y = Where(c, a, k) }",
        feeds={"c": (3, 8), "x": (3, 8)},
        constants={"k": np.full((3, 8), -1e4, np.float32)},
    )
    rules = (RecipeRule(ops=("Where",), quantize=False, because="asked to"),) if excluded else ()
    result = quantized(case, U8S8, rules=rules)
    judge(case, result)
    (node,) = (node for node in result.model.graph.node if node.op_type == "Where")
    assert (node.domain, list(node.output)) == ("", ["y"])
    named = case.model()
    for index, one in enumerate(named.graph.node):
        one.name = f"n{index}"
    options = {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8}
    if not excluded:
        with pytest.raises(RuntimeError, match="Invalid model with unknown initializers/tensors"):
            by_peer(named, case.batches(), tmp_path, **options)


@pytest.mark.parametrize("scheme", [INT8, U8S8], ids=lambda scheme: scheme.format)
@pytest.mark.parametrize("missing", ["x", "t", "y"])
def test_a_missing_range_is_named(scheme: Any, missing: str) -> None:
    """The peer fails with `'NoneType' object has no attribute 'extend'` where it means to leave the node in float."""
    text = "g (float[1,4,6,6] x) => (float[1,2,6,6] y) { t = Conv(x, w) y = Conv(t, v) }"
    case = Case(
        name="ranges",
        text=text,
        feeds={"x": (1, 4, 6, 6)},
        constants={"w": normal(3, 4, 1, 1), "v": normal(2, 3, 1, 1)},
    )
    known = {name: Range(np.float32(-4), np.float32(4)) for name in ("x", "t", "y") if name != missing}
    with pytest.raises(DataError, match=f"'{missing}'"):
        quantize(case.model(), None, scheme.recipe(), ranges=RangeTable(ranges=known))


def test_sharing_with_what_stays_float_comes_to_an_end() -> None:
    """The peer waits for the grid of the tensor in front of a Reshape, which may never come."""
    text = "g (float[2,6] x) => (float[12] y) { t = Erf(x) u = Reshape(t, s) v = Reshape(u, s) y = Reshape(v, s) }"
    case = Case(name="chain", text=text, feeds={"x": (2, 6)}, constants={"s": np.array([12], np.int64)})
    result = quantize(case.model(), None, Recipe(optimize=False))
    assert not result.plan.tensors
    assert {node.status for node in result.plan.nodes.values()} == {"float"}


def test_an_lstm_keeps_layout_and_weights() -> None:
    """The peer's LSTM on integers has no layout, and the weights of its float model change their shape on the way."""
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["h"], "lstm", hidden_size=3, layout=1),
        helper.make_node("MatMul", ["h", "v"], ["y"], "product"),
    ]
    constants = {"w": normal(1, 12, 8), "r": normal(1, 12, 3), "v": normal(3, 2)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4, 1, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    # The kernels of the CPU know no layout, so that nothing can be measured: the ranges are given.
    known = {name: Range(np.float32(-1), np.float32(1)) for name in ("x", "h", "y")}
    made = quantize(model, None, Recipe(optimize=False), ranges=RangeTable(ranges=known)).model
    (node,) = (node for node in made.graph.node if node.op_type == "LSTM")
    assert {entry.name: entry.i for entry in node.attribute} == {"hidden_size": 3, "layout": 1}
    for name in ("w", "r"):
        np.testing.assert_array_equal(initializers(made)[name], constants[name])
    assert "MatMul" in {one.op_type for one in made.graph.node}


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_channel_of_zeros_has_the_zero_point_of_the_others(per_channel: bool, tmp_path: Path) -> None:
    """The peer gives a channel of zeros zero point 0 where the others have 128, and kernels take one for all."""
    weights = normal(4, 3, 1, 1)
    weights[2] = 0
    case = Case(
        name="zeros",
        text="g (float[1,3,4,4] x) => (float[1,4,4,4] y) { y = Conv(x, w) }",
        feeds={"x": (1, 3, 4, 4)},
        constants={"w": weights},
    )
    recipe = Recipe(activation=activation_spec("uint8"), weight=weight_spec("uint8"), per_channel=per_channel)
    mine = quantize(case.model(), case.batches(), recipe).model
    zeros = set(np.ravel(initializers(mine)["w_zero_point"]).tolist())
    assert len(zeros) == 1
    assert not run(mine, case.batches()[0])["y"][:, 2].any()
    if per_channel:
        options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8, "per_channel": True}
        theirs = by_peer(case.model(), case.batches(), tmp_path, **options)
        assert np.ravel(initializers(theirs)["w_zero_point"]).tolist() == [128, 128, 0, 128]
