"""Comparing a float model with its quantized version: numbers against a plain computation, and what has no partner."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest

import quantlab
from quantlab import demo
from quantlab.arrays import cosine, mse, sqnr
from quantlab.debug.compare import _Sums
from quantlab.errors import DataError, ModelError

DIGITS = demo.digits()
SAMPLES = [{"image": image[None]} for image in DIGITS.test_images[:30]]


@pytest.fixture(scope="module")
def result():
    return quantlab.quantize_static(demo.float_model(), None, SAMPLES, per_channel=True)


def run(model, tensors=None):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = [value.name for value in copy.graph.output]
    names = own if tensors is None else tensors
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in own)
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.concatenate(values) for values in zip(*(session.run(names, s) for s in SAMPLES), strict=True)]


def test_outputs_agree_with_a_plain_computation(result):
    found = quantlab.compare(quantlab.load(demo.float_model()), result.model, SAMPLES)
    (exact,), (rounded,) = run(quantlab.load(demo.float_model())), run(result.model)
    (row,) = found.outputs
    assert row.name == "logits"
    assert row.sqnr_db == pytest.approx(sqnr(exact, rounded), abs=1e-3)
    assert row.cosine == pytest.approx(cosine(exact, rounded))
    assert row.mse == pytest.approx(mse(exact, rounded), rel=1e-4)
    assert row.max_error == pytest.approx(float(np.abs(exact - rounded).max()), rel=1e-4)
    assert found.agreement == (exact.argmax(1) == rounded.argmax(1)).mean()
    assert found.samples == len(SAMPLES)


def test_every_rounded_tensor_has_a_row_and_the_worst_comes_first(result):
    found = quantlab.compare(quantlab.load(demo.float_model()), result.model, SAMPLES)
    assert {row.name for row in found.tensors} == set(result.plan.tensors)
    decibels = [row.sqnr_db for row in found.tensors]
    assert decibels == sorted(decibels)
    assert found.unmatched == ()


def test_weights_are_compared_without_wrapping(result):
    found = quantlab.compare(quantlab.load(demo.float_model()), result.model, SAMPLES)
    rows = {row.name: row for row in found.tensors if row.kind == "constant"}
    weight = next(name for name, tensor in result.plan.tensors.items() if tensor.role == "weight")
    # 8 bits over a roughly bell-shaped channel: somewhere between 30 and 60 dB.
    assert 30 < rows[weight].sqnr_db < 60


def test_inner_tensors_agree_with_a_plain_computation(result):
    found = quantlab.compare(quantlab.load(demo.float_model()), result.model, SAMPLES)
    rows = {row.name: row for row in found.tensors}
    name = "pool_out"
    exact, (integers,) = run(result.prepared.model, [name])[0], run(result.model, [f"{name}_QuantizeLinear_Output"])
    rounded = quantlab.dequantize(integers, result.plan.tensors[name].qparams)
    assert rows[name].sqnr_db == pytest.approx(sqnr(exact, rounded), abs=0.05)


def test_tensors_without_a_partner_are_listed(result):
    renamed = onnx.ModelProto()
    renamed.CopyFrom(result.model)
    for node in renamed.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = "other" if name == "pool_out" else name
    found = quantlab.compare(quantlab.load(demo.float_model()), renamed, SAMPLES)
    assert found.unmatched == ("pool_out_DequantizeLinear_Output",)


def test_streamed_sums_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 50)).astype(np.float32)
    sums = _Sums()
    for a, b in zip(x, y, strict=True):
        sums = sums.update(a, b)
    row = sums.row("t", "activation", "int8")
    assert row.sqnr_db == pytest.approx(sqnr(x, y))
    assert row.cosine == pytest.approx(cosine(x, y))
    assert row.mse == pytest.approx(mse(x, y))


def test_json_has_no_infinities(result):
    exact = _Sums().update(np.ones(2), np.ones(2)).row("t", "activation", "int8")
    assert exact.sqnr_db == math.inf
    found = quantlab.compare(quantlab.load(demo.float_model()), result.model, SAMPLES)
    assert found.to_json()["tensors"][0]["sqnr_db"] == found.tensors[0].sqnr_db


def test_messages(result):
    model = quantlab.load(demo.float_model())
    with pytest.raises(ModelError, match="nothing in the second model is quantized: give the float model first"):
        quantlab.compare(model, model, SAMPLES)
    with pytest.raises(DataError, match="there is no data to compare on: give at least one sample"):
        quantlab.compare(model, result.model, [])
    other = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[1] x) => (float[1] y) { y = Abs(x) }'
    )
    with pytest.raises(ModelError, match=r"the two models have different outputs: \['y'\] and \['logits'\]"):
        quantlab.compare(other, result.model, SAMPLES)
