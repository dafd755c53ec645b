"""Quantization inside the bodies of If, Loop and Scan."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantlab.backend import OrtBackend
from quantlab.calibration import RangeTable
from quantlab.errors import DataError, OptionError
from quantlab.plan import QuantPlan, Recipe, RecipeRule
from quantlab.rewrite.provenance import embedded_plan
from quantlab.workflow.engine import Engine
from quantlab.workflow.explain import explain
from quantlab.workflow.quantize import QuantResult, quantize
from quantlab.workflow.stored import with_stored

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
# The tensor that the branch makes from w has the name that rounding w would take.
BRANCHES = f"""{HEAD} g (bool c, float[4,3] x) => (float[4,3] y) <float[3,3] w = {{1, 2, 0, 0, 1, 0, 3, 0, 2}}> {{
    w_quantized = Neg(x)
    t = Neg(w_quantized)
    [if] y = If(c) <
        then_branch = a () => (float[4,3] p) {{ [inner] p = MatMul(t, w) }},
        else_branch = b () => (float[4,3] r) {{ q = MatMul(x, w) r = Relu(q) }}
    >
}}"""
LOOP = f"""{HEAD} g (float[4,3] x, int64 n) => (float[4,3] y, float[k,4,3] zs)
<float[3,3] w = {{1, 0, 0, 0, 0.5, 0, 0, 0, 0.2}}> {{
    [loop] y, zs = Loop(n, , x) <body = b (int64 i, bool go, float[4,3] v) => (bool on, float[4,3] u, float[4,3] z) {{
        on = Identity(go)
        p = MatMul(v, w)
        u = Add(p, x)
        z = Relu(u)
    }}>
}}"""
SCAN = f"""{HEAD} g (float[3] s, float[5,3] x) => (float[3] y, float[5,3] zs)
<float[3,3] w = {{1, 0, 0, 0, 0.5, 0, 0, 0, 0.2}}> {{
    [scan] y, zs = Scan<num_scan_inputs = 1, body = b (float[3] v, float[3] a) => (float[3] u, float[3] z) {{
        m = MatMul(v, w)
        u = Add(m, a)
        z = Identity(u)
    }}>(s, x)
}}"""
STATEFUL = f"""{HEAD} g (bool c, float[4,3] x, float[4,3] s) => (float[4,3] y, float[4,3] next)
<float[3,3] w = {{1, 2, 0, 0, 1, 0, 3, 0, 2}}> {{
    next = Add(x, s)
    [if] y = If(c) <
        then_branch = a () => (float[4,3] p) {{ p = MatMul(next, w) }},
        else_branch = b () => (float[4,3] r) {{ q = MatMul(s, w) r = Relu(q) }}
    >
}}"""
SUBGRAPHS = Recipe(subgraphs=True)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def branch_samples(*flags: bool) -> list[dict[str, np.ndarray]]:
    return [{"c": np.array(flag), "x": normal(seed, 4, 3)} for seed, flag in enumerate(flags)]


SAMPLES = {
    BRANCHES: branch_samples(True, False, True, False),
    LOOP: [{"x": normal(seed, 4, 3), "n": np.array(3, np.int64)} for seed in range(4)],
    SCAN: [{"s": normal(seed, 3), "x": normal(10 + seed, 5, 3)} for seed in range(4)],
}


def quantized(text: str, recipe: Recipe = SUBGRAPHS) -> tuple[onnx.ModelProto, QuantResult]:
    model = onnx.parser.parse_model(text)
    result = quantize(model, SAMPLES[text], recipe)
    onnx.checker.check_model(result.model)
    return model, result


def body_operators(model: onnx.ModelProto) -> list[str]:
    graphs = [
        attribute.g for node in model.graph.node for attribute in node.attribute if attribute.type == attribute.GRAPH
    ]
    return [node.op_type for graph in graphs for node in graph.node]


@pytest.mark.parametrize("text", SAMPLES, ids=["If", "Loop", "Scan"])
def test_bodies_are_rounded_and_stay_close(text: str) -> None:
    model, result = quantized(text)
    operators = body_operators(result.model)
    assert operators.count("MatMul") * 2 <= operators.count("DequantizeLinear")
    exact, rounded = OrtBackend().open(model), OrtBackend().open(result.model)
    for sample in SAMPLES[text]:
        for name, wanted in exact(sample).items():
            found = rounded(sample)[name]
            assert 0 < np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max() + 0.05


def test_off_by_default() -> None:
    assert "DequantizeLinear" not in body_operators(quantized(BRANCHES, Recipe())[1].model)


def test_the_plan_keeps_bodies_apart_and_comes_back() -> None:
    _, result = quantized(BRANCHES)
    plan = result.plan
    assert set(plan.bodies) == {"if.then_branch", "if.else_branch"}
    assert plan.every_node()["if.then_branch/inner"].status == "quantized"
    assert QuantPlan.from_json(plan.to_json()) == plan
    assert explain(plan, "inner") == [
        "in if.then_branch:",
        "node 'inner' (MatMul): quantized: all it reads and makes has a grid",
    ]
    assert explain(plan, "if.then_branch/inner")[-1].startswith("node 'inner' (MatMul): quantized")


def test_the_numbers_of_channels_are_found_in_the_model_again() -> None:
    _, result = quantized(BRANCHES, Recipe(subgraphs=True, per_channel=True))
    carried = embedded_plan(result.model)
    assert carried is not None
    assert not carried.resolved
    filled = with_stored(carried, result.model)
    assert filled.resolved
    for key, body in result.plan.bodies.items():
        for name, tensor in body.tensors.items():
            found = filled.bodies[key].tensors[name].qparams
            assert found is not None
            assert tensor.qparams is not None
            np.testing.assert_array_equal(found.scale, tensor.qparams.scale)


def test_a_branch_that_no_sample_takes_stays_in_float_with_a_note() -> None:
    model = onnx.parser.parse_model(BRANCHES)
    result = quantize(model, branch_samples(True, True), SUBGRAPHS)
    assert set(result.plan.bodies) == {"if.then_branch"}
    assert result.plan.notes[-1] == "if.else_branch stays in float: no calibration sample reaches it"
    other = branch_samples(False)[0]
    np.testing.assert_array_equal(OrtBackend().open(result.model)(other)["y"], OrtBackend().open(model)(other)["y"])


def test_a_state_that_is_fed_back_reaches_the_bodies() -> None:
    model = onnx.parser.parse_model(STATEFUL)
    given = [{"c": np.array(seed % 2 == 0), "x": normal(seed, 4, 3)} for seed in range(5)]
    by_hand, state = [], np.zeros((4, 3), np.float32)
    run = OrtBackend().open(model)
    for sample in given:
        by_hand.append(sample | {"s": state})
        state = run(by_hand[-1])["next"]
    wanted = quantize(model, by_hand, SUBGRAPHS)
    found = quantize(model, given, SUBGRAPHS, engine=Engine(state={"next": "s"}))
    assert set(found.plan.bodies) == {"if.then_branch", "if.else_branch"}
    assert found.plan == wanted.plan
    assert found.model == wanted.model


def test_recipes_name_nodes_in_bodies() -> None:
    rule = RecipeRule(nodes=("inner",), quantize=False, because="not this one")
    _, result = quantized(BRANCHES, Recipe(subgraphs=True, rules=(rule,)))
    assert result.plan.every_node()["if.then_branch/inner"].reason == "not this one"
    with pytest.raises(OptionError) as caught:
        quantized(BRANCHES, Recipe(subgraphs=True, rules=(RecipeRule(nodes=("iner",)),)))
    assert str(caught.value) == "no node is called 'iner'; did you mean 'inner'?"


def test_what_bodies_cannot_do_is_said() -> None:
    model = onnx.parser.parse_model(BRANCHES)
    with pytest.raises(DataError) as caught:
        quantize(model, iter(SAMPLES[BRANCHES]), SUBGRAPHS)
    assert str(caught.value).startswith(
        "a body of a control-flow node is measured in a pass of its own, and this data can be read only once"
    )
    with pytest.raises(OptionError) as refused:
        quantize(model, None, SUBGRAPHS, ranges=RangeTable(ranges={}))
    assert str(refused.value) == (
        "ranges are kept for the main graph only, and the plan has 'if.then_branch': give data, or leave out subgraphs"
    )
