"""Any options together: a model that onnxruntime loads and runs, or a clear refusal before a sample is read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantlab.errors import QuantlabError
from quantlab.workflow.quantize import QuantResult
from quantlab.workflow.static import quantize_static
from tests.operators.harness import Array, Case, run
from tests.operators.test_options_parity import ATTENTION, CASES, MOVES, NET

FLAGS = (
    "ActivationSymmetric", "ActivationRestrictedAsymmetric", "EnableSubgraph", "ForceQuantizeNoInputCheck",
    "QuantizeBias", "QDQKeepRemovableActivations", "QDQDisableWeightAdjustForInt32Bias", "AddQDQPairToWeight",
    "DedicatedQDQPair", "UseQDQContribOps", "CalibTensorRangeSymmetric", "CalibMovingAverage", "MatMulConstBOnly",
    "SmoothQuant", "SmoothQuantFolding", "extra.Sigmoid.nnapi",
)  # fmt: skip
TYPES = ("QInt8", "QUInt8", "QInt16", "QUInt16", "QInt4", "QUInt4")
OPERATORS = ("Conv", "MatMul", "Gemm", "Relu", "Softmax", "MaxPool", "Cnov")
TENSORS = {
    "net": ("x", "w", "b", "c", "r", "v", "d", "k", "side", "p", "f", "g", "h", "y", "shape", "no"),
    "attention": ("x", "w", "v", "q", "k", "t", "s", "m", "y"),
    "moves": ("x", "t", "s", "p", "y"),
}
NODES = (
    "Conv_0", "Relu_1", "Conv_2", "Add_4", "MaxPool_5", "Gemm_7", "MatMul_0", "MatMul_3", "*", "re:.*_[0-3]",
)  # fmt: skip


class Counting:
    """A reader that counts what is asked of it."""

    def __init__(self, samples: list[Mapping[str, Array]]) -> None:
        self.samples, self.reads = samples, 0

    def get_next(self) -> Mapping[str, Array] | None:
        self.reads += 1
        return self.samples[self.reads - 1] if self.reads <= len(self.samples) else None


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


NUMBERS = st.sampled_from((0.0, 1e-9, 0.01, 1.0, 300.0, -1.0, 1e-50, float("nan")))
LISTED = st.one_of(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=5))
ZEROS = st.sampled_from((0, 0, 3, 128, -128, 40000))
GRIDS = {
    "quant_type": st.sampled_from((*TYPES, "QInt32", "float8e4m3fn")),
    "symmetric": st.booleans(),
    "rmin": LISTED,
    "rmax": LISTED,
}
NUMBERED = st.fixed_dictionaries({"scale": LISTED, "zero_point": st.one_of(ZEROS, st.lists(ZEROS, max_size=5))})
AXIS = {"axis": st.integers(-3, 4), "reduce_range": st.booleans()}


@st.composite
def override(draw: st.DrawFn) -> dict[str, Any]:
    fields = draw(st.one_of(maybe(**GRIDS), maybe(**GRIDS, **AXIS), NUMBERED, maybe(quant_type=GRIDS["quant_type"])))
    if draw(st.integers(0, 3)) == 0:
        second = draw(maybe(**GRIDS)) | {"quant_type": draw(st.sampled_from(TYPES))}
        if draw(st.booleans()):
            second["recv_nodes"] = draw(st.lists(st.sampled_from(NODES), max_size=2))
        fields = {**fields, "convert": second}
    return fields


@st.composite
def options(draw: st.DrawFn, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    extra = draw(st.dictionaries(st.sampled_from(FLAGS), st.sampled_from((True, False)), max_size=3))
    extra |= draw(
        maybe(
            WeightSymmetric=st.sampled_from((None, True, False)),
            MinimumRealRange=st.sampled_from((None, 0.0, 1e-4, 20.0, -1.0)),
            OpTypesToExcludeOutputQuantization=st.lists(st.sampled_from(OPERATORS[:-1]), max_size=2),
            BlockSize=st.sampled_from((0, 2, 16, -1)),
            CalibPercentile=st.sampled_from((99.0, 101.0)),
            TensorQuantOverrides=st.dictionaries(st.sampled_from(TENSORS[name]), override(), max_size=2),
        )
    )
    types = st.sampled_from(TYPES)
    return extra, draw(
        maybe(
            activation_type=types,
            weight_type=types,
            per_channel=st.booleans(),
            reduce_range=st.booleans(),
            quant_format=st.sampled_from(("QDQ", "QDQ", "QOperator")),
            calibrate_method=st.sampled_from(("MinMax", "Percentile", "Entropy")),
            op_types_to_quantize=st.lists(st.sampled_from(OPERATORS), max_size=3),
            nodes_to_quantize=st.lists(st.sampled_from(NODES), max_size=1),
            nodes_to_exclude=st.lists(st.sampled_from(NODES), max_size=1),
        )
    )


OUTCOMES = {"models": 0, "refusals": 0}


@pytest.mark.parametrize("name", [NET.name, ATTENTION.name, MOVES.name])
@settings(deadline=None, max_examples=70, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_model_that_runs_or_a_refusal_before_the_first_sample(name: str, data: st.DataObject) -> None:
    extra, chosen = data.draw(options(name))
    case = CASES[name]
    reader = Counting(list(case.batches(2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result, refusal = attempt(case, reader, extra, chosen)
    if result is None:
        assert reader.reads == 0, f"read {reader.reads} samples before: {refusal}"
        assert len(refusal) > 20
        OUTCOMES["refusals"] += 1
        return
    OUTCOMES["models"] += 1
    onnx.checker.check_model(result.model, full_check="UseQDQContribOps" not in extra)
    feeds = case.batches(1)[0]
    for optimize in (False, True):
        assert all(np.isfinite(value).all() for value in run(result.model, feeds, optimize=optimize).values())


def attempt(case: Case, reader: Counting, extra: Any, chosen: Any) -> tuple[QuantResult | None, str]:
    try:
        return quantize_static(case.model(), None, reader, extra_options=extra, **chosen), ""
    except QuantlabError as error:
        return None, str(error)


def test_both_outcomes_came() -> None:
    if sum(OUTCOMES.values()) >= 100:  # not where this test is run alone
        assert min(OUTCOMES.values()) > 0.15 * sum(OUTCOMES.values())


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"activation_type": "QInt4"}, "Conv 'Conv_0' would work on 'x', int4 by 'w', int8, and onnxruntime refuses"),
        ({"activation_type": "QUInt4", "op_types_to_quantize": ["Add", "MaxPool"]},
         "MaxPool 'MaxPool_5' would work on 'side', uint4, and onnxruntime refuses to load such a model"),
    ],
)  # fmt: skip
def test_four_bits_that_onnxruntime_refuses_are_refused(chosen: dict[str, Any], words: str) -> None:
    reader = Counting(list(NET.batches(1)))
    result, refusal = attempt(NET, reader, {}, chosen)
    assert (result, reader.reads) == (None, 0)
    assert refusal.startswith(words)
