"""What a person writes into a plan ends up in the model, and what follows from it is brought up to date."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.graph import GraphView
from quantlab.plan import QuantPlan, resolve
from quantlab.rewrite import insert_qdq
from quantlab.workflow.edited import edited
from tests.operators.harness import INT8, UINT8, Case, initializers, normal, operators, quantized, run

CASE = Case(
    name="edited",
    text="""g (float[1,4,5,5] x) => (float[1,4,2,2] z) {
        t = Conv(x, w, b)
        r = Relu(t)
        p = MaxPool<kernel_shape = [2,2]>(r)
        z = Sigmoid(p)
    }""",
    feeds={"x": (1, 4, 5, 5)},
    constants={"w": normal(4, 4, 3, 3), "b": normal(4)},
)


def _apply(change: Callable[[dict[str, Any]], object]) -> tuple[onnx.ModelProto, QuantPlan]:
    result = quantized(CASE, INT8)
    plain = json.loads(result.plan.to_json())
    change(plain["tensors"])
    view = GraphView.of(result.prepared.model)
    plan = resolve(edited(QuantPlan.from_json(json.dumps(plain)), view).plan, {}, view)
    model = insert_qdq(result.prepared.model, plan)
    onnx.checker.check_model(model, full_check=True)
    assert np.isfinite(run(model, CASE.batches()[0])["z"]).all()
    return model, plan


def test_nothing_edited_nothing_changed() -> None:
    result = quantized(CASE, INT8)
    model, plan = _apply(lambda tensors: None)
    assert initializers(model).keys() == initializers(result.model).keys()
    for name, values in initializers(result.model).items():
        np.testing.assert_array_equal(initializers(model)[name], values)
    assert plan.nodes == result.plan.nodes


def test_a_scale_written_by_hand_ends_up_in_the_model_and_in_the_bias() -> None:
    model, _ = _apply(lambda tensors: tensors["x"].update(scale=0.5, zero_point=3))
    stored = initializers(model)
    assert (float(stored["x_scale"]), int(stored["x_zero_point"])) == (0.5, 3)
    assert stored["b_quantized_scale"] == np.float32(0.5) * stored["w_scale"]
    np.testing.assert_array_equal(
        stored["b_quantized"], np.rint(CASE.constants["b"].astype(np.float64) / stored["b_quantized_scale"])
    )


def _rewrite(name: str, **fields: object) -> Callable[[dict[str, Any]], object]:
    def change(tensors: dict[str, Any]) -> None:
        for field in ("scale", "zero_point"):
            del tensors[name][field]
        tensors[name].update(fields)

    return change


def test_a_range_written_by_hand_gives_the_scale() -> None:
    model, plan = _apply(_rewrite("r", range=[0, 25.5]))
    assert initializers(model)["r_scale"] == np.float32(0.1)
    assert plan.tensors["p"].qparams == plan.tensors["r"].qparams


@pytest.mark.parametrize(
    ("ends", "status"), [([0.0, 8.0], "absorbed"), ([-1.0, 8.0], "quantized"), ([-0.0156, 8.0], "absorbed")]
)
def test_a_relu_stays_where_the_numbers_do_not_saturate_at_zero(ends: list[float], status: str) -> None:
    model, plan = _apply(_rewrite("r", range=ends))
    assert ("Relu" in operators(model)) == (status == "quantized")
    assert plan.nodes["Relu_1"].status == status
    if status == "quantized":
        assert plan.nodes["Relu_1"].reason == "kept before the grid of 'r', which does not end where it clips"


def test_a_clip_stays_where_the_grid_reaches_further() -> None:
    case = Case(
        name="relu6",
        text="g (float[1,4,5,5] x) => (float[1,4,3,3] y) { t = Conv(x, w) y = Clip(t, lo, hi) }",
        feeds={"x": (1, 4, 5, 5)},
        constants={
            "w": normal(4, 4, 3, 3),
            "lo": np.asarray(0, np.float32),
            "hi": np.asarray(6, np.float32),
        },
    )
    result = quantized(case, UINT8)
    assert operators(result.model) == ["Conv"]
    view = GraphView.of(result.prepared.model)
    for top, expected in ((6.0, ["Conv"]), (5.0, ["Conv"]), (7.0, ["Conv", "Clip"])):
        plain = json.loads(result.plan.to_json())
        _rewrite("y", range=[0, top])(plain["tensors"])
        plan = resolve(edited(QuantPlan.from_json(json.dumps(plain)), view).plan, {}, view)
        assert operators(insert_qdq(result.prepared.model, plan)) == expected


def test_an_entry_taken_out_leaves_the_tensor_in_float() -> None:
    model, _ = _apply(lambda tensors: tensors.pop("z"))
    assert "z_scale" not in initializers(model)
