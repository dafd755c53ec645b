"""`quantlab.fuse`: groups by name and by type, partly and whole, and a reason for each that is left."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from quantlab.errors import OptionError
from tests.graph.builders import Array, build, normal, operators, run

BLOCKS = """g (float[1,4,8,8] x) => (float[1,4,4,4] y) {
    [conv1] a = Conv(x, w) [bn1] b = BatchNormalization(a, g, e, m, v) [act1] c = Relu(b)
    [conv2] d = Conv(c, w) [bn2] f = BatchNormalization(d, g, e, m, v) [down] s = Slice(c, two, six, axes)
    [sum] h = Add(f, s) [act2] y = Relu(h)
}"""
CONSTANTS: dict[str, Array] = {
    "w": normal(1, 4, 4, 3, 3),
    "g": normal(2, 4),
    "e": normal(3, 4),
    "m": normal(4, 4),
    "v": np.abs(normal(5, 4)) + np.float32(0.5),
    "two": np.array([1, 1]),
    "six": np.array([5, 5]),
    "axes": np.array([2, 3]),
}
X = {"x": normal(0, 1, 4, 8, 8)}


def assert_same_function(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    onnx.checker.check_model(after, full_check=True)
    old, new = run(before, X)["y"], run(after, X)["y"]
    # Two layers of sums of 36 products each.
    np.testing.assert_allclose(new, old, rtol=0, atol=4 * 36 * np.finfo(np.float32).eps * np.abs(old).max())


def names(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node]


def test_a_listed_group_is_fused_and_the_rest_stays() -> None:
    before = build(BLOCKS, CONSTANTS)
    result = quantlab.fuse(before, [["conv1", "bn1", "act1"]])
    assert names(result.model) == ["conv1", "act1", "conv2", "bn2", "down", "sum", "act2"]
    assert str(result) == (
        "fused  conv1 + bn1 + act1: BatchNormalization 'bn1' is in the weight and bias; Relu 'act1' stays, quantizing "
        "lets the grid saturate where it clips"
    )
    assert result.fused[0].into == ("conv1", "act1")
    assert_same_function(before, result.model)
    assert names(before) == ["conv1", "bn1", "act1", "conv2", "bn2", "down", "sum", "act2"]


def test_types_mean_every_such_chain() -> None:
    before = build(BLOCKS, CONSTANTS)
    result = quantlab.fuse(before, [["Conv", "BatchNormalization"]])
    assert [group.nodes for group in result.fused] == [("conv1", "bn1"), ("conv2", "bn2")]
    assert result.left == ()
    assert_same_function(before, result.model)


def test_nothing_asked_for_is_everything_known() -> None:
    before = build(BLOCKS, CONSTANTS)
    result = quantlab.fuse(before)
    assert [group.nodes for group in result.groups] == [("conv1", "bn1", "act1"), ("conv2", "bn2")]
    assert operators(result.model) == ["Conv", "Relu", "Conv", "Slice", "Add", "Relu"]
    assert_same_function(before, result.model)


def test_linear_layers() -> None:
    text = "g (float[2,4] x) => (float[2,4] y) { [fc] t = MatMul(x, k) [bias] u = Add(t, e) [act] y = Relu(u) }"
    before = build(text, {**CONSTANTS, "k": normal(6, 4, 4)})
    result = quantlab.fuse(before, [["fc", "bias", "act"]])
    assert operators(result.model) == ["Gemm", "Relu"]
    feeds = {"x": normal(0, 2, 4)}
    np.testing.assert_allclose(run(result.model, feeds)["y"], run(before, feeds)["y"], rtol=1e-5, atol=1e-6)


WITHOUT = BLOCKS.replace("[bn2] f = BatchNormalization(d, g, e, m, v) ", "").replace("(f, s)", "(d, s)")
LEFT = {
    ("conv2", "sum"): (WITHOUT, "no input of Add 'sum' is constant"),
    ("conv1", "act1"): (BLOCKS, "Relu 'act1' does not read what Conv 'conv1' makes"),
    ("act1", "conv2"): (BLOCKS, "Relu 'act1' is none of Conv, ConvTranspose, Gemm, MatMul"),
    ("conv1", "act1", "bn1"): (BLOCKS, "the order Conv + Relu + BatchNormalization is none that can be fused"),
}


@pytest.mark.parametrize("group", LEFT)
def test_what_cannot_be_fused_says_why(group: tuple[str, ...]) -> None:
    text, reason = LEFT[group]
    before = build(text, CONSTANTS)
    result = quantlab.fuse(before, [group])
    assert (result.fused, result.left[0].reason) == ((), reason)
    assert str(result) == f"left   {' + '.join(group)}: {reason}"
    assert operators(result.model) == operators(before)


def test_tensors_that_others_read() -> None:
    before = build(BLOCKS.replace("Slice(c,", "Slice(b,"), CONSTANTS)
    result = quantlab.fuse(before, [["conv1", "bn1", "act1"]])
    assert result.left[0].reason == "'b', which BatchNormalization 'bn1' makes, is read by Slice 'down' too"
    outputs = BLOCKS.replace("float[1,4,4,4] y)", "float[1,4,4,4] y, float[1,4,6,6] a)")
    result = quantlab.fuse(build(outputs, CONSTANTS), [["conv1", "bn1"]])
    assert result.left[0].reason == "'a', which Conv 'conv1' makes, is a graph output too"


def test_a_pass_that_refuses_is_quoted() -> None:
    before = build(BLOCKS, {**CONSTANTS, "v": -CONSTANTS["v"]})
    reason = quantlab.fuse(before, [["conv1", "bn1"]]).left[0].reason
    assert reason.startswith("channel 0 has no finite factor (variance -")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            [["conv1", "bn3"]],
            "group ['conv1', 'bn3'] names 'bn3', which is neither one of the model's 8 nodes nor of its operators; did "
            "you mean 'bn2' or 'bn1'?",
        ),
        ([["conv1", "Relu"]], "group ['conv1', 'Relu'] mixes names of nodes and operator types: give one or the other"),
        ([["conv1"]], "a group to fuse is a list of at least two nodes or operator types, got ['conv1']"),
        (["conv1"], "a group to fuse is a list of at least two nodes or operator types, got 'conv1'"),
    ],
)
def test_groups_that_are_wrong(groups: list[list[str]], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        quantlab.fuse(build(BLOCKS, CONSTANTS), groups)
    assert str(caught.value) == message


def test_a_fused_model_needs_fewer_grids() -> None:
    before = build(BLOCKS, CONSTANTS)
    result = quantlab.quantize(quantlab.fuse(before).model, [X])
    assert {name: result.plan.nodes[name].status for name in ("conv1", "act1")} == {
        "conv1": "quantized",
        "act1": "absorbed",
    }
