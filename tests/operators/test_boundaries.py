"""Operators that stay in float, or keep integers in the file alone: what they read and what reads them is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from quantlab.graph.expose import expose
from tests.operators.harness import (
    INT8,
    PLAIN,
    UINT8,
    Array,
    Case,
    Scheme,
    each,
    judge,
    normal,
    operators,
    quantized,
    round_to_grid,
    run,
    statuses,
)
from tests.operators.peer import differences, peer_model
from tests.operators.qoperator_cases import U8S8

CONTRIB = {"com.microsoft": 1}
ATTENTION = Case(
    name="attention-fused",
    text="""g (float[2,4,8] x) => (float[2,4,6] y) {
        s = Sigmoid(x)
        a = com.microsoft.Attention<num_heads = 2>(s, qw, qb)
        y = MatMul(a, w)
    }""",
    feeds={"x": (2, 4, 8)},
    constants={"qw": normal(8, 24), "qb": normal(24, seed=1), "w": normal(8, 6, seed=2)},
    domains=CONTRIB,
    schemes=(INT8, UINT8),
)


def _recurrent(op: str, gates: int, outputs: str, attributes: str = "") -> Case:
    return Case(
        name=op.lower(),
        text=f"""g (float[4,2,8] x) => (float[4,1,2,3] y) {{
            s = Sigmoid(x)
            {outputs} = {op}<hidden_size = 3{attributes}>(s, w, r)
            y = Sigmoid(h)
        }}""",
        feeds={"x": (4, 2, 8)},
        constants={"w": normal(1, 3 * gates, 8), "r": normal(1, 3 * gates, 3, seed=1)},
        schemes=(INT8, UINT8),
    )


LSTM = _recurrent("LSTM", 4, "h, last, cell")
GRU = _recurrent("GRU", 3, "h, last")
RNN = _recurrent("RNN", 1, "h, last")
EMBEDDING = Case(
    name="embedding-layer",
    text="""g (int32[2,4] ids, int32[2,4] segments) => (float[2,4,6] y) {
        e, m = com.microsoft.EmbedLayerNormalization(ids, segments, word, place, kind, gamma, beta)
        y = MatMul(e, w)
    }""",
    feeds={"ids": (2, 4), "segments": (2, 4)},
    constants={
        "word": normal(5, 8),
        "place": normal(4, 8, seed=1),
        "kind": normal(3, 8, seed=2),
        "gamma": normal(8, seed=3),
        "beta": normal(8, seed=4),
        "w": normal(8, 6, seed=5),
    },
    domains=CONTRIB,
    schemes=(INT8, UINT8),
)
STAYS = (ATTENTION, LSTM, GRU, RNN)
CASES = (*STAYS, EMBEDDING)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@each(*CASES)
def test_same_as_onnxruntime_quantization(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    assert differences(result.model, peer_model(result.prepared.model, scheme, case.batches())) == {}


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            ATTENTION,
            "there is no rule for operator Attention of domain 'com.microsoft': what it multiplies inside has no "
            "tensors to give grids to; MatMul and Softmax, before they are fused, have",
        ),
        (
            LSTM,
            "there is no rule for operator LSTM: its state is float from step to step, and onnxruntime has integers "
            "only for models whose activations get their grids while they run",
        ),
        (
            GRU,
            "there is no rule for operator GRU: its state is float from step to step, and onnxruntime has none on "
            "integers",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_what_stays_float_reads_what_is_dequantized_and_says_why(case: Case, reason: str) -> None:
    result = quantized(case)
    (entry,) = (node for node in result.plan.nodes.values() if node.status == "float")
    assert entry.reason == reason
    (node,) = (node for node in result.model.graph.node if node.op_type == entry.op)
    assert node.input[0] == "s_DequantizeLinear_Output"
    assert list(node.input[1:]) == list(_original(case, entry.op).input[1:])
    assert node.output[0] in result.plan.tensors  # its reader has it rounded


def _original(case: Case, op: str) -> onnx.NodeProto:
    (node,) = (node for node in case.model().graph.node if node.op_type == op)
    return node


def test_tables_of_embeddings_are_stored_as_integers() -> None:
    result = quantized(EMBEDDING, UINT8)
    kept = {tensor.name: tensor.data_type for tensor in result.model.graph.initializer}
    for name in ("word", "place", "kind", "gamma", "beta"):
        assert kept[f"{name}_quantized"] == onnx.TensorProto.UINT8
        assert name not in kept
    assert statuses(result)["EmbedLayerNormalization"] == "quantized"
    assert not result.plan.observed()


def test_attributes_of_what_stays_float_stay() -> None:
    case = _recurrent("LSTM", 4, "h, last, cell", ', layout = 0, clip = 3.5, direction = "forward"')
    (node,) = (node for node in quantized(case, INT8).model.graph.node if node.op_type == "LSTM")
    values = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    assert values == {"hidden_size": 3, "layout": 0, "clip": 3.5, "direction": b"forward"}


HALF = Case(
    name="half-conv-softmax",
    text="g (float16[1,4,6,6] x) => (float16[1,4,6,6] y) { t = Conv(x, w) y = Softmax<axis = 1>(t) }",
    feeds={"x": (1, 4, 6, 6)},
    constants={"w": normal(4, 4, 1, 1, dtype=np.float16)},
    opset=19,
)


@pytest.mark.parametrize("scheme", PLAIN, ids=lambda scheme: scheme.name)
def test_scales_of_a_half_precision_softmax_are_of_half_precision(scheme: Scheme) -> None:
    result = quantized(HALF, scheme)
    onnx.checker.check_model(result.model, full_check=True)
    # Sums of half precision may fall on either side of a step, so that each rounding is held against what it is given.
    inner = ["t", "t_DequantizeLinear_Output"]
    for feeds in HALF.batches():
        found = run(expose(result.model, inner, keep_outputs=True), feeds)
        grids = [result.plan.tensors[name].qparams for name in ("t", "y")]
        assert grids[0] is not None
        assert grids[1] is not None
        assert found[inner[1]].tobytes() == round_to_grid(found["t"], grids[0]).tobytes()
        powers = np.exp(found[inner[1]].astype(np.float64))
        wanted = round_to_grid((powers / powers.sum(axis=1, keepdims=True)).astype(np.float16), grids[1])
        slack = float(grids[1].scale) + float(np.finfo(np.float16).eps)
        assert np.abs(found["y"].astype(np.float64) - wanted).max() <= slack
        assert np.isfinite(run(result.model, feeds, optimize=True)["y"]).all()
    scales: dict[str, Array] = {
        name: tensor.qparams.scale for name, tensor in result.plan.tensors.items() if tensor.qparams is not None
    }
    assert {name: scale.dtype for name, scale in scales.items()} == dict.fromkeys(scales, np.dtype(np.float16))
    assert set(scales) == {"x", "w", "t", "y"}


@pytest.mark.parametrize("outputs", ["float[2,4,6] y", "float[2,4,6] y, float[2,4,8] e"], ids=["inside", "given-out"])
def test_on_integers_the_embeddings_are_floats_that_are_rounded_for_the_next(outputs: str) -> None:
    case = replace(EMBEDDING, text=EMBEDDING.text.replace("float[2,4,6] y", outputs))
    result = quantized(case, U8S8)
    assert operators(result.model) == ["QEmbedLayerNormalization", "QLinearMatMul"]
    judge(case, result)
