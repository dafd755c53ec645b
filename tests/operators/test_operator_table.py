"""Every row of the table of operators is true: what it claims is quantized, runs and is right; what it denies is not.

For each row the operator's small model is quantized. Every pair of types at every granularity that the row claims is
run by onnxruntime with all its optimizations, which is where types that do not go together show; E4M3FN stands for
float8 there. Each type at each granularity is also held against the float model with each planned tensor rounded by the
textbook, and against a floor that knows nothing but bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import pytest

from quantlab.arrays import INT32, QuantSpec, dtype
from quantlab.backend import OrtBackend
from quantlab.errors import OptionError
from quantlab.graph import GraphView
from quantlab.plan import (
    NodePlan,
    QuantPlan,
    Recipe,
    Settings,
    TensorPlan,
    Wish,
    activation,
    activation_spec,
    op_rules,
    weight_spec,
)
from quantlab.plan.forms import integer_needs
from quantlab.workflow.engine import Engine
from quantlab.workflow.probes import GRANULARITIES, TYPES, Asked, Granularity
from quantlab.workflow.quantize import Prepared, QuantResult, calibrate, decide, needed_opset, prepare_for, write
from quantlab.workflow.support import Combination, OperatorRow, operator_rows, supported_ops
from tests.operators.harness import Array, Case, run
from tests.operators.operator_cases import case_of, listing
from tests.operators.rounding import keeps_to_its_bits, samples_for

pytestmark = [
    pytest.mark.filterwarnings("ignore:int8 activations in format QOperator"),
    pytest.mark.filterwarnings("ignore:activations of float8"),
]

ROWS = operator_rows()
EACH_ROW = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.operator}-{row.format}")
BLOCK = 4
FLOAT8 = tuple(name for name in TYPES if dtype(name).is_float)
ENGINE = Engine(backend=OrtBackend(optimize=False, threads=1))


def recipe_of(row: OperatorRow, case: Case, asked: Asked | Combination) -> Recipe:
    return Recipe(
        activation=activation_spec(asked.activation),
        weight=weight_spec(asked.weight or "int8"),
        per_channel=asked.granularity == "per channel",
        block_size=BLOCK if asked.granularity == "blocked" else None,
        format=row.format,
        op_types=case.op_types,
    )


def model_for(row: OperatorRow) -> Case:
    """Return a row's small model, in which the operator is listed if the row says that this is needed."""
    case = case_of(row.operator, row.format)
    return listing(case) if row.outcome == "on request" else case


READY: dict[tuple[str, int], Prepared] = {}
"""Cases as they are prepared for an opset, which is all that types change."""


def planned(case: Case, recipe: Recipe) -> tuple[Prepared, QuantPlan]:
    model = case.model()
    key = case.name, needed_opset(model, recipe)
    if key not in READY:
        READY[key] = prepare_for(model, recipe)
    return READY[key], decide(READY[key], recipe)


def node_of(plan: QuantPlan, operator: str) -> NodePlan:
    """Return what becomes of an operator; where there are several of its type, of the last."""
    return [node for node in plan.nodes.values() if node.op == operator.rpartition(".")[2]][-1]


def granularity(tensor: TensorPlan) -> Granularity:
    return "per channel" if tensor.spec.per_channel else "blocked" if tensor.spec.block_size else "per tensor"


def weights(plan: QuantPlan) -> list[tuple[str, Granularity]]:
    """Return types and granularities of the constants, biases aside."""
    return [(one.spec.dtype.name, granularity(one)) for one in plan.tensors.values() if one.role == "weight"]


def told_apart(works: tuple[Combination, ...]) -> set[Combination]:
    """Choose combinations in which one type of float8 stands for all."""
    return {one for one in works if not {one.activation, one.weight} & set(FLOAT8[1:])}


def covering(works: tuple[Combination, ...]) -> set[Combination]:
    """Choose combinations in which each type of activations and each type and granularity of weights comes up."""
    found: set[Combination] = set()
    for one in works:
        kinds, sides = {other.activation for other in found}, {(other.weight, other.granularity) for other in found}
        if one.activation not in kinds or (one.weight, one.granularity) not in sides:
            found.add(one)
    return found


@EACH_ROW
def test_what_a_row_claims_is_quantized_runs_and_is_right(row: OperatorRow) -> None:
    case, thorough = model_for(row), covering(row.combinations)
    batches = case.batches(samples_for(case))
    for one in sorted(thorough | told_apart(row.combinations), key=row.combinations.index):
        recipe = recipe_of(row, case, one)
        prepared, plan = planned(case, recipe)
        node = node_of(plan, row.operator)
        assert node.status != "float", f"{one}: {node.reason}"
        if one.weight is not None:
            assert (one.stored, one.granularity) in weights(plan), one
        result = write(prepared, calibrate(prepared, plan, batches, recipe, engine=ENGINE))
        runs_optimized(result, batches[0], str(one))
        if one in thorough:
            keeps_to_its_bits(case, result, batches, str(one))


def runs_optimized(result: QuantResult, feeds: Mapping[str, Array], what: str) -> None:
    """Assert that onnxruntime loads and runs a model that it optimizes as far as it may, see `rounds_to_float8`."""
    try:
        found = run(result.model, feeds, optimize=True)
    except Exception as error:
        raise AssertionError(f"{what}: onnxruntime does not run the model") from error
    assert all(np.isfinite(value).all() for value in found.values()), what


@EACH_ROW
def test_the_model_has_what_a_row_says(row: OperatorRow) -> None:
    case = model_for(row)
    recipe = recipe_of(row, case, Asked())
    prepared, plan = planned(case, recipe)
    node = node_of(plan, row.operator)
    if row.outcome == "float":
        assert (node.status, node.reason) == ("float", row.reason)
        return
    assert node.status == ("absorbed" if row.outcome == "absorbed" else "quantized")
    result = write(prepared, calibrate(prepared, plan, case.batches(), recipe, engine=ENGINE))
    stands = [one.op_type for one in result.model.graph.node]
    assert row.becomes in stands if row.becomes else row.operator not in stands


@EACH_ROW
def test_what_is_on_request_is_left_unless_listed(row: OperatorRow) -> None:
    case = replace(case_of(row.operator, row.format), op_types=None)
    _, plan = planned(case, recipe_of(row, case, Asked()))
    node = node_of(plan, row.operator)
    assert (node.status == "float") == (row.outcome in ("float", "on request"))
    assert node.reason == row.reason or row.outcome in ("quantized", "absorbed")


@EACH_ROW
def test_what_a_row_denies_is_refused_or_left(row: OperatorRow) -> None:
    """Each combination that the row lacks leaves a reason, an error before anything is measured, or fewer scales."""
    case = model_for(row)
    works = {(one.activation, one.weight, one.granularity) for one in row.combinations}
    weightless = bool(works) and all(weight is None for _, weight, _ in works)
    sides = [("int8", "per tensor")] if weightless or not works else list(product(TYPES, GRANULARITIES))
    for kinds, (weight, kind) in product(TYPES, sides):
        if (kinds, None if weightless else weight, None if weightless else kind) in works:
            continue
        asked = Asked(activation=kinds, weight=weight, granularity=kind)
        plan = plan_or_error(row, case, asked)
        if isinstance(plan, str):
            assert re.search(r": (take|make|give|leave) ", plan), f"{asked}: {plan} does not say what to do"
            continue
        node = node_of(plan, row.operator)
        coarser = not weightless and kind not in {found for _, found in weights(plan)}
        assert coarser or (node.status == "float" and node.reason), asked


def plan_or_error(row: OperatorRow, case: Case, asked: Asked) -> QuantPlan | str:
    """Return the plan before anything is measured, or the text with which the options are refused."""
    try:
        return planned(case, recipe_of(row, case, asked))[1]
    except OptionError as error:
        return str(error)


def test_every_operator_with_a_rule_has_its_rows() -> None:
    registered = {*op_rules, *integer_needs}
    assert sorted((row.operator, row.format) for row in ROWS) == sorted(product(registered, ("QDQ", "QOperator")))


@pytest.mark.parametrize(("mode", "kind"), [("qdq", "QDQ"), ("qoperator", "QOperator")])
def test_the_supported_operators_are_those_of_the_table(mode: str, kind: str) -> None:
    names = {row.operator.rpartition(".")[2] for row in ROWS if row.format == kind and row.outcome != "float"}
    assert supported_ops(mode) == tuple(sorted(names))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(OptionError) as caught:
        supported_ops("qoperators")
    assert str(caught.value) == "unknown mode 'qoperators'; did you mean 'qoperator'? (allowed: qdq, qoperator)"


@pytest.mark.parametrize("grids", [{"activation": QuantSpec(dtype=INT32)}, {"weight": QuantSpec(dtype=INT32)}])
def test_the_type_that_is_in_no_row_is_refused(grids: dict[str, QuantSpec]) -> None:
    with pytest.raises(OptionError) as caught:
        Recipe(**grids)
    assert str(caught.value) == "int32 is for biases, which get it by themselves: take a type of 4, 8 or 16 bits"


def test_a_rule_of_ones_own_gets_its_rows() -> None:
    def tanh(node: onnx.NodeProto, view: GraphView, settings: Settings) -> list[Wish]:
        return [activation(node.input[0], settings), activation(node.output[0], settings)]

    with op_rules.scoped(Tanh=tanh):
        found = {row.format: row for row in operator_rows(["Tanh"])}
    assert (found["QDQ"].outcome, found["QDQ"].output, found["QDQ"].weights("per tensor")) == ("quantized", "own", {})
    assert found["QOperator"].outcome == "float"
    assert found["QOperator"].reason == "models of format QOperator have no Tanh on integers"
