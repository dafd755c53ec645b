"""What passes know of the model they edit: built once, shared while nothing changes, and never out of date."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from quantlab.graph import GraphView, Pass, Sequential
from quantlab.graph import prepare as room
from quantlab.graph.passes import Workpiece
from quantlab.graph.prepare import prepare
from quantlab.plan import Recipe
from quantlab.workflow.ladder import shape_ladder
from tests.graph.builders import CAPTURING, build, normal
from tests.random_graphs import Random, graphs

RELUS = "g (float[2] x) => (float[2] y) { [a] t = Relu(x) [b] y = Relu(t) }"
FOLDABLE = """g (float[2,4,5,5] x) => (float[2,4,5,5] y) {
    c = Constant<value_float = 2.0>()
    t = Conv(x, w)
    u = BatchNormalization(t, k, k, k, k)
    v = Mul(u, c)
    same = Identity(v)
    y = Relu(same)
    dead = Neg(t)
}"""
FOLDABLE_CONSTANTS = {"w": normal(1, 4, 4, 1, 1), "k": abs(normal(2, 4)) + 1, "unused": normal(3, 4)}


def watching(seen: list[Workpiece], notes: list[str]) -> Pass:
    """Make a pass that changes nothing, writes down its workpiece and gives these notes."""

    def edit(piece: Workpiece) -> list[str]:
        assert piece.view.nodes  # asked for, so that it is built
        seen.append(piece)
        return notes

    return Pass(name="watch", edit=edit)


def test_passes_without_a_note_share_what_was_built() -> None:
    seen: list[Workpiece] = []
    quiet = watching(seen, [])
    Sequential(quiet, quiet, quiet)(build(RELUS))
    assert len({id(piece) for piece in seen}) == 1
    assert len({id(piece.view) for piece in seen}) == 1


def test_after_a_note_everything_is_built_anew() -> None:
    seen: list[Workpiece] = []

    def drop(piece: Workpiece) -> list[str]:
        assert [node.name for node in piece.view.nodes] == ["a", "b"]
        assert piece.operators == {"Relu"}
        assert piece.names.fresh("a") == "a_1"
        first, second = piece.model.graph.node
        second.op_type, second.input[0] = "Neg", "x"
        piece.model.graph.node.remove(first)
        return ["'a' is gone"]

    quiet = watching(seen, [])
    result = Sequential(quiet, Pass(name="drop", edit=drop), quiet, quiet)(build(RELUS))
    before, after, later = seen
    assert before is not after
    assert after is later
    assert before.model is after.model is result.model
    assert [node.name for node in after.view.nodes] == ["b"]
    assert after.view.producers.keys() == {"y"}
    assert after.operators == {"Neg"}
    assert after.names.fresh("a") == "a"
    assert result.notes == ("drop: 'a' is gone",)


def test_operators_are_those_of_the_default_domain_in_the_main_graph() -> None:
    model = build(CAPTURING)
    model.graph.node.add(op_type="Gelu", domain="com.microsoft", input=["t"], output=["u"])
    assert Workpiece(model).operators == {"Relu", "If"}


def test_a_model_that_is_prepared_already_is_indexed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepare(build(RELUS)).model
    built = []
    of = GraphView.of

    def counting(given: onnx.ModelProto) -> GraphView:
        built.append(given)
        return of(given)

    monkeypatch.setattr(GraphView, "of", counting)
    assert prepare(model).notes == ()
    assert len(built) == 1


def every_pass(**options: bool) -> tuple[Pass, ...]:
    """Return the passes of `prepare`, in its order, with all rungs of the ladder of shapes."""
    caught: list[Sequential] = []

    def catch(*passes: Pass) -> Sequential:
        caught.append(Sequential(*passes))
        return caught[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "Sequential", catch)
        prepare(build(RELUS), shapes=shape_ladder(), **options)
    return caught[0].passes


def as_bytes(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def liars(passes: tuple[Pass, ...], model: onnx.ModelProto) -> Iterator[str]:
    """Yield the passes that change a model and do not say so, each on what those before it have left."""
    for step in passes:
        result = step(model)
        if not result.changed and as_bytes(result.model) != as_bytes(model):
            yield step.name
        model = result.model


PASSES = every_pass(fold_forward=True, separate_weights=True, contrib_gelu=True)


def test_a_pass_that_changes_in_silence_is_caught() -> None:
    def rename(piece: Workpiece) -> list[str]:
        piece.model.graph.name += "!"
        return []

    assert list(liars((Pass(name="silent", edit=rename),), build(RELUS))) == ["silent"]
    assert len(PASSES) > 20
    assert {"check-float-model", "infer-shapes", "drop-unused"} <= {step.name for step in PASSES}


@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize(
    "model",
    [build(RELUS), build(CAPTURING), build(FOLDABLE, FOLDABLE_CONSTANTS)],
    ids=["two nodes", "a branch that captures", "much to fold"],
)
def test_no_pass_changes_in_silence(model: onnx.ModelProto, opset: int) -> None:
    model.opset_import[0].version = opset
    assert list(liars(PASSES, model)) == []


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(graphs((Recipe(),), most=25))
def test_no_pass_changes_a_random_graph_in_silence(drawn: Random) -> None:
    assert list(liars(PASSES, drawn.model(shuffled=True))) == []


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(graphs((Recipe(),), most=25))
def test_passes_that_share_make_what_passes_alone_make(drawn: Random) -> None:
    model, alone = drawn.model(shuffled=True), drawn.model(shuffled=True)
    for step in PASSES:
        alone = step(alone).model
    assert as_bytes(Sequential(*PASSES)(model).model) == as_bytes(alone)
