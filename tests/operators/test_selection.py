"""Where, ArgMax, ReduceMax and ReduceMin: what chooses asks for little, and rounds no more than it has to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantlab.plan import RecipeRule
from quantlab.workflow.quantize import QuantResult, calibrate, decide, prepare_for, write
from tests.operators.harness import (
    INT8,
    PLAIN,
    UINT8,
    Case,
    Scheme,
    each,
    executed,
    judge,
    quantized,
    run,
    statuses,
)
from tests.operators.peer import differences, peer_model

X = "float[3,8]"


def _choice(name: str, text: str, **constants: np.ndarray) -> Case:
    return Case(
        name=name,
        text=f"g (bool[3,8] c, {X} x) => ({X} y) {{ {text} }}",
        feeds={"c": (3, 8), "x": (3, 8)},
        constants=constants,
        schemes=PLAIN,
    )


BOTH = _choice("where-both", "a = Sigmoid(x) b = Mul(x, x) y = Where(c, a, b)")
ONE = _choice("where-one", "a = Sigmoid(x) b = Erf(x) y = Where(c, a, b)")
MASK = _choice("where-mask", "a = Sigmoid(x) y = Where(c, a, k)", k=np.full(1, -1e9, np.float32))
SAME = _choice("where-same", "a = Sigmoid(x) y = Where(c, a, a)")
CHAIN = _choice("where-chain", "a = Sigmoid(x) b = Mul(x, x) t = Where(c, a, b) u = Where(c, b, t) y = Mul(u, t)")
LARGEST = Case(
    name="arg-max-listed",
    text=f"g ({X} x) => (int64[3,1] y) {{ y = ArgMax<axis = 1>(x) }}",
    feeds={"x": (3, 8)},
    schemes=PLAIN,
    op_types=("ArgMax",),
)
EXTREMES = tuple(
    Case(
        name=op.lower(),
        text=f"g ({X} x) => (float[3,1] y) {{ s = Sigmoid(x) y = {op}<axes = [1]>(s) }}",
        feeds={"x": (3, 8)},
        schemes=PLAIN,
        op_types=("Sigmoid", op),
    )
    for op in ("ReduceMax", "ReduceMin")
)
CASES = (BOTH, ONE, MASK, SAME, CHAIN, LARGEST, *EXTREMES)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


def test_where_is_quantized_where_both_inputs_are() -> None:
    assert {case.name: statuses(quantized(case))["Where"] for case in (BOTH, ONE, MASK, SAME)} == {
        "where-both": "quantized",
        "where-one": "float",
        "where-mask": "float",
        "where-same": "quantized",
    }
    (reason,) = (node.reason for node in quantized(MASK).plan.nodes.values() if node.op == "Where")
    assert reason == "it chooses between tensors, and 'k' has no grid for other reasons"


def test_onnxruntime_runs_it_in_integers() -> None:
    assert "QLinearWhere" in executed(quantized(BOTH, UINT8).model)


def _forced(case: Case) -> QuantResult:
    recipe = replace(INT8.recipe(), force_movement=True)
    prepared = prepare_for(case.model(), recipe)
    return write(prepared, calibrate(prepared, decide(prepared, recipe), case.batches(), recipe))


@pytest.mark.parametrize("case", [ONE, MASK, SAME], ids=lambda case: case.name)
def test_forced_it_asks_for_all_three_as_the_peer_does(case: Case) -> None:
    result = _forced(case)
    assert statuses(result)["Where"] == "quantized"
    options = {"ForceQuantizeNoInputCheck": True}
    peer = peer_model(result.prepared.model, INT8, case.batches(), extra_options=options)
    assert differences(result.model, peer) == {}


def test_an_excluded_where_reads_what_is_dequantized_and_stays() -> None:
    rules = (RecipeRule(ops=("Where",), quantize=False, because="asked to"),)
    result = quantized(BOTH, INT8, rules=rules)
    judge(BOTH, result)
    (where,) = (node for node in result.model.graph.node if node.op_type == "Where")
    assert list(where.input) == ["c", "a_DequantizeLinear_Output", "b_DequantizeLinear_Output"]
    assert list(where.output) == ["y"]


def test_integers_are_chosen_as_they_are() -> None:
    case = Case(
        name="where-integers",
        text="g (bool[3] c, int64[3] i) => (int64[3] y) { y = Where(c, i, i) }",
        feeds={"c": (3,), "i": (3,)},
    )
    (node,) = quantized(case).plan.nodes.values()
    assert node.reason == "it chooses between tensors of a type other than float, such as 'i'"


def test_arg_max_takes_integers_where_they_are_and_asks_only_on_request() -> None:
    text = LARGEST.text.replace("y = ArgMax<axis = 1>(x)", "s = Sigmoid(x) y = ArgMax<axis = 1>(s)")
    behind = quantized(replace(LARGEST, name="arg-max", text=text, op_types=None))
    (node,) = (node for node in behind.model.graph.node if node.op_type == "ArgMax")
    assert list(node.input) == ["s_DequantizeLinear_Output"]
    unlisted = quantized(replace(LARGEST, op_types=None))
    assert not unlisted.plan.tensors
    assert next(iter(unlisted.plan.nodes.values())).reason == (
        "it asks for no grid, and takes integers where its input has one; list it in op_types to ask"
    )
    assert set(quantized(LARGEST).plan.tensors) == {"x"}


@pytest.mark.parametrize("case", EXTREMES, ids=lambda case: case.name)
def test_an_extreme_shares_the_grid_it_is_taken_from(case: Case) -> None:
    result = quantized(case)
    assert result.plan.tensors["y"].like == "s"
    found = run(result.model, case.batches()[0])["y"]
    grid = result.plan.tensors["s"].qparams
    assert grid is not None
    steps = found / grid.scale
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    plain = replace(case, op_types=None)
    assert statuses(quantized(plain))[case.op_types[1] if case.op_types else ""] == "float"
