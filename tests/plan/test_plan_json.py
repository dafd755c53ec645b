"""Plans as JSON: the round trip, and the text of each refusal of an edited file."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from quantlab.errors import ModelError, OptionError, QuantlabError
from quantlab.graph import GraphView
from quantlab.plan import QuantPlan, resolve
from quantlab.rewrite import insert_qdq
from quantlab.workflow.quantize import QuantResult
from tests.operators.harness import INT8, INT8_CHANNELS, SYMMETRIC, Case, Scheme, normal, quantized

CASE = Case(
    name="plan",
    text="""g (float[1,4,5,5] x) => (float[1,4,2,2] z, float[2,2,4,1] y) {
        t = Conv(x, w, b)
        r = Relu(t)
        p = MaxPool<kernel_shape = [2,2]>(r)
        y = Transpose(p)
        z = Softmax(p)
    }""",
    feeds={"x": (1, 4, 5, 5)},
    constants={"w": normal(4, 4, 3, 3), "b": normal(4)},
)


@cache
def _result(scheme: Scheme = INT8) -> QuantResult:
    return quantized(CASE, scheme)


@pytest.mark.parametrize("scheme", [INT8, INT8_CHANNELS, SYMMETRIC], ids=lambda scheme: scheme.name)
def test_round_trip_to_the_last_bit(scheme: Scheme) -> None:
    plan = _result(scheme).plan
    again = QuantPlan.from_json(plan.to_json())
    assert again == plan
    assert insert_qdq(_result(scheme).prepared.model, again).SerializeToString() == (
        insert_qdq(_result(scheme).prepared.model, plan).SerializeToString()
    )


def test_it_is_strict_json() -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    json.loads(_result().plan.to_json(), parse_constant=refuse)


def _edited(change: Callable[[dict[str, Any]], object]) -> str:
    plain = json.loads(_result().plan.to_json())
    change(plain)
    return json.dumps(plain)


def _set(name: str, **fields: object) -> Callable[[dict[str, Any]], object]:
    return lambda plain: plain["tensors"][name].update(fields)


UNREADABLE = {
    "no plan": (lambda plain: plain.clear(), 'the plan must be a JSON object with "quantlab_plan": 1'),
    "another format": (
        lambda plain: plain.update(quantlab_plan=9),
        'the plan must be a JSON object with "quantlab_plan": 1',
    ),
    "unknown field": (_set("x", colour=1), "tensor 'x' in the plan cannot be read: unknown field 'colour' (allowed: "),
    "mistyped field": (
        _set("x", scales=1),
        "tensor 'x' in the plan cannot be read: unknown field 'scales'; did you mean 'scale'? (allowed: ",
    ),
    "one factor": (_set("b", product=["x"]), "tensor 'b' in the plan cannot be read: product must be two names, got "),
    "readers": (_set("x", readers="y"), "tensor 'x' in the plan cannot be read: readers must be a list of names, got "),
    "factor": (_set("b", factor="2"), "tensor 'b' in the plan cannot be read: factor must be a number, got '2'"),
    "one end": (_set("x", range=[1]), "tensor 'x' in the plan cannot be read: range must be two ends, lower first"),
    "float type": (_set("x", dtype="int8"), "tensor 'x' in the plan cannot be read: dtype must be float16, float32 or"),
    "no grid": (
        lambda plain: plain["tensors"]["x"].pop("spec"),
        "tensor 'x' in the plan cannot be read: field 'spec' is missing",
    ),
    "notes": (lambda plain: plain.update(notes=5), "field 'notes' in the plan cannot be read: it must be a list of"),
    "least range": (
        lambda plain: plain.update(min_real_range="wide"),
        "field 'min_real_range' in the plan cannot be read: it must be a number of at least 0, or null, got 'wide'",
    ),
    "status": (
        lambda plain: next(iter(plain["nodes"].values())).update(status="gone"),
        "node 'Conv_0' in the plan cannot be read: status must be one of quantized, absorbed, float, got 'gone'",
    ),
    "role": (
        _set("x", role="input"),
        "tensor 'x' in the plan cannot be read: role must be one of activation, weight, bias, got 'input'",
    ),
    "half a grid": (
        lambda plain: plain["tensors"]["x"].pop("scale"),
        "tensor 'x' in the plan cannot be read: scale and zero_point come together: give both or neither",
    ),
    "scale": (
        _set("x", scale=-1),
        "tensor 'x' in the plan cannot be read: scale -1.0 (channel 0) must be positive and finite",
    ),
    "zero point": (
        _set("x", zero_point=128),
        "tensor 'x' in the plan cannot be read: zero point 128 (channel 0) must lie in -128..127",
    ),
    "range": (
        _set("x", range=[1, -1]),
        "tensor 'x' in the plan cannot be read: range [1.0, -1.0] must be finite with its lower end first",
    ),
    "type": (
        _set("x", spec={"dtype": "int9"}),
        "tensor 'x' in the plan cannot be read: unknown type 'int9'",
    ),
    "not an object": (
        lambda plain: plain["tensors"].update(x=1),
        "tensor 'x' in the plan cannot be read: it must be an object, got 1",
    ),
    "node": (lambda plain: plain["nodes"].update(Conv_0={"op": "Conv"}), "node 'Conv_0' in the plan cannot be read: "),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_named(name: str) -> None:
    change, message = UNREADABLE[name]
    with pytest.raises(OptionError) as error:
        QuantPlan.from_json(_edited(change))
    assert str(error.value).startswith(message)


def test_broken_json_says_where() -> None:
    with pytest.raises(OptionError, match=r"the plan is not JSON: Expecting .* line 1 column 2"):
        QuantPlan.from_json("{")


CONTRADICTIONS: dict[str, tuple[Callable[[dict[str, Any]], object], type[QuantlabError], str]] = {
    "unknown tensor": (
        lambda plain: plain["tensors"].update(xx=plain["tensors"]["x"]),
        ModelError,
        "the plan names tensor 'xx', which the model does not have; did you mean 'x'?",
    ),
    "no root": (
        lambda plain: plain["tensors"].pop("r"),
        OptionError,
        "tensor 'p' in the plan follows 'r', which has no entry; take out both entries, or neither",
    ),
    "no factor": (
        lambda plain: plain["tensors"].pop("w"),
        OptionError,
        "tensor 'b' in the plan follows 'w', which has no entry; take out both entries, or neither",
    ),
    "sharing twice": (
        _set("y", like="p"),
        OptionError,
        "tensor 'y' in the plan shares the grid of 'p', which shares that of 'r': write 'r' instead",
    ),
    "absorbing": (
        _set("r", absorbs="x"),
        OptionError,
        "tensor 'r' in the plan cannot absorb 'x': that needs a tensor without an entry of its own, and the node that "
        "makes 'r' as its only reader",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_refused_by_resolving_and_by_writing(name: str) -> None:
    change, kind, message = CONTRADICTIONS[name]
    plan = QuantPlan.from_json(_edited(change))
    model = _result().prepared.model
    for use in (lambda: resolve(plan, {}, GraphView.of(model)), lambda: insert_qdq(model, plan)):
        with pytest.raises(kind) as error:
            use()
        assert str(error.value) == message


@pytest.mark.parametrize(("name", "stale"), [("x", "b"), ("w", "b"), ("b", "b"), ("r", "p"), ("p", "p")])
def test_numbers_that_do_not_follow_are_not_written(name: str, stale: str) -> None:
    """onnxruntime's kernels take the scale of a bias for granted: writing another one gives wrong numbers."""
    plan = QuantPlan.from_json(_edited(_set(name, scale=0.5)))
    with pytest.raises(OptionError) as error:
        insert_qdq(_result().prepared.model, plan)
    assert str(error.value) == (
        f"the numbers of {stale!r} do not follow from those they are made from: resolve the plan anew"
    )


def test_a_plan_without_numbers_is_not_written() -> None:
    def take_out(plain: dict[str, Any]) -> None:
        for field in ("scale", "zero_point"):
            del plain["tensors"]["x"][field]

    plan = QuantPlan.from_json(_edited(take_out))
    assert not plan.resolved
    with pytest.raises(OptionError) as error:
        insert_qdq(_result().prepared.model, plan)
    assert str(error.value) == "the plan has no scale for 1 tensors, first 'x': resolve it"
