"""Tensors are matched by structure: other names change nothing, and what has no partner says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnxruntime.quantization import QuantFormat

import quantlab
from benchmarks.graphs import bert
from quantlab.backend.peer import peer_quantize_static
from quantlab.debug.compare import compare
from quantlab.debug.matching import HINT, match
from quantlab.debug.models import matched
from quantlab.graph import GraphView
from tests.debug.renaming import renamed
from tests.operators.harness import INT8, U8S8_CHANNELS, normal, quantized
from tests.operators.peer import peer_model
from tests.operators.qoperator_cases import BY_NAME

NAMES = ("net", "attention", "moves", "residual", "squeeze-and-excite", "bias-twice", "split-input", "gemm-beta")


def pairs(exact, rounded):
    """Return the partner of every rounded tensor in order."""
    return [each.name for each in match(GraphView.of(exact), GraphView.of(rounded)).tensors]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_partners_are_those_of_the_plan_whatever_the_names(name, form):
    scheme = replace(U8S8_CHANNELS if form == "QOperator" else INT8, format=form)
    result = quantized(BY_NAME[name], scheme)
    exact = result.prepared.model
    found = pairs(exact, result.model)
    # Plan and model call tensors alike: the grids tell which is which.
    for each in match(GraphView.of(exact), GraphView.of(result.model)).tensors:
        planned = result.plan.tensors[each.name].qparams
        assert each.rounded.grid.scale.shape == planned.scale.shape
        if each.slot != 2:
            assert (each.rounded.grid.scale == planned.scale).all()
    assert None not in found
    assert pairs(exact, renamed(result.model)) == found
    assert pairs(renamed(exact, 1), renamed(result.model)).count(None) == 0


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("name", ["net", "attention", "residual", "bias-twice"])
def test_models_of_the_peer_are_matched_with_unprepared_ones(name, form):
    case = BY_NAME[name]
    bare = case.model()
    written = peer_model(bare, U8S8_CHANNELS, case.batches(), None, form)
    _, found = matched(bare, written)
    assert [each.reason for each in found.tensors if each.name is None] == []
    _, again = matched(bare, renamed(written))
    assert [each.name for each in again.tensors] == [each.name for each in found.tensors]


def test_equal_shapes_are_told_apart_by_their_constants():
    model = onnx.load_from_string(bert(layers=2, tokens=4, width=16, heads=2, inner=16))
    data = [{model.graph.input[0].name: np.random.default_rng(0).normal(size=(1, 4, 16)).astype(np.float32)}]
    written = peer_quantize_static(model, data, {"weight_type": "QInt8"})
    _, found = matched(model, renamed(written))
    weights = [each for each in found.tensors if each.constant and each.name is not None]
    assert len(weights) == len({each.name for each in weights}) > 20
    rows = compare(model, renamed(written), data)
    assert rows.unmatched == ()
    assert min(row.sqnr_db for row in rows.tensors if row.kind == "weight") > 20


def test_the_comparison_of_a_renamed_model_is_the_same():
    case = BY_NAME["residual"]
    result = quantized(case, INT8)
    first, second = (compare(case.model(), model, case.batches()) for model in (result.model, renamed(result.model)))
    assert first.to_json() == second.to_json()


def test_a_model_folded_after_it_was_quantized_is_matched_as_it_was():
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[1,2,4,4] x) => (float[1,2,4,4] y)
    <float[2,2,1,1] w = {1.0, 0.5, -0.25, 2.0}, float[2] s = {1.5, 0.5}, float[2] b = {0.1, 0.2},
     float[2] m = {0.0, 0.3}, float[2] v = {1.0, 4.0}>
    { t = Conv(x, w) y = BatchNormalization(t, s, b, m, v) }"""
    model = parser.parse_model(text)
    data = [{"x": np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)} for _ in range(3)]
    folded = quantlab.quantize(model, data).model
    bare = peer_quantize_static(model, data, {"op_types_to_quantize": ["Conv"]})
    for written, names in ((folded, {"x", "y"}), (bare, {"x", "t"})):
        found = compare(model, written, data)
        assert found.unmatched == ()
        assert {row.name for row in found.tensors if row.kind == "activation"} == names
        assert min(row.sqnr_db for row in found.tensors) > 30


def test_what_has_no_partner_says_why():
    case = BY_NAME["residual"]
    result = quantized(case, INT8)
    other = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,4,8,8] x) => (float[1,4,8,8] y) { t = Abs(x) y = Neg(t) }'
    )
    found = compare(other, result.model, case.batches())
    lost = {each.name: each.reason for each in found.unmatched}
    assert "x" in {row.name for row in found.tensors}
    first = next(reason for reason in lost.values() if "no such node there" in reason)
    assert first.endswith(HINT)
    assert "quantlab preprocess -i model.onnx -o prepared.onnx" in HINT
    assert any("which has no partner either" in reason for reason in lost.values())
    # Nothing is dropped in silence: what is not compared is listed.
    assert len(lost) + len(found.tensors) == len(match(GraphView.of(other), GraphView.of(result.model)).tensors)


RESHAPED = """<ir_version: 8, opset_import: ["": 17]> g (float[1,4] x) => (float[1,4] y)
    <int64[2] s = {A, B}, int64[2] e = {1, 4}> { t = Reshape(x, s) u = Sigmoid(t) y = Reshape(u, e) }"""


def test_a_partner_of_another_shape_is_no_partner():
    one, other = (parser.parse_model(RESHAPED.replace("A, B", sizes)) for sizes in ("2, 2", "4, 1"))
    data = [{"x": np.arange(4, dtype=np.float32).reshape(1, 4)}]
    found = compare(one, quantlab.quantize(other, data).model, data)
    assert {row.name for row in found.tensors} == {"y"}
    reasons = {each.reason for each in found.unmatched}
    assert reasons == {
        "the node at its place in the float model makes an array of shape (2, 2) instead of (4, 1): the float model is "
        "not the one that was quantized"
    }


def test_what_the_float_model_computes_within_a_node_has_no_partner():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[4,8] x) => (float[4,6] y) <float[8,6] w, float[6] b> {{ {body} }}"""
    apart, within = (
        parser.parse_model(text.format(body=body)) for body in ("p = MatMul(x, w) y = Add(p, b)", "y = Gemm(x, w, b)")
    )
    constants = [numpy_helper.from_array(normal(*shape), name) for name, shape in (("w", (8, 6)), ("b", (6,)))]
    for model in (apart, within):
        model.graph.initializer.extend(constants)
    recipe = quantlab.Recipe(optimize=False)
    result = quantlab.quantize(apart, [{"x": normal(4, 8, seed=2)}], recipe)
    found = {each.rounded.integers: each for each in match(GraphView.of(within), GraphView.of(result.model)).tensors}
    assert found["w_quantized"].name == "w"
    product = found["p_QuantizeLinear_Output"]
    assert product.name is None
    assert product.reason == f"the float model computes it within unnamed Gemm making ['y']: {HINT}"
