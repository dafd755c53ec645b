"""Overrides of single tensors: every layout is read, and everything that does not fit is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.arrays import INT8, INT16, UINT8, QuantSpec
from quantlab.errors import OptionError, QuantlabWarning
from quantlab.plan import (
    GridOverride,
    Layout,
    Recipe,
    TensorOverride,
    activation_spec,
    overrides_to_json,
    parse_overrides,
    weight_spec,
)
from quantlab.workflow.quantize import decide, prepare_for
from quantlab.workflow.static import QuantType
from tests.operators.harness import Case, normal

NET = Case(
    name="net",
    text="""net (float[1,2,8,8] x) => (float[1,5] y, float[1,2,10,10] z, int64[4] n) {
        c = Conv<pads=[1,1,1,1]>(x, w, b)
        r = Relu(c)
        p = MaxPool<kernel_shape=[8,8]>(r)
        f = Flatten<axis=1>(p)
        m = MatMul(f, k)
        q = Sigmoid(m)
        s = Mul(q, one)
        y = Gemm<transB=1>(s, g, h)
        z = ConvTranspose(r, t)
        n = Shape(x)
    }""",
    feeds={"x": (1, 2, 8, 8)},
    constants={
        "w": normal(3, 2, 3, 3), "b": normal(3), "k": normal(3, 4), "one": normal(4), "g": normal(5, 4), "h": normal(5),
        "t": normal(3, 2, 3, 3),
    },
)  # fmt: skip
STACK = Case(
    name="stack",
    text="stack (float[2,3,4] x) => (float[2,3,5] y) { y = MatMul(x, k) }",
    feeds={"x": (2, 3, 4)},
    constants={"k": normal(2, 4, 5)},
)


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(OptionError) as error:
        act()
    return str(error.value)


def test_every_spelling_of_a_type_and_a_number_is_read() -> None:
    for kind in ("int16", "Int16", "QInt16", QuantType.QInt16, INT16):
        for scale in (0.5, [0.5], np.float32(0.5), np.array(0.5), np.array([0.5])):
            given = {"quant_type": kind, "scale": scale, "zero_point": np.array(3, np.int16)}
            assert parse_overrides({"x": given})["x"].grid == GridOverride(dtype=INT16, scale=(0.5,), zero_point=(3,))


def test_nothing_is_no_override() -> None:
    assert parse_overrides(None) == parse_overrides({}) == parse_overrides({"w": [{}]}) == parse_overrides([]) == {}


def test_overrides_survive_json() -> None:
    given = {
        "w": {"quant_type": "int4", "axis": 1, "rmin": [-1.0, -2.0], "rmax": 3.0},
        "x": {"symmetric": True, "convert": {"quant_type": "uint16", "recv_nodes": ["a"], "rmax": 2.0}},
        "v": {"scale": 0.5, "zero_point": 3, "reduce_range": None},
    }
    overrides = parse_overrides(given)
    assert parse_overrides(overrides_to_json(overrides)) == overrides
    recipe = Recipe(overrides=overrides)
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "overrides must be a dict from tensor to fields, or a list of pairs, got 3"),
        ([["w"]], "override 0 must be a pair of a tensor's name and its fields, got ['w']"),
        ([["w", {"axis": 0}], ["w", {"axis": 1}]], "tensor 'w' has two overrides: keep one"),
        ({"w": 3}, "override of tensor 'w': it must be a dict of fields, or a list of such dicts, got 3"),
        ({"w": [{"axis": 0}, 3]}, "override of tensor 'w': entry 1 must be a dict of fields, got 3"),
        ({"w": {"quant_type": "int7"}}, "override of tensor 'w': unknown type 'int7'; did you mean"),
        ({"w": {"quant_type": "int32"}},
         "override of tensor 'w': quant_type is int32 (allowed: int4, uint4, int8, uint8, int16, uint16)"),
        ({"w": {"quant_type": "float8e4m3fn"}},
         "override of tensor 'w': quant_type is float8e4m3fn (allowed: int4, uint4, int8, uint8, int16, uint16)"),
        ({"w": {"quant_type": 3}}, "override of tensor 'w': quant_type must be the name of a type (allowed:"),
        ({"w": {"symmetric": 1}}, "override of tensor 'w': symmetric must be true or false, got 1"),
        ({"w": {"axis": 1.0}}, "override of tensor 'w': axis must be an integer, got 1.0"),
        ({"w": {"scale": "1", "zero_point": 0}},
         "override of tensor 'w': scale must be a number or a list of numbers, got '1'"),
        ({"w": {"scale": 1.0, "zero_point": 0.5}},
         "override of tensor 'w': zero_point must be an integer or a list of integers, got 0.5"),
        ({"w": {"scale": 1.0}}, "override of tensor 'w': there is scale without zero_point: give both or neither"),
        ({"w": {"zero_point": 1}}, "override of tensor 'w': there is zero_point without scale: give both or neither"),
        ({"w": {"scale": 0.0, "zero_point": 0}}, "override of tensor 'w': scale is 0: it must be positive"),
        ({"w": {"scale": -0.5, "zero_point": 0}}, "override of tensor 'w': scale is -0.5: it must be positive"),
        ({"w": {"scale": float("nan"), "zero_point": 0}}, "override of tensor 'w': scale is nan: it must be finite"),
        ({"w": {"rmax": float("inf")}}, "override of tensor 'w': rmax is inf: it must be finite"),
        ({"w": {"scale": 1.0, "zero_point": 0, "symmetric": True}},
         "override of tensor 'w': symmetric does nothing beside scale and zero_point: keep one or the other"),
        ({"w": {"scale": 1.0, "zero_point": 0, "rmin": 0.0}},
         "override of tensor 'w': rmin does nothing beside scale and zero_point: keep one or the other"),
        ({"w": {"rmin": 2.0, "rmax": 1.0}}, "override of tensor 'w': rmin is 2 and rmax 1: the lower end comes first"),
        ({"w": {"scale": [1.0, 2.0], "zero_point": [0, 0]}},
         "override of tensor 'w': scale has 2 values: without axis there is one scale for the whole tensor, so give "
         "one "
         "value, or axis as well"),
        ({"w": {"axis": 0, "scale": [], "zero_point": []}},
         "override of tensor 'w': scale is an empty list: give a number for each channel, or one for all"),
        ({"w": {"axis": 0, "rmin": 0.0}},
         "override of tensor 'w': with axis, rmin and rmax come together: give both or neither"),
        ({"w": [{"quant_type": "int8"}, {}]},
         "override of tensor 'w': there are 2 entries, one a channel, and the first has no axis: give it"),
        ({"w": [{"axis": 0, "quant_type": "int8"}, {"quant_type": "int4"}]},
         "override of tensor 'w': quant_type of channel 1 differs from that of channel 0, 'int8'"),
        ({"w": [{"axis": 0, "scale": 1.0, "zero_point": 0}, {}]},
         "override of tensor 'w': channel 1 has no scale and channel 0 has: give all channels one"),
        ({"w": [{"axis": 0, "scale": [1.0, 2.0], "zero_point": 0}, {"scale": 1.0, "zero_point": 0}]},
         "override of tensor 'w': scale of a channel must be one number, got [1.0, 2.0]"),
        ({"x": {"convert": {"symmetric": True}}},
         "override of tensor 'x': convert needs a quant_type: the type that its readers are given"),
        ({"x": {"convert": 3}}, "override of tensor 'x': convert must be a dict of fields, got 3"),
        ({"x": {"convert": {"quant_type": "int8", "recv_nodes": "a"}}},
         "override of tensor 'x': recv_nodes must be a list of node names, got 'a'"),
        ({"x": {"convert": {"quant_type": "int8", "recv_nodes": []}}},
         "override of tensor 'x': recv_nodes is empty: name the nodes, or leave it out for all of them"),
        ({"x": {"convert": {"quant_type": "int8", "axis": 0}}},
         "override of tensor 'x': axis in convert is for constants, and only activations are converted"),
        ({"x": {"recv_nodes": ["a"]}}, "override of tensor 'x': unknown field 'recv_nodes'"),
    ],
)  # fmt: skip
def test_what_no_model_could_take_is_refused(given: Any, message: str) -> None:
    assert refusal(lambda: parse_overrides(given)).startswith(message)


def decided(case: Case, given: Any, **recipe: Any) -> Any:
    chosen = Recipe(overrides=parse_overrides(given), **recipe)
    return decide(prepare_for(case.model(), chosen), chosen)


FAR = "(preparing a model may fold tensors away; `quantlab plan` names those it quantizes)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"w": {"reduce_range": True}, "x": {"symmetric": True}, "cc": {"symmetric": True}},
         f"there is an override of tensor 'cc', which the prepared model does not have; did you mean 'c'? {FAR}"),
        ({"n": {"symmetric": True}}, "override of tensor 'n': it is int64; only float tensors are quantized"),
        ({"x": {"axis": 0}},
         "override of tensor 'x': it is an activation, and those have one scale for the whole tensor: leave axis out"),
        ({"x": {"reduce_range": True}},
         "override of tensor 'x': it is an activation, and reduce_range is for constants: leave it out"),
        ({"w": {"convert": {"quant_type": "int16"}}},
         "override of tensor 'w': it is a constant, and only activations are converted: leave convert out"),
        ({"w": {"axis": 4}},
         "override of tensor 'w': axis 4 is out of range for shape (3, 2, 3, 3) (allowed: 0..3; the channels of "
         "Conv lie "
         "on axis 0)"),
        ({"w": {"axis": 1}}, "override of tensor 'w': axis is 1, and the channels of Conv 'Conv_0' lie on axis 0"),
        ({"t": {"axis": 0}},
         "override of tensor 't': axis is 0, and the channels of ConvTranspose 'ConvTranspose_8' lie on axis 1"),
        ({"g": {"axis": 1}}, "override of tensor 'g': axis is 1, and the channels of Gemm 'Gemm_7' lie on axis 0"),
        ({"k": {"axis": 0}}, "override of tensor 'k': axis is 0, and the channels of MatMul 'MatMul_4' lie on axis 1"),
        ({"one": {"axis": 0}},
         "override of tensor 'one': it is read by Mul 'Mul_6', whose integer kernel takes one scale for the whole "
         "of it:"),
        ({"w": {"axis": 0, "scale": [1.0, 1.0], "zero_point": 0}},
         "override of tensor 'w': scale has 2 values, and axis 0 of shape (3, 2, 3, 3) has 3 channels: give 3 "
         "values, or "
         "one for all"),
        ({"w": {"scale": 1.0, "zero_point": 128}},
         "override of tensor 'w': zero point 128 (channel 0) must lie in -128..127"),
        ({"x": {"quant_type": "uint8", "scale": 1.0, "zero_point": -1}},
         "override of tensor 'x': zero point -1 (channel 0) must lie in 0..255"),
        ({"x": {"scale": 1e-60, "zero_point": 0}},
         "override of tensor 'x': scale 0.0 (channel 0) must be positive and finite"),
        ({"x": {"scale": 1e60, "zero_point": 0}},
         "override of tensor 'x': scale inf (channel 0) must be positive and finite"),
        ({"x": {"convert": {"quant_type": "uint8"}}},
         "override of tensor 'x': convert goes from uint8 to uint8: give another quant_type, or leave it out"),
        ({"r": {"convert": {"quant_type": "int16", "recv_nodes": ["MaxPool"]}}},
         "override of tensor 'r': recv_nodes has 'MaxPool', which does not read it; did you mean 'MaxPool_2'? (its "
         "readers: ['MaxPool_2', 'ConvTranspose_8'])"),
        ({"x": {"quant_type": "int8"}, "w": {"quant_type": "uint8"}},
         "by the overrides, Conv 'Conv_0' multiplies 'x', int8, by 'w', uint8, for which onnxruntime has no kernel: "
         "make "
         "the weight int8, or the activation uint8"),
    ],
)  # fmt: skip
def test_what_this_model_cannot_take_is_refused(given: Any, message: str) -> None:
    assert refusal(lambda: decided(NET, given)).startswith(message)


def test_a_stack_of_matrices_has_no_channels() -> None:
    message = refusal(lambda: decided(STACK, {"k": {"axis": 2}}))
    assert message.startswith("override of tensor 'k': it is read by MatMul 'MatMul_0', whose integer kernel takes one")


@pytest.mark.parametrize(("name", "axis"), [("w", 0), ("t", 1), ("g", 0), ("k", 1), ("k", -1), ("w", -4)])
def test_channels_lie_where_the_operator_has_them(name: str, axis: int) -> None:
    spec = decided(NET, {name: {"axis": axis}}).tensors[name].spec
    assert spec.axis == axis % len(NET.constants[name].shape)
    assert spec.symmetric


def test_lists_of_weights_and_activations_hold_what_they_say() -> None:
    for name, kind, words in (("x", "weight", "an activation"), ("w", "activation", "a constant")):
        chosen = Recipe(overrides=parse_overrides([[name, {"symmetric": True}]], kind=kind))  # type: ignore[arg-type]
        message = refusal(lambda chosen=chosen: decide(prepare_for(NET.model(), chosen), chosen))
        assert message.startswith(f"override of tensor {name!r}: it is {words} of the model, and stands among the")


def test_overrides_of_tensors_that_stay_float_are_warned_of() -> None:
    line = "the override of tensor 'g' does nothing: no quantized node reads or makes it"
    with pytest.warns(QuantlabWarning) as caught:
        plan = decided(NET, {"g": {"symmetric": True}}, op_types=("Conv",))
    assert [str(one.message) for one in caught] == list(plan.notes) == [line]


def test_a_conversion_is_only_where_it_can_be() -> None:
    overrides = {"x": TensorOverride(convert=GridOverride(dtype=INT16))}
    wanted = "override of tensor 'x': convert and dedicated_pairs both say which pair a node reads: keep one of them"
    assert refusal(lambda: Recipe(overrides=overrides, layout=Layout(dedicated_pairs=True))) == wanted
    wanted = "override of tensor 'x': format QOperator knows no convert: take format QDQ"
    assert refusal(lambda: Recipe(overrides=overrides, format="QOperator")) == wanted
    wide = {"x": TensorOverride(grid=GridOverride(dtype=INT16))}
    assert refusal(lambda: Recipe(overrides=wide, format="QOperator")).startswith(
        "override of tensor 'x': format QOperator has no operators on int16"
    )


def test_types_of_overrides_raise_the_opset() -> None:
    for given in ({"x": {"quant_type": "int16"}}, {"x": {"convert": {"quant_type": "int16"}}}):
        recipe = Recipe(overrides=parse_overrides(given))
        imports = prepare_for(NET.model(), recipe).model.opset_import
        assert onnx.helper.make_opsetid("", 21) in imports


@pytest.mark.parametrize(
    ("usual", "weight", "override", "wanted"),
    [
        (weight_spec("int8"), True, GridOverride(dtype=UINT8), QuantSpec(dtype=UINT8)),
        (weight_spec("uint8"), True, GridOverride(dtype=INT8), weight_spec("int8")),
        (weight_spec("uint8", symmetric=True), True, GridOverride(dtype=INT8), weight_spec("int8")),
        (weight_spec("int8", symmetric=False), True, GridOverride(dtype=INT16), QuantSpec(dtype=INT16)),
        (
            weight_spec("int8", reduce_range=True),
            True,
            GridOverride(dtype=INT16),
            weight_spec("int16", reduce_range=True),
        ),
        (activation_spec("uint8"), False, GridOverride(dtype=INT16), activation_spec("int16")),
        (activation_spec("int8"), False, GridOverride(symmetric=True), activation_spec("int8", symmetric=True)),
    ],
)
def test_what_an_override_leaves_open_follows_the_recipe(
    usual: QuantSpec, weight: bool, override: GridOverride, wanted: QuantSpec
) -> None:
    assert override.spec(usual, weight=weight) == wanted
