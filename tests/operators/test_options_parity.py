"""Each key of `extra_options` on the same model and data as in onnxruntime.quantization: same nodes, same bytes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

from quantlab.backend import OrtBackend
from quantlab.errors import OptionError, QuantlabWarning
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import QuantResult, calibrate, decide, prepare_for, write
from quantlab.workflow.static import make_recipe
from tests.operators.harness import Case, initializers, normal, oracle, output_step, run
from tests.operators.peer import differences, reader

NET = Case(
    name="net",
    text="""net (float[1,2,8,8] x) => (float[1,5] y, float[1,3,8,8] side) {
        c = Conv<pads=[1,1,1,1]>(x, w, b)
        r = Relu(c)
        d = Conv<pads=[1,1,1,1]>(r, v, a)
        k = Clip(d, lo, hi)
        side = Add(r, k)
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(side)
        f = Reshape(p, shape)
        y = Gemm(f, g, h)
    }""",
    feeds={"x": (1, 2, 8, 8)},
    constants={
        "w": normal(3, 2, 3, 3, seed=1),
        "b": normal(3, seed=2),
        "v": normal(3, 3, 3, 3, seed=3),
        "a": normal(3, seed=4),
        "lo": np.float32(0),
        "hi": np.float32(6),
        "shape": np.asarray([1, 48], np.int64),
        "g": normal(48, 5, seed=5),
        "h": normal(5, seed=6),
    },
)
ATTENTION = Case(
    name="attention",
    text="""attention (float[1,4,6] x) => (float[1,4,6] y) {
        q = MatMul(x, w)
        k = MatMul(x, v)
        t = Transpose<perm=[0,2,1]>(k)
        s = MatMul(q, t)
        m = Softmax<axis=-1>(s)
        y = MatMul(m, q)
    }""",
    feeds={"x": (1, 4, 6)},
    constants={"w": normal(6, 6, seed=7), "v": normal(6, 6, seed=8)},
)
MOVES = Case(
    name="moves",
    text="""moves (float[1,2,4,4] x) => (float[1,32] y) {
        t = Transpose<perm=[0,2,3,1]>(x)
        s = Abs(t)
        p = MaxPool<kernel_shape=[1,1]>(s)
        y = Flatten<axis=1>(p)
    }""",
    feeds={"x": (1, 2, 4, 4)},
)
CASES = {case.name: case for case in (NET, ATTENTION, MOVES)}

OPTIONS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("net", {"ActivationSymmetric": True}, {}),
    ("net", {"ActivationSymmetric": True}, {"activation_type": "QUInt8"}),
    ("net", {"ActivationSymmetric": True}, {"activation_type": "QInt16", "weight_type": "QInt16"}),
    ("net", {"WeightSymmetric": False}, {}),
    ("net", {"WeightSymmetric": True}, {"activation_type": "QUInt8", "weight_type": "QUInt8"}),
    ("net", {"WeightSymmetric": False}, {"per_channel": True}),
    ("net", {"ActivationRestrictedAsymmetric": True}, {"activation_type": "QUInt8"}),
    ("attention", {"ActivationRestrictedAsymmetric": True}, {"activation_type": "QUInt8"}),
    (
        "attention",
        {"ActivationRestrictedAsymmetric": True, "MinimumRealRange": 20.0},
        {"activation_type": "QUInt8"},
    ),
    ("net", {"MinimumRealRange": 5.5}, {}),
    ("attention", {"MinimumRealRange": 20.0}, {"activation_type": "QUInt8", "per_channel": True}),
    ("net", {"QuantizeBias": False}, {"per_channel": True}),
    ("net", {"QDQKeepRemovableActivations": True}, {}),
    ("net", {"DedicatedQDQPair": True}, {"per_channel": True}),
    ("attention", {"DedicatedQDQPair": True}, {}),
    ("net", {"OpTypesToExcludeOutputQuantization": ["Conv"]}, {}),
    ("net", {"OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "MaxPool"]}, {"per_channel": True}),
    ("attention", {"OpTypesToExcludeOutputQuantization": ["MatMul", "Softmax"]}, {}),
    ("net", {"AddQDQPairToWeight": True}, {}),
    ("net", {"AddQDQPairToWeight": True, "QuantizeBias": False, "DedicatedQDQPair": True}, {"per_channel": True}),
    ("net", {"UseQDQContribOps": True}, {"per_channel": True}),
    ("attention", {"BlockSize": 4}, {"weight_type": "QInt4"}),
    ("attention", {"BlockSize": 4, "AddQDQPairToWeight": True}, {"weight_type": "QInt4", "activation_type": "QUInt8"}),
    ("attention", {"BlockSize": 4}, {"weight_type": "QInt16"}),
    ("attention", {"BlockSize": 16}, {"activation_type": "QUInt8"}),
    ("attention", {"BlockSize": 0}, {}),
    ("attention", {"QDQOpTypePerChannelSupportToAxis": {"MatMul": -1}}, {"per_channel": True}),
    ("net", {"QDQOpTypePerChannelSupportToAxis": {"MatMul": 0, "Conv": 0}}, {"per_channel": True}),
    ("moves", {"ForceQuantizeNoInputCheck": True}, {}),
    ("moves", {"ForceQuantizeNoInputCheck": False}, {}),
    ("attention", {"CalibTensorRangeSymmetric": True}, {}),
    ("net", {"CalibMovingAverage": True}, {}),
    ("net", {"CalibMaxIntermediateOutputs": 3}, {}),
    ("net", {"CalibPercentile": 90.0}, {"calibrate_method": "Percentile"}),
    ("net", {"CalibTensorRangeSymmetric": False}, {"calibrate_method": "Percentile"}),
    ("net", {"SmoothQuant": False, "EnableSubgraph": True, "WeightSymmetric": None}, {}),
    ("net", {"QDQDisableWeightAdjustForInt32Bias": True}, {}),
)

IDLE: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"MatMulConstBOnly": True}, {}),
    ({"extra.Sigmoid.nnapi": True}, {}),
    ({"DefaultTensorType": 1}, {}),
    ({"SmoothQuantAlpha": 0.7}, {}),
    ({"SmoothQuantFolding": True}, {}),
    ({"CalibMovingAverageConstant": 0.1, "CalibMovingAverage": True}, {}),
    ({"CalibTensorRangeSymmetric": True}, {"calibrate_method": "Entropy"}),
)
"""Keys that the peer documents and does not act on in a QDQ model."""


def by_us(case: Case, options: dict[str, Any], settings: dict[str, Any]) -> QuantResult:
    recipe = make_recipe(extra_options=options, **settings)
    recipe = replace(recipe, layout=replace(recipe.layout, converts=False))  # the peer converts on request only
    prepared = prepare_for(case.model(), recipe)
    engine = Engine(backend=OrtBackend(optimize=False, threads=1))
    return write(prepared, calibrate(prepared, decide(prepared, recipe), case.batches(), recipe, engine=engine))


def by_peer(prepared: onnx.ModelProto, case: Case, options: dict[str, Any], settings: dict[str, Any]) -> Any:
    enums = {name: getattr(QuantType, settings.get(name, "QInt8")) for name in ("activation_type", "weight_type")}
    enums["calibrate_method"] = getattr(CalibrationMethod, settings.get("calibrate_method", "MinMax"))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "peer.onnx"
        onnx.save(prepared, source)
        quantize_static(source, target, reader(case.batches()), extra_options=options, **{**settings, **enums})
        return onnx.load(target)


@pytest.mark.parametrize(("name", "options", "settings"), OPTIONS, ids=str)
def test_same_as_onnxruntime_quantization(name: str, options: dict[str, Any], settings: dict[str, Any]) -> None:
    result = by_us(CASES[name], options, settings)
    peer = by_peer(result.prepared.model, CASES[name], options, settings)
    # Beside pairs for weights the peer leaves the bounds of a Clip that it has removed, which nobody reads any more.
    left = name == "net" and "AddQDQPairToWeight" in options
    bounds = {"initializers": ["-hi", "-lo"]} if left else {}
    assert differences(result.model, peer) == bounds
    assert edges(result.model) == edges(peer)
    runs_as_planned(CASES[name], result)


@pytest.mark.parametrize(("options", "settings"), IDLE, ids=str)
def test_keys_that_do_nothing_are_said_to(options: dict[str, Any], settings: dict[str, Any]) -> None:
    with pytest.warns(QuantlabWarning) as caught:
        result = by_us(NET, options, settings)
    said = [str(one.message).partition(": ")[0] for one in caught]
    assert said == [f"extra_options[{next(iter(options))!r}] does nothing"]
    peer = by_peer(result.prepared.model, NET, options, settings)
    assert differences(result.model, peer) == {}


def test_channels_that_no_matmul_kernel_takes_are_warned_of() -> None:
    options = {"QDQOpTypePerChannelSupportToAxis": {"MatMul": 0}}
    settings = {"per_channel": True, "activation_type": "QUInt8"}
    with pytest.warns(QuantlabWarning, match="takes scales of columns only"):
        result = by_us(ATTENTION, options, settings)
    peer = by_peer(result.prepared.model, ATTENTION, options, settings)
    assert differences(result.model, peer) == {}
    feeds = ATTENTION.batches()[0]
    written, optimized = run(result.model, feeds)["y"], run(result.model, feeds, optimize=True)["y"]
    # This is why: the matrices are square, so that onnxruntime takes scales of rows for scales of columns.
    assert np.abs(written - optimized).max() > 5 * output_step(result, "y")


def test_scales_of_asymmetric_blocks_differ_in_their_last_bit() -> None:
    # The peer subtracts the ends of a block in float32, and those of all else in float64.
    options, settings = {"BlockSize": 2, "WeightSymmetric": False}, {"weight_type": "QInt16"}
    result = by_us(ATTENTION, options, settings)
    peer = by_peer(result.prepared.model, ATTENTION, options, settings)
    assert differences(result.model, peer) == {"bytes": ["v_scale", "w_scale"]}
    ours, theirs = initializers(result.model), initializers(peer)
    for name in ("v_scale", "w_scale"):
        assert np.abs(ours[name].view(np.int32) - theirs[name].view(np.int32)).max() == 1


def test_blocks_that_onnxruntime_cannot_multiply_are_refused() -> None:
    single = Case(
        name="single",
        text="single (float[2,8] x) => (float[2,6] y) { y = MatMul(x, w) }",
        feeds={"x": (2, 8)},
        constants={"w": normal(8, 6)},
    )
    wanted = (
        "MatMul 'MatMul_0' would multiply 'x', uint8, by 'w' in blocks of 4, int8, which onnxruntime refuses to "
        "run: take "
        "weights of 4 or 16 bits, activations of 16, or leave block_size out"
    )
    with pytest.raises(OptionError) as error:
        by_us(single, {"BlockSize": 4}, {"activation_type": "QUInt8"})
    assert str(error.value) == wanted
    prepared = by_us(single, {}, {}).prepared.model
    peer = by_peer(prepared, single, {"BlockSize": 4}, {"activation_type": "QUInt8"})
    with pytest.raises(Fail, match="QLinearMatMul"):
        run(peer, single.batches()[0], optimize=True)


def test_blocks_lie_along_the_axis_that_is_summed_over() -> None:
    # The peer cuts along the channels where these have scales of their own, and fails for weights that are no matrix.
    for per_channel in (False, True):
        result = by_us(NET, {"BlockSize": 16}, {"per_channel": per_channel})
        assert initializers(result.model)["g_scale"].shape == (3, 5)
        assert initializers(result.model)["w_scale"].shape == ((3,) if per_channel else ())
        assert "h" not in result.plan.tensors
        runs_as_planned(NET, result)


def runs_as_planned(case: Case, result: QuantResult) -> None:
    """Assert that a model is valid, gives what its plan says to a step of the output's grid, and can be optimized."""
    onnx.checker.check_model(result.model, full_check=True)
    for feeds in case.batches():
        wanted, found = oracle(result, feeds), run(result.model, feeds)
        for name, value in wanted.items():
            slack = output_step(result, name) or 1e-5 * float(np.abs(value).max())
            assert np.abs(found[name].astype(np.float64) - value).max() <= slack * (1 + 1e-5)
        assert all(np.isfinite(value).all() for value in run(result.model, feeds, optimize=True).values())


def test_a_relu_before_a_range_that_mirrors_at_zero_stays() -> None:
    # The peer takes it out although that grid lets negative values through.
    result = by_us(NET, {"CalibTensorRangeSymmetric": True}, {})
    peer = by_peer(result.prepared.model, NET, {"CalibTensorRangeSymmetric": True}, {})
    assert differences(result.model, peer) == {
        "operators": ["Clip 1 0", "Relu 1 0"],
        "nodes": ["+Clip_3", "+Relu_1"],
        "tensors": ["+c", "+d"],
        "initializers": ["+hi", "+lo"],
    }
    assert all((run(result.model, feeds)["side"] >= 0).all() for feeds in NET.batches())
    assert any((run(peer, feeds)["side"] < 0).any() for feeds in NET.batches())


def edges(model: onnx.ModelProto) -> set[tuple[str, ...]]:
    """Return operator, domain and inputs of every node."""
    return {(node.op_type, node.domain, *node.input) for node in model.graph.node}
