"""Cross-checking: the demo model over every option, published architectures, random graphs and option sets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.demo import digits, float_model
from quantlab.errors import DataError, OptionError
from quantlab.graph.files import load
from quantlab.ort.crosscheck import MEANING, Verdict, changed_initializers, crosscheck, graph_differences
from quantlab.ort.known_differences import base
from quantlab.ort.option_sets import OptionSet, option_sets
from quantlab.workflow.quantize import prepare_for
from tests.graph.builders import build
from tests.operators.harness import Case, normal
from tests.plan.test_random_models import graphs
from tests.published import published

DEMO_SAMPLES = [{"image": digits().train_images[start : start + 8]} for start in range(0, 32, 8)]
KEPT = "a Relu or Clip stays where the grid behind it reaches past its bounds"
DROPPED = "has the grid that its override asks for; the peer drops the tensor"


@pytest.fixture(autouse=True)
def _quiet_peer() -> Iterator[None]:
    before = logging.root.manager.disable
    yield
    assert logging.root.manager.disable == before


def _found(verdicts: list[Verdict]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {each.name: (each.outcome, each.known) for each in verdicts if each.outcome != "identical"}


DIFFERENT = {"symmetric calibration": KEPT}
DIFFERENT_PREPARED = {**DIFFERENT, "another type for one tensor": DROPPED, "a range for one tensor": DROPPED}


@pytest.mark.parametrize("prepared", [False, True])
def test_the_demo_model_over_the_full_grid(prepared: bool) -> None:
    model = load(float_model())
    model = prepare_for(model).model if prepared else model
    sets = option_sets(model, "full")
    assert len(sets) >= 24
    found = _found(crosscheck(model, DEMO_SAMPLES, sets))
    wanted = DIFFERENT_PREPARED if prepared else DIFFERENT
    assert found.keys() == wanted.keys()
    for name, words in wanted.items():
        assert found[name][0] == "graph"
        assert any(words in known for known in found[name][1])


@pytest.mark.parametrize(("name", "sets"), [("squeezenet", 9), ("shufflenet", 9), ("inception_v1", 9), ("resnet50", 4)])
def test_published_architectures(name: str, sets: int) -> None:
    model, samples = published(name)
    prepared = prepare_for(model).model
    verdicts = crosscheck(prepared, samples, option_sets(prepared, "quick")[:sets])
    assert {each.name: (each.outcome, each.known) for each in verdicts if each.outcome != "identical"} == {}


TYPES = st.sampled_from(["QInt8", "QUInt8"])


@st.composite
def drawn_options(draw: st.DrawFn) -> dict[str, Any]:
    """Draw arguments of quantize_static as somebody might combine them."""
    flags = ("ActivationSymmetric", "AddQDQPairToWeight", "DedicatedQDQPair", "ForceQuantizeNoInputCheck",
             "QDQKeepRemovableActivations", "UseQDQContribOps", "CalibMovingAverage")  # fmt: skip
    extra: dict[str, Any] = dict.fromkeys(draw(st.sets(st.sampled_from(flags), max_size=3)), True)
    if draw(st.booleans()):
        extra["MinimumRealRange"] = draw(st.sampled_from([0.001, 0.5]))
    return {
        "quant_format": draw(st.sampled_from(["QDQ", "QOperator"])),
        "activation_type": draw(TYPES),
        "weight_type": draw(TYPES),
        "per_channel": draw(st.booleans()),
        "reduce_range": draw(st.booleans()),
        "extra_options": extra,
    }


@settings(max_examples=40)
@given(graphs(), drawn_options())
def test_random_graphs_and_options_agree_or_differ_for_a_known_reason(case: Case, options: dict[str, Any]) -> None:
    model = prepare_for(case.model()).model
    (verdict,) = crosscheck(model, case.batches(2), [OptionSet(name="drawn", options=options)])
    assert verdict.explained, (options, verdict)


def test_what_differs_is_counted_and_named() -> None:
    one = build(
        "g (float[2] x) => (float[2] y) { [a] t = Relu(x) [b] y = Sum(t, c, d) }", {"c": normal(2), "d": normal(2)}
    )
    other = build(
        "g (float[2] x) => (float[2] y) { [a] t = Neg(x) [b] y = Add(c, t) }", {"c": normal(2) + np.float32(1)}
    )
    assert graph_differences(one, one) == ()
    assert graph_differences(one, other) == ("Add 0 1", "Neg 0 1", "Relu 1 0", "Sum 1 0", "initializer +d", "reads b")
    (changed,) = changed_initializers(one, other)
    assert (changed.name, changed.elements, changed.size, changed.by) == ("c", 2, 2, pytest.approx(1))


def test_a_bias_scale_of_one_element_is_a_scalar() -> None:
    scalar, vector, text = (
        np.float32(0.5),
        np.array([0.5], np.float32),
        "g (float[1] x) => (float[1] y) { y = Add(x, c) }",
    )
    assert changed_initializers(build(text, {"c": scalar}), build(text, {"c": vector})) == ()


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("w_quantized", "w"),
        ("b_quantized_scale", "b"),
        ("t_DequantizeLinear_Output", "t"),
        ("t_1", "t_1"),
        ("_scale", "_scale"),
    ],
)
def test_names_lead_back_to_the_float_model(name: str, tensor: str) -> None:
    assert base(name) == tensor


def test_failures_are_verdicts() -> None:
    model = load(float_model())
    sets = [
        OptionSet(name="both", options={"activation_type": "QInt8", "weight_type": "QUInt8"}),
        OptionSet(name="ours", options={"extra_options": {"NoSuchKey": 1}}),
    ]
    both, ours = crosscheck(model, DEMO_SAMPLES, sets)
    assert both.outcome == "neither"
    assert both.known[0].startswith("quantlab: ")
    assert both.known[1].startswith("peer: onnxruntime.quantization fails: ValueError: ")
    assert (ours.outcome, ours.known) == ("peer alone", ("quantlab: extra_options has no key 'NoSuchKey'",))
    assert ours.to_json()["meaning"] == MEANING["peer alone"]


def test_no_samples_and_no_such_grid_are_refused() -> None:
    model = load(float_model())
    with pytest.raises(DataError, match="there is no sample to compare with; give at least one"):
        crosscheck(model, [], option_sets(model))
    with pytest.raises(OptionError) as error:
        option_sets(model, "fulll")
    assert str(error.value) == "unknown grid 'fulll'; did you mean 'full'? (allowed: quick, full)"
