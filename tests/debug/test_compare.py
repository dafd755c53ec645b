"""Comparing a float model with its quantized version: every number against a plain computation."""

import csv
import io
import math

import numpy as np
import onnx
import onnxruntime
import pytest

import quantlab
from quantlab import demo
from quantlab.arrays import (
    FLOAT8E4M3FN,
    INT4,
    INT8,
    INT16,
    QParams,
    QuantSpec,
    cosine,
    dequantize,
    fake_quant,
    mse,
    quantize,
    sqnr,
)
from quantlab.backend import OrtBackend
from quantlab.calibration import Histogram
from quantlab.debug.sums import NO_SUMS, Measured, added, numbers
from quantlab.errors import DataError, ModelError
from quantlab.metrics import task_metric

DIGITS = demo.digits()
SAMPLES = [{"image": image[None]} for image in DIGITS.test_images[:30]]


@pytest.fixture(scope="module")
def result():
    return quantlab.quantize_static(demo.float_model(), None, SAMPLES, per_channel=True)


@pytest.fixture(scope="module")
def found(result):
    return quantlab.compare(quantlab.load(demo.float_model()), result.model, SAMPLES, histograms=True)


def run(model, tensors=None):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = [value.name for value in copy.graph.output]
    names = own if tensors is None else tensors
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in own)
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.concatenate(values) for values in zip(*(session.run(names, s) for s in SAMPLES), strict=True)]


def test_outputs_agree_with_a_plain_computation(result, found):
    (exact,), (rounded,) = run(quantlab.load(demo.float_model())), run(result.model)
    (row,) = found.outputs
    assert (row.name, row.node, row.dtype, row.grid) == ("logits", "/classifier/Gemm", "float32", None)
    assert row.sqnr_db == pytest.approx(sqnr(exact, rounded), abs=1e-3)
    assert row.cosine == pytest.approx(cosine(exact, rounded))
    assert row.mse == pytest.approx(mse(exact, rounded), rel=1e-4)
    assert row.max_error == pytest.approx(float(np.abs(exact - rounded).max()), rel=1e-4)
    assert (row.local_db, row.clipped) == (math.inf, 0)
    assert found.agreement == (exact.argmax(1) == rounded.argmax(1)).mean()
    assert found.samples == len(SAMPLES)


def test_every_rounded_tensor_has_a_row_and_the_worst_comes_first(result, found):
    assert {row.name for row in found.tensors} == set(result.plan.tensors)
    decibels = [row.sqnr_db for row in found.tensors]
    assert decibels == sorted(decibels)
    assert found.unmatched == ()
    for row in found.tensors:
        planned = result.plan.tensors[row.name]
        assert row.kind == planned.role
        assert row.dtype == planned.spec.dtype.name
        assert (row.grid.scale == planned.qparams.scale).all()


@pytest.mark.parametrize("name", ["pool_out", "stem_relu_out", "logits"])
def test_inner_tensors_agree_with_a_plain_computation(result, found, name):
    row = next(row for row in found.tensors if row.name == name)
    grid = result.plan.tensors[name].qparams
    integers = next(node.output[0] for node in result.model.graph.node if node.name == f"{name}_QuantizeLinear")
    (exact,), (stored,) = run(result.prepared.model, [name]), run(result.model, [integers])
    rounded, local = dequantize(stored, grid), fake_quant(exact, grid)
    assert row.sqnr_db == pytest.approx(sqnr(exact, rounded), abs=0.05)
    assert row.local_db == pytest.approx(sqnr(exact, local), abs=0.01)
    assert (row.lo, row.hi) == pytest.approx((exact.min(), exact.max()), rel=1e-5)
    assert row.count == exact.size
    assert row.rounding + row.clipping_below + row.clipping_above == pytest.approx(1)
    assert isinstance(row.histogram, Histogram)
    assert row.histogram.counts.sum() == exact.size
    node = next(node for node in result.prepared.model.graph.node if name in node.output)
    assert (row.node, row.op_type) == (node.name, node.op_type)


def test_weights_have_channels(result, found):
    row = next(row for row in found.tensors if row.name == "depth_conv.weight")
    w = next(t for t in result.prepared.model.graph.initializer if t.name == row.name)
    w = onnx.numpy_helper.to_array(w)
    grid = result.plan.tensors[row.name].qparams
    local = fake_quant(w, grid)
    assert row.channels.axis == 0
    np.testing.assert_allclose(row.channels.lo, w.min(axis=(1, 2, 3)))
    np.testing.assert_allclose(row.channels.hi, w.max(axis=(1, 2, 3)))
    np.testing.assert_allclose(row.channels.sqnr_db, [sqnr(x, y) for x, y in zip(w, local, strict=True)])
    assert row.sqnr_db == pytest.approx(sqnr(w, local), abs=1e-9) == row.local_db
    assert next(row for row in found.tensors if row.kind == "bias").channels is None


def test_what_is_clipped_is_counted_and_told_from_rounding():
    grid = QParams(scale=np.float32(0.5), zero_point=np.int8(0), spec=QuantSpec(dtype=INT4))  # -4 .. 3.5
    x = np.array([-6.0, -4.2, 0.2, 3.6, 5.5, 3.5], np.float32)
    got = numbers(Measured(grid).sums(x, np.zeros(6, np.int8)))
    noise = np.array([4.0, 0.04, 0.04, 0.01, 4.0, 0.0])
    assert (got["below"], got["above"]) == (1 / 6, 1 / 6)  # -4.2 and 3.6 go to the nearest level
    assert got["clipping_below"] == pytest.approx(4 / noise.sum())
    assert got["clipping_above"] == pytest.approx(4 / noise.sum())
    assert got["rounding"] == pytest.approx(0.09 / noise.sum(), rel=1e-5)
    assert got["local_db"] == pytest.approx(10 * math.log10((x.astype(float) ** 2).sum() / noise.sum()), rel=1e-5)
    assert (got["sqnr_db"], got["cosine"], got["max_error"]) == (0.0, 0.0, 6.0)


GRIDS = {
    "tensor": QParams(scale=np.float32(0.05), zero_point=np.int8(5), spec=QuantSpec(dtype=INT8)),
    "int16": QParams(scale=np.float32(1e-4), zero_point=np.int16(0), spec=QuantSpec(dtype=INT16)),
    "channels": QParams(
        scale=np.linspace(0.1, 0.4, 6, dtype=np.float32),
        zero_point=np.zeros(6, int),
        spec=QuantSpec(dtype=INT4, axis=0),
    ),
    "blocks": QParams(
        scale=np.full((6, 3), 0.2, np.float32),
        zero_point=np.zeros((6, 3), int),
        spec=QuantSpec(dtype=INT4, axis=1, block_size=20),
    ),
    "float8": QParams(
        scale=np.float32(0.01), zero_point=np.uint8(0), spec=QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True)
    ),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_streamed_sums_are_those_of_the_whole(name, dtype):
    grid, rng = GRIDS[name], np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 50)).astype(dtype)
    y = [quantize(sample + rng.normal(size=sample.shape).astype(dtype) / 50, grid) for sample in x]
    total = NO_SUMS
    for sample, other in zip(x, y, strict=True):
        total = added(total, Measured(grid).sums(sample, other))
    rounded, local = (np.stack([f(s, grid) for s in v]) for f, v in ((dequantize, y), (fake_quant, x)))
    got = numbers(total)
    assert got["sqnr_db"] == pytest.approx(sqnr(x, rounded))
    assert got["cosine"] == pytest.approx(cosine(x, rounded))
    assert got["mse"] == pytest.approx(mse(x, rounded))
    assert got["local_db"] == pytest.approx(sqnr(x, local))
    assert got["count"] == x.size


def test_workers_and_chunks_change_no_bit(result, found):
    class OneByOne(OrtBackend):
        """As if one run took all cores."""

        @property
        def cores(self):
            return 10**6

    model = quantlab.load(demo.float_model())
    alone = quantlab.compare(model, result.model, SAMPLES, histograms=True, backend=OneByOne(threads=1))
    assert alone.to_json() == found.to_json()


def test_a_source_may_use_one_buffer_for_all_samples(result, found):
    def reused():
        buffer = np.empty_like(SAMPLES[0]["image"])
        for sample in SAMPLES:
            buffer[...] = sample["image"]
            yield {"image": buffer}

    model = quantlab.load(demo.float_model())
    assert quantlab.compare(model, result.model, reused(), histograms=True).to_json() == found.to_json()


def test_metrics_are_fed_both_models_outputs_and_the_batch(result):
    class Count:
        seen = 0

        def update(self, exact, rounded, batch):
            assert exact.keys() == rounded.keys() == {"logits"}
            assert batch["image"] is not None
            self.seen += len(batch["image"])

        def result(self):
            return float(self.seen)

    model = quantlab.load(demo.float_model())
    metrics = {"count": Count(), "accuracy": task_metric("accuracy", labels="digit")}
    batches = [
        {**sample, "digit": label[None]}
        for sample, label in zip(SAMPLES, DIGITS.test_labels[: len(SAMPLES)], strict=True)
    ]
    found = quantlab.compare(model, result.model, batches, metrics=metrics)
    (rounded,) = run(result.model)
    want = (rounded.argmax(1) == DIGITS.test_labels[: len(SAMPLES)]).mean()
    assert found.metrics == {"count": 30.0, "accuracy": want}


def test_without_data_weights_are_compared(result, found):
    bare = quantlab.compare(quantlab.load(demo.float_model()), result.model, None)
    assert {row.kind for row in bare.tensors} == {"weight", "bias"}
    assert (bare.outputs, bare.agreement, bare.samples) == ((), None, 0)
    assert [row.to_json() for row in bare.tensors] == [
        row.to_json() for row in found.tensors if row.kind in ("weight", "bias")
    ]


def test_tables(found):
    rows = list(csv.reader(io.StringIO(found.to_csv())))
    assert rows[0][:5] == ["tensor", "kind", "node", "operator", "type"]
    assert [row[0] for row in rows[1:]] == [row.name for row in (*found.tensors, *found.outputs)]
    assert found.to_markdown().count("\n") == len(rows) + 1
    assert found._repr_html_().count("<tr>") == len(rows)


def test_json_has_no_infinities(found):
    assert found.to_json()["tensors"][0]["sqnr_db"] == found.tensors[0].sqnr_db
    assert found.to_json()["outputs"][0]["local_db"] is None


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
