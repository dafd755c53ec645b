"""Each difference that crosscheck names, on the smallest graph that shows it, and who is right where one is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.backend.peer import peer_quantize_static
from quantlab.ort.crosscheck import Verdict, crosscheck
from quantlab.ort.option_sets import OptionSet
from quantlab.ort.quantize import quantize_static
from tests.operators.harness import Case, normal, run

SHAPE = (1, 4, 6, 6)
X = "float[1,4,6,6]"


def case(text: str, **constants: Any) -> Case:
    return Case(name="known", text=text, feeds={"x": SHAPE}, constants=constants)


def named(given: Case) -> onnx.ModelProto:
    model = given.model()
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    return model


def verdict(given: Case, **options: Any) -> Verdict:
    (found,) = crosscheck(named(given), given.batches(2), [OptionSet(name="it", options=options)])
    return found


def errors(given: Case, output: str, tmp_path: Any, **options: Any) -> tuple[float, float]:
    """Return the largest errors of an output, ours and the peer's, on a sample."""
    model, batches = named(given), given.batches(2)
    ours = quantize_static(model, tmp_path / "ours.onnx", batches, **options).model
    peer = peer_quantize_static(model, batches, options)
    wanted = run(model, batches[0])[output]
    return tuple(float(np.abs(run(each, batches[0])[output] - wanted).max()) for each in (ours, peer))  # type: ignore[return-value]


def test_what_follows_a_grid_does_not_depend_on_the_order_of_nodes() -> None:
    first = case(f"g ({X} x) => ({X} t, {X} y) {{ t = Transpose<perm=[0,1,3,2]>(x) y = Sigmoid(x) }}")
    second = case(f"g ({X} x) => ({X} t, {X} y) {{ y = Sigmoid(x) t = Transpose<perm=[0,1,3,2]>(x) }}")
    found = verdict(first)
    assert found.outcome == "graph"
    assert found.known == (
        "Transpose is quantized wherever its input has a grid; the peer's is only where a node that asks for the grid "
        "comes before it in the file",
    )
    assert verdict(second).outcome == "identical"


def test_an_output_before_a_relu_keeps_its_negative_values(tmp_path: Any) -> None:
    given = case(f"g ({X} x) => ({X} t, {X} y) {{ t = LeakyRelu<alpha=0.9>(x) y = Relu(t) }}")
    found = verdict(given)
    assert found.known == (
        "graph output 't' has the range of its values; the peer gives it that of Relu 'n1' behind it, and cuts off "
        "what callers see",
    )
    ours, peer = errors(given, "t", tmp_path)
    step = float(np.ptp(run(named(given), given.batches(1)[0])["t"])) / 255
    assert ours < 2 * step
    assert peer > 20 * step


def test_constants_that_nodes_make_are_stored_as_integers() -> None:
    given = case(f"g ({X} x) => ({X} y) {{ w = Constant<value = float[1] {{0.5}}>() y = Mul(x, w) }}")
    found = verdict(given)
    assert found.known[0] == (
        "what 1 Constant nodes make is stored as integers, as weights are; the peer keeps the nodes and rounds what "
        "they make each time the model runs"
    )


def test_nodes_without_a_name_get_one() -> None:
    given = case(f"g ({X} x) => ({X} y) {{ y = Sigmoid(x) }}")
    (found,) = crosscheck(given.model(), given.batches(2), [OptionSet(name="it")])
    assert found.known == ("nodes without a name get one, by which the plan speaks of them; the peer leaves them",)


def test_channels_of_a_matrix_on_the_left_are_not_told_apart() -> None:
    given = case(f"g ({X} x) => ({X} y) {{ y = MatMul(m, x) }}", m=normal(6, 6))
    found = verdict(given, per_channel=True)
    assert found.outcome == "numbers"
    assert found.known == (
        "constant 'm' of MatMul gets one scale: its channels would lie on an axis that sums run over, or on one of "
        "several matrices; the peer puts them there, and no integer kernel can apply them",
    )


def test_a_node_that_reads_a_tensor_twice_gets_one_pair() -> None:
    given = case(f"g ({X} x) => ({X} y) {{ t = Sigmoid(x) y = Add(t, t) }}")
    found = verdict(given, extra_options={"DedicatedQDQPair": True})
    assert found.known == (
        "a node that reads tensor 't' twice gets one pair for it; the peer writes two that are alike",
    )


def test_an_override_keeps_its_tensor() -> None:
    given = case(f"g ({X} x) => ({X} y) {{ t = Conv(x, w) y = Relu(t) }}", w=normal(4, 4, 1, 1))
    overrides = {"t": [{"quant_type": "QUInt8"}]}
    found = verdict(given, extra_options={"TensorQuantOverrides": overrides})
    assert found.known[0].startswith("tensor 't' has the grid that its override asks for; the peer drops the tensor")


def test_bounds_of_a_clip_are_not_rounded_for_others() -> None:
    given = case(
        f"g ({X} x) => ({X} t, {X} y) {{ t = Clip(x, zero, six) y = Mul(t, six) }}",
        zero=np.float32(0), six=np.float32(6),
    )  # fmt: skip
    found = verdict(given)
    assert found.known[-1] == (
        "constant 'six' is rounded for the nodes that gain from it; the peer hands all its readers what is left after "
        "rounding, such as a Clip its bounds"
    )


def test_weights_of_any_type_are_widened_for_their_bias(tmp_path: Any) -> None:
    weights = normal(4, 4, 1, 1)
    weights[1] *= np.float32(1e-9)
    given = case(f"g ({X} x) => ({X} y) {{ y = Conv(x, w, b) }}", w=weights, b=np.full(4, 3, np.float32))
    options = {"quant_format": "QOperator", "activation_type": "QUInt8", "weight_type": "QUInt8", "per_channel": True}
    found = verdict(given, **options)
    assert found.outcome == "numbers"
    assert found.known == (
        "the scale of weight 'w' is widened so that its bias fits into 32 bits, whatever the type of the weight; the "
        "peer does it for some types only, and elsewhere the bias overflows",
    )
    ours, peer = errors(given, "y", tmp_path, **options)
    assert ours < 0.2
    assert peer > 1


@pytest.mark.parametrize("name", ["x", "y"])
def test_the_peer_is_silent_and_leaves_its_input_alone(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    given = case(f"g ({X} x) => ({X} y) {{ y = Sigmoid(x) }}")
    model = given.model()
    before = model.SerializeToString(deterministic=True)
    made = peer_quantize_static(model, given.batches(1), {})
    assert {value.name for value in (*made.graph.input, *made.graph.output)} >= {name}
    assert model.SerializeToString(deterministic=True) == before
    assert capfd.readouterr() == ("", "")
    assert isinstance(made, onnx.ModelProto)
