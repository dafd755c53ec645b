"""Overrides of single tensors on the same model and data as in onnxruntime.quantization: same nodes, same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import QuantType

from quantlab.workflow.explain import explain
from quantlab.workflow.quantize import QuantResult
from tests.operators.harness import Array, initializers, run
from tests.operators.peer import differences
from tests.operators.test_options_parity import (
    ATTENTION,
    CASES,
    NET,
    by_peer,
    by_us,
    edges,
    runs_as_planned,
)

INT4, INT8, UINT8 = QuantType.QInt4, QuantType.QInt8, QuantType.QUInt8
INT16, UINT16 = QuantType.QInt16, QuantType.QUInt16
UNSIGNED = {"activation_type": "QUInt8"}


def f32(value: float) -> Array:
    """The peer wants numbers of activations as arrays."""
    return np.array(value, np.float32)


def zero(value: int, kind: type = np.int16) -> Array:
    return np.array(value, kind)


OVERRIDES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("net", {"w": [{"quant_type": INT16}]}, {}),
    ("net", {"w": [{"quant_type": INT16, "axis": 0}]}, {}),
    ("net", {"w": [{"quant_type": INT8}]}, {"per_channel": True}),
    ("net", {"w": [{"quant_type": INT16, "scale": f32(0.0025), "zero_point": zero(-12)}]}, {}),
    ("net", {"w": [{"axis": 0, "scale": s, "zero_point": 0} if i == 0 else {"scale": s, "zero_point": 0}
                   for i, s in enumerate((0.01, 0.02, 0.03))]}, {}),
    ("net", {"w": [{"axis": 0, "rmin": f32(-1), "rmax": f32(2)}, *({"rmin": f32(-1), "rmax": f32(3)},) * 2]}, {}),
    ("net", {"w": [{"symmetric": False}]}, {}),
    ("net", {"w": [{"symmetric": False, "axis": 0}]}, {}),
    ("net", {"w": [{"reduce_range": True}]}, {}),
    ("net", {"w": [{"rmin": f32(-1.5)}]}, {}),
    ("net", {"b": [{"quant_type": INT8}]}, {}),
    ("net", {"g": [{"quant_type": INT4}]}, {}),
    ("net", {"g": [{"quant_type": QuantType.QUInt4, "axis": 1}]}, UNSIGNED),
    ("net", {"g": [{"axis": -1}]}, UNSIGNED),
    ("net", {"side": [{"quant_type": INT16}]}, {}),
    ("net", {"side": [{"quant_type": INT16, "scale": f32(0.002), "zero_point": zero(0)}]}, {}),
    ("net", {"x": [{"rmin": f32(-1.5), "rmax": f32(2.0)}]}, {}),
    ("net", {"x": [{"rmin": f32(-1.5)}]}, {}),
    ("net", {"x": [{"symmetric": True}]}, {}),
    ("net", {"r": [{"quant_type": INT16}]}, {}),
    ("net", {"x": [{"quant_type": INT16, "convert": {"quant_type": UINT8}}]}, {}),
    ("net", {"side": [{"quant_type": UINT16, "convert": {"quant_type": INT8}}]}, {}),
    ("net", {"y": [{"quant_type": INT16, "convert": {"quant_type": INT8}}]}, {}),
    ("attention", {"q": [{"quant_type": UINT16, "convert": {"quant_type": UINT8, "recv_nodes": {"MatMul_3"}}}],
                   "w": [{"quant_type": UINT8}]}, UNSIGNED),
    ("attention", {"k": [{"quant_type": UINT16, "convert": {"quant_type": UINT8}}]}, UNSIGNED),
    ("attention", {"m": [{"quant_type": UINT16, "rmax": f32(0.5),
                          "convert": {"quant_type": UINT8, "rmax": f32(0.6), "symmetric": True}}]}, UNSIGNED),
    ("attention", {"y": [{"quant_type": INT16, "convert": {"quant_type": UINT8, "scale": f32(0.1),
                                                            "zero_point": zero(3, np.uint8)}}]}, UNSIGNED),
    ("attention", {"q": [{"convert": {"quant_type": INT16}}]}, UNSIGNED),
)  # fmt: skip


@pytest.mark.parametrize(("name", "overrides", "settings"), OVERRIDES, ids=str)
def test_same_as_onnxruntime_quantization(name: str, overrides: dict[str, Any], settings: dict[str, Any]) -> None:
    options = {"TensorQuantOverrides": overrides}
    result = by_us(CASES[name], options, settings)
    peer = by_peer(result.prepared.model, CASES[name], options, settings)
    assert differences(result.model, peer) == {}
    assert edges(result.model) == edges(peer)
    runs_as_planned(CASES[name], result)


def compared(overrides: dict[str, Any]) -> tuple[QuantResult, Any, dict[str, list[str]]]:
    result = by_us(NET, {"TensorQuantOverrides": overrides}, {})
    peer = by_peer(result.prepared.model, NET, {"TensorQuantOverrides": overrides}, {})
    runs_as_planned(NET, result)
    return result, peer, differences(result.model, peer)


def test_a_symmetric_input_keeps_its_relu() -> None:
    # The peer takes the Relu out, and negative values pass.
    result, peer, found = compared({"r": [{"symmetric": True}]})
    assert found["operators"] == ["DequantizeLinear 14 13", "QuantizeLinear 8 7", "Relu 1 0"]
    feeds = NET.batches()[0]
    exposed = [run(_giving(model, "r_DequantizeLinear_Output"), feeds) for model in (result.model, peer)]
    assert [bool((found["r_DequantizeLinear_Output"] < 0).any()) for found in exposed] == [False, True]


def _giving(model: Any, name: str) -> Any:
    """Return a copy of a model that gives one of its tensors out."""
    copy = type(model)()
    copy.CopyFrom(model)
    copy.graph.output.add(name=name).type.tensor_type.elem_type = 1
    return copy


def test_a_converted_output_takes_over_from_its_relu_all_the_same() -> None:
    # The peer keeps the Relu, with a pair in front that rounds to the same grid.
    converted = {"quant_type": INT16, "convert": {"quant_type": INT8, "recv_nodes": {"Conv_2"}}}
    assert compared({"r": [converted]})[2]["operators"] == ["DequantizeLinear 15 16", "QuantizeLinear 8 9", "Relu 0 1"]


def test_a_moved_tensor_with_an_override_has_its_own_grid() -> None:
    # The peer shares the input's grid and says nothing of the override.
    result, _, found = compared({"p": [{"quant_type": INT16}]})
    assert found["initializers"] == ["+p_scale", "+p_zero_point"]
    assert initializers(result.model)["p_zero_point"].dtype == np.int16


def test_given_scales_of_a_weight_are_not_widened_for_its_bias() -> None:
    # The peer widens them; here they stand, the bias saturates, and a note says so.
    overrides = {"w": [{"scale": f32(1e-12), "zero_point": 0}]}
    result = by_us(NET, {"TensorQuantOverrides": overrides}, {})
    peer = by_peer(result.prepared.model, NET, {"TensorQuantOverrides": overrides}, {})
    assert initializers(result.model)["w_scale"] == np.float32(1e-12)
    assert initializers(peer)["w_scale"] > 1e-12
    assert any(note.startswith("bias 'b' saturates") for note in result.plan.notes)


def test_lists_and_a_dict_a_channel_make_the_same_model() -> None:
    listed = {"w": {"axis": 0, "scale": [0.01, 0.02, 0.03], "zero_point": [0, 0, 0]}}
    dicts = {"w": [{"axis": 0, "scale": 0.01, "zero_point": 0}, *({"scale": s, "zero_point": 0} for s in (0.02, 0.03))]}
    pairs = {"weights_tensor_override": [["w", listed["w"]]], "activations_tensor_override": [["x", {"rmin": -1.0}]]}
    one, other = (by_us(NET, {"TensorQuantOverrides": each}, {}) for each in (listed, dicts))
    assert one.model.SerializeToString() == other.model.SerializeToString()
    both = by_us(NET, pairs, {})
    assert initializers(both.model)["w_scale"].tolist() == initializers(one.model)["w_scale"].tolist()
    assert both.plan.tensors["x"].values is not None
    assert float(both.plan.tensors["x"].values.lo) == -1.0


def test_an_override_without_axis_is_per_tensor_and_its_bias_too() -> None:
    result = by_us(NET, {"TensorQuantOverrides": {"w": {"quant_type": "int16"}}}, {"per_channel": True})
    found = initializers(result.model)
    assert found["w_scale"].shape == found["b_quantized_scale"].shape == ()
    assert found["v_scale"].shape == (3,)


def test_a_zero_point_that_leaves_symmetry_is_noted() -> None:
    override = {"quant_type": "Int16", "scale": 0.0025, "zero_point": -12}
    result = by_us(NET, {"TensorQuantOverrides": {"w": override}}, {})
    found = initializers(result.model)
    assert (found["w_scale"], found["w_zero_point"], found["w_quantized"].dtype) == (np.float32(0.0025), -12, np.int16)
    assert result.plan.notes == (
        "the override of weight 'w' gives zero point -12, and the recipe asks for symmetric weights: the override "
        "stands",
    )


def test_conversions_survive_json() -> None:
    convert = {"quant_type": "int16", "recv_nodes": ["MatMul_3"], "rmin": -1.0}
    result = by_us(ATTENTION, {"TensorQuantOverrides": {"q": {"convert": convert}}}, {})
    plan = type(result.plan).from_json(result.plan.to_json())
    assert plan == result.plan
    assert plan.tensors["q"].convert is not None
    assert plan.tensors["q"].convert.readers == ("MatMul_3",)
    assert "  converted for MatMul_3: int16, asymmetric, per tensor" in explain(plan, "q")
