"""Tensors of 16 bits among 8: converted where that keeps a node on integers, left where it would not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime import quantization as peer

from quantlab import ort as drop_in
from quantlab.arrays import dtype
from quantlab.plan import Layout, Recipe, RecipeRule, TensorOverride, activation_spec, weight_spec
from quantlab.plan.entries import Conversion, TensorPlan
from quantlab.plan.overrides import GridOverride
from quantlab.workflow.engine import Engine
from quantlab.workflow.explain import explain
from quantlab.workflow.quantize import QuantResult, calibrate, decide, prepare_for, write
from tests.operators.harness import Case, executed, judge, normal
from tests.operators.peer import differences, reader

X = "float[1,4,6,6]"
NET = Case(
    name="mixed-net",
    text=f"""g ({X} x) => ({X} y) {{
        t = Conv(x, w, b)
        s = Sigmoid(x)
        a = Add(t, s)
        y = Conv(a, v, b)
    }}""",
    feeds={"x": (1, 4, 6, 6)},
    constants={"w": normal(4, 4, 1, 1), "v": normal(4, 4, 1, 1, seed=1), "b": normal(4, seed=2)},
)
ALONE = replace(NET, constants={**NET.constants, "c": normal(4, seed=3)}, text=NET.text.replace("v, b", "v, c"))
"""Each Conv has a bias of its own."""
MOVED = replace(
    NET,
    name="mixed-moved",
    text=f"""g ({X} x) => (float[1,4,6,6] y) {{
        s = Sigmoid(x)
        t = Transpose<perm = [0,1,3,2]>(s)
        y = Conv(t, w, b)
    }}""",
    constants={"w": normal(4, 4, 1, 1), "b": normal(4, seed=2)},
)


def override(kind: str) -> TensorOverride:
    return TensorOverride(grid=GridOverride(dtype=dtype(kind)))


def made(case: Case, overrides: Mapping[str, TensorOverride], layout: Layout = Layout()) -> QuantResult:  # noqa: B008
    recipe = Recipe(
        activation=activation_spec("uint8"),
        weight=weight_spec("int8"),
        overrides=overrides,
        layout=layout,
        optimize=False,
    )
    return by(case, recipe)


def by(case: Case, recipe: Recipe) -> QuantResult:
    prepared = prepare_for(case.model(), recipe)
    plan = calibrate(prepared, decide(prepared, recipe), case.batches(), recipe, engine=Engine.like_onnxruntime())
    return write(prepared, plan)


def test_an_add_of_16_and_8_bits_is_computed_on_integers() -> None:
    result = made(NET, {"s": override("uint16")})
    judge(NET, result)
    second = result.plan.tensors["s"].convert
    assert second is not None
    assert (second.spec.dtype.name, second.readers) == ("uint8", ("Add_2",))
    assert "QLinearAdd" in executed(result.model)
    plain = made(NET, {"s": override("uint16")}, Layout(converts=False))
    assert plain.plan.tensors["s"].convert is None
    assert "QLinearAdd" not in executed(plain.model)
    assert "Add" in executed(plain.model)


def test_the_plan_says_so() -> None:
    plan = made(NET, {"s": override("uint16")}).plan
    said = explain(plan, "s")
    assert said[1] == (
        "  why: activation made by Sigmoid 'Sigmoid_1'; activation read by Add 'Add_2'; converted to uint8 for Add_2: "
        "with 16 bits for one of its tensors, onnxruntime would compute the node in float"
    )
    assert "  converted for Add_2: uint8, asymmetric, per tensor" in said
    assert type(plan).from_json(plan.to_json()) == plan


@pytest.mark.parametrize("kind", ["int16", "uint16"])
def test_the_bias_of_a_conv_is_on_the_grid_that_it_reads(kind: str) -> None:
    result = made(NET, {"a": override(kind)})
    judge(NET, result)
    tensor, bias = result.plan.tensors["a"], result.plan.tensors["b"]
    assert tensor.convert is not None
    assert tensor.convert.readers == ("Conv_3",)
    assert not bias.on_converted  # it serves the first Conv, and the second reads it in float
    result = made(ALONE, {"a": override(kind)})
    judge(ALONE, result)
    tensor, bias, weight = (result.plan.tensors[name] for name in ("a", "c", "v"))
    assert tensor.convert is not None
    assert tensor.convert.qparams is not None
    assert weight.qparams is not None
    assert bias.qparams is not None
    assert bias.on_converted
    assert float(bias.qparams.scale) == np.float32(tensor.convert.qparams.scale * weight.qparams.scale)
    found = executed(result.model)
    assert found.count("QLinearConv") == 2
    assert "QLinearAdd" not in found  # it makes 16 bits


def test_what_only_moves_values_moves_them_on_8_bits() -> None:
    result = made(MOVED, {"s": override("int16")})
    judge(MOVED, result)
    source, moved = result.plan.tensors["s"], result.plan.tensors["t"]
    assert source.convert is not None
    assert source.convert.readers == ("Transpose_1",)
    assert (moved.like, moved.on_converted, moved.spec.dtype.name) == ("s", True, "uint8")
    assert "QLinearConv" in executed(result.model)


def test_others_who_read_what_is_moved_keep_its_16_bits() -> None:
    text = MOVED.text.replace(f"({X} x) => (", f"({X} x) => ({X} z, ").replace("y = Conv", "z = Erf(t) y = Conv")
    case = replace(MOVED, text=text)
    result = made(case, {"s": override("int16")})
    judge(case, result)
    assert result.plan.tensors["t"].spec.dtype.name == "int16"
    assert result.plan.tensors["s"].convert is None


def test_an_output_of_16_bits_is_no_reason_to_convert() -> None:
    result = made(NET, {"y": override("uint16")})
    assert all(tensor.convert is None for tensor in result.plan.tensors.values())


def test_weights_of_16_bits_keep_a_node_in_float_anyway() -> None:
    overrides = {"x": override("uint16"), "w": override("int16")}
    second = made(NET, overrides).plan.tensors["x"].convert
    assert second is not None
    assert second.readers == ("Sigmoid_1",)


def test_what_an_override_says_of_conversions_stands() -> None:
    asked = TensorOverride(
        grid=GridOverride(dtype=dtype("uint16")),
        convert=GridOverride(dtype=dtype("int8")),
        readers=("Add_2",),
    )
    second = made(NET, {"s": asked}).plan.tensors["s"].convert
    assert second is not None
    assert second.spec.dtype.name == "int8"


def test_rules_by_node_mix_types_too() -> None:
    recipe = Recipe(
        activation=activation_spec("uint8"),
        rules=(RecipeRule(nodes=("Sigmoid_1",), activation=activation_spec("int16")),),
        optimize=False,
    )
    result = by(NET, recipe)
    judge(NET, result)
    assert {name: t.convert.readers for name, t in result.plan.tensors.items() if t.convert} == {"s": ("Add_2",)}


def test_int8_beside_uint8_needs_no_conversion() -> None:
    result = made(NET, {"s": override("int8")})
    judge(NET, result)
    assert result.plan.tensors["s"].convert is None
    assert "QLinearAdd" in executed(result.model)


def test_the_drop_in_converts_on_request_only_as_the_peer_does(tmp_path: Path) -> None:
    model = ALONE.model()
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    onnx.save(model, tmp_path / "f.onnx")
    found = []
    for room in (drop_in, peer):
        room.quantize_static(
            tmp_path / "f.onnx",
            tmp_path / "q.onnx",
            reader(ALONE.batches()),
            activation_type=room.QuantType.QUInt8,
            extra_options={"TensorQuantOverrides": {"s": [{"quant_type": room.QuantType.QInt16}]}},
        )
        found.append(onnx.load(tmp_path / "q.onnx"))
    assert differences(*found) == {}


def test_dedicated_pairs_are_left_as_they_are() -> None:
    result = made(NET, {"s": override("uint16")}, Layout(dedicated_pairs=True))
    assert result.plan.tensors["s"].convert is None


def test_thousands_of_readers_cost_one_look_each() -> None:
    """A tuple searched for each of n readers would take n^2 / 2 comparisons."""
    compared = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)  # type: ignore[no-any-return]

        __hash__ = str.__hash__

    names = [Counted(f"n{i}") for i in range(2000)]
    spec = activation_spec("uint8")
    tensor = TensorPlan(role="activation", spec=spec, convert=Conversion(spec=spec, readers=tuple(names)))
    assert all(tensor.converts_for(f"n{i}") for i in range(2000))
    assert not tensor.converts_for("m")
    assert compared < 4000
