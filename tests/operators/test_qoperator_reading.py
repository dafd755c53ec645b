"""Format QOperator read back: which tensors a model rounds, under which names, and how far they moved."""

from __future__ import annotations

import pytest
from onnxruntime.quantization import QuantFormat

from quantlab.debug.compare import compare
from quantlab.graph import GraphView
from quantlab.graph.quantized import original_name, rounded_tensors
from tests.operators.harness import quantized
from tests.operators.peer import peer_model
from tests.operators.qoperator_cases import BY_NAME, GRAPHS, SINGLE, U8S8, U8S8_CHANNELS

COMPARED = [case.name for case in (*SINGLE, *GRAPHS) if case.name not in ("branches", "arg-max-of-floats")]


@pytest.mark.parametrize("name", COMPARED)
def test_the_grids_that_are_read_back_are_those_of_the_plan(name: str) -> None:
    result = quantized(BY_NAME[name], U8S8_CHANNELS)
    plan, bare = result.plan, GraphView.of(result.model)
    found = {rounded.integers: rounded for rounded in rounded_tensors(bare)}
    absorbed = {tensor.absorbs: name for name, tensor in plan.tensors.items() if tensor.absorbs is not None}
    for integers, rounded in found.items():
        stem = original_name(integers)
        grid = plan.tensors[absorbed.get(stem, stem)].qparams
        assert grid is not None
        # The bias of a QGemm holds beta; the plan has it in the scale.
        beta = next((a.f for node in result.prepared.model.graph.node for a in node.attribute if a.name == "beta"), 1.0)
        factor = beta if plan.tensors[absorbed.get(stem, stem)].role == "bias" else 1.0
        assert grid.scale * factor == pytest.approx(rounded.grid.scale, rel=1e-6 * (factor != 1.0), abs=0)
        assert (rounded.grid.zero_point == grid.zero_point).all()
        assert rounded.grid.spec.axis == grid.spec.axis
        assert rounded.constant == (integers in bare.constants)
    # No node says the grid of what an operator that moves integers hands to another one.
    kinds = {output: node.op_type for node in bare.nodes for output in node.output}
    integers = {name for name in (*kinds, *bare.constants) if name.endswith("quantized")} - found.keys()
    biases = {f"{name}_quantized" for name, tensor in plan.tensors.items() if tensor.role == "bias"}
    moved = {"v_quantized", *(["w_quantized"] if name == "gather-table" else [])}  # padding and a table
    assert {kinds[name] for name in integers - biases - moved} <= {"MaxPool", "Reshape", "Transpose", "Split"}


def test_comparing_names_tensors_as_in_the_float_model() -> None:
    case = BY_NAME["residual"]
    result = quantized(case, U8S8)
    peer = peer_model(result.prepared.model, U8S8, case.batches(), None, QuantFormat.QOperator)
    for model in (result.model, peer):
        found = compare(case.model(), model, case.batches())
        assert {row.name: row.kind for row in found.tensors} == {
            "x": "activation", "w": "weight", "r": "activation", "s": "activation", "y": "activation",
            "b": "bias", "b_Conv_2": "bias",
        }  # fmt: skip
        assert found.unmatched == ()
        assert min(row.sqnr_db for row in found.tensors) > 30
