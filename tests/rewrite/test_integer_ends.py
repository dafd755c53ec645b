"""Integers at the ends: such a model computes what the one with rounding inside does, to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantlab.arrays import dequantize, quantize
from quantlab.errors import OptionError
from quantlab.plan import Layout, Recipe, activation_spec, parse_overrides
from quantlab.workflow.quantize import QuantResult, calibrate, decide, prepare_for, write
from tests.operators.harness import Array, Case, run
from tests.operators.test_options_parity import ATTENTION, MOVES, NET

ENDS = Layout(integer_inputs=True, integer_outputs=True)


def both(case: Case, recipe: Recipe) -> tuple[QuantResult, QuantResult]:
    prepared = prepare_for(case.model(), recipe)
    plan = calibrate(prepared, decide(prepared, recipe), case.batches(), recipe)
    return write(prepared, plan), write(prepared, replace(plan, layout=ENDS))


def fed(result: QuantResult, feeds: dict[str, Array]) -> dict[str, Array]:
    plans = result.plan.tensors
    return {name: quantize(x, grid) if (grid := _grid(plans, name)) else x for name, x in feeds.items()}


def _grid(plans, name):  # type: ignore[no-untyped-def]
    return plans[name].qparams if name in plans else None


@pytest.mark.parametrize("kind", ["QDQ", "QOperator"])
@pytest.mark.parametrize("case", [NET, ATTENTION, MOVES], ids=lambda case: case.name)
def test_the_same_numbers_without_rounding_inside(case: Case, kind: str) -> None:
    outside, inside = both(case, Recipe(format=kind))  # type: ignore[arg-type]
    onnx.checker.check_model(inside.model, full_check=True)
    for feeds in case.batches(2):
        for optimize in (False, True):
            wanted = run(outside.model, feeds, optimize=optimize)
            found = run(inside.model, fed(inside, dict(feeds)), optimize=optimize)
            for name, values in found.items():
                grid = _grid(inside.plan.tensors, name)
                back = values if grid is None else dequantize(values, grid)
                assert grid is None or values.dtype == np.uint8
                np.testing.assert_array_equal(back, wanted[name])


def test_who_reads_an_input_in_float_reads_it_turned_back() -> None:
    outside, inside = both(NET, Recipe(op_types=("Conv",), activation=activation_spec("int8")))
    assert inside.model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT8
    mixed = Case(
        name="mixed",
        text="mixed (float[1,2,4,4] x) => (float[1,2,4,4] y) { c = Conv(x, w) y = Add(c, x) }",
        feeds={"x": (1, 2, 4, 4)},
        constants={"w": np.ones((2, 2, 1, 1), np.float32)},
    )
    outside, inside = both(mixed, Recipe(op_types=("Conv",)))
    onnx.checker.check_model(inside.model, full_check=True)
    feeds = {"x": dequantize(fed(inside, dict(mixed.batches()[0]))["x"], inside.plan.tensors["x"].qparams)}
    found = run(inside.model, fed(inside, feeds))["y"]
    np.testing.assert_array_equal(found, run(outside.model, feeds)["y"])


def test_only_what_is_asked_for_becomes_integers() -> None:
    recipe = Recipe(layout=Layout(integer_outputs=True))
    prepared = prepare_for(NET.model(), recipe)
    model = write(prepared, calibrate(prepared, decide(prepared, recipe), NET.batches(), recipe)).model
    kinds = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert kinds == [onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8, onnx.TensorProto.UINT8]


def test_a_converted_output_has_the_type_it_is_converted_to() -> None:
    overrides = parse_overrides({"y": {"quant_type": "uint16", "convert": {"quant_type": "int8"}}})
    _, inside = both(NET, Recipe(overrides=overrides))
    assert inside.model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.INT8
    assert run(inside.model, fed(inside, dict(NET.batches()[0])))["y"].dtype == np.int8


def test_ends_that_a_body_reads_stay_float_or_are_refused() -> None:
    text = """g (float[2] x, bool c) => (float[2] y) {
        s = Sigmoid(x)
        y = If(c) <
            then_branch = t () => (float[2] a) { a = Add(x, s) }, else_branch = e () => (float[2] b) { b = Neg(s) }
        >
    }"""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> {text}')
    recipe = Recipe(layout=Layout(integer_inputs=True))
    with pytest.raises(OptionError) as error:
        decide(prepare_for(model, recipe), recipe)
    assert str(error.value) == (
        "'x' cannot become integers, for the body of a control-flow node reads it: leave integer_inputs and "
        "integer_outputs out"
    )


def test_scales_of_the_ends_stay_in_the_model() -> None:
    _, inside = both(NET, Recipe())
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in inside.model.graph.initializer}
    assert scales["x_scale"] == inside.plan.tensors["x"].qparams.scale  # type: ignore[union-attr]
