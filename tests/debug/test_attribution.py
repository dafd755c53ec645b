"""Attribution: planted culprits come first and are named with what they do; shares agree with runs made one by one."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest

import quantlab
from quantlab import demo
from quantlab.backend import OrtBackend
from quantlab.debug.gates import gated_model
from quantlab.errors import DataError, ModelError, OptionError
from tests.debug.faults import FAULTS, hot_channel, model_of, node, samples, three_faults
from tests.operators.harness import INT8, normal
from tests.operators.peer import peer_model
from tests.operators.qoperator_cases import image

ONE_THREAD = OrtBackend(threads=1)
DATA = samples(12)


def quantized(model, overrides=None, **options):
    extra = {"TensorQuantOverrides": {name: [fields] for name, fields in (overrides or {}).items()}}
    return quantlab.quantize_static(model, None, DATA, activation_type="uint8", extra_options=extra, **options)


@pytest.fixture(scope="module")
def faulty():
    model = three_faults()
    result = quantized(model, FAULTS)
    return model, result, quantlab.attribute(model, result.model, DATA, backend=ONE_THREAD)


def test_three_planted_faults_are_each_named_with_what_they_do(faulty):
    found = {(row.tensor, row.part): row for row in faulty[2].sources if (row.alone or 0) > 0.1}
    assert set(found) == {
        ("masked", "rounding"), ("masked", "clipping above"), ("narrow", "clipping above"), ("uneven", "weight")
    }  # fmt: skip
    texts = {key: row.advice.split(" of the output error is ")[1] for key, row in found.items()}
    masked, narrow, uneven = (
        texts[key] for key in (("masked", "rounding"), ("narrow", "clipping above"), ("uneven", "weight"))
    )
    assert masked.startswith("rounding of 'masked' (its grid spans -1.001e+04 to 0, and most of that is empty, as with")
    assert masked.endswith("leave nodes 'masked_node', 'c_node' in float (--exclude)")
    assert narrow.startswith("clipping above at 'narrow' (its grid ends at 0.5, the data at 3.117): calibrate on more")
    assert narrow.endswith('--overrides with {"narrow": {"rmin": 0.0, "rmax": 3.11676}}')
    assert uneven.startswith("rounding of the weight 'uneven' (int8, one scale for 16 channels, the largest ")
    assert " times the middle one): quantize per channel (--per-channel), which leaves about " in uneven


def test_the_remedies_work(faulty):
    """What the advice says is done, and each branch is better by far."""
    model, result, _ = faulty
    before = quantlab.compare(model, result.model, DATA).outputs
    kept = FAULTS | {"narrow": {"rmin": 0.0, "rmax": 3.11676}}
    again = quantized(model, kept, per_channel=True, nodes_to_exclude=["masked_node", "c_node"])
    after = quantlab.compare(model, again.model, DATA).outputs
    assert all(new.sqnr_db > old.sqnr_db + 20 for old, new in zip(before, after, strict=True))


def test_a_hot_channel_is_found():
    model = hot_channel()
    result = quantized(model, per_channel=True)
    found = quantlab.attribute(model, result.model, DATA, backend=ONE_THREAD)
    first = found.sources[0]
    assert (first.tensor, first.part, first.node) == ("hot", "rounding", "hot_node")
    assert first.alone > 0.9
    assert first.relieved > 0.9
    overrides = json.loads(re.search(r"--overrides with (\{.*\}\}),", first.advice)[1])
    assert overrides == {"hot": {"quant_type": "UInt16"}, "w2": {"quant_type": "Int16"}}
    again = quantized(model, overrides, per_channel=True)
    (row,) = quantlab.compare(model, again.model, DATA).outputs
    assert row.sqnr_db > found.sqnr_db + 20, "the advice, taken literally, works"


def test_few_outliers_are_for_the_percentile():
    rng = np.random.default_rng(5)
    weights = {"w": rng.normal(size=(16, 16)) / 4, "w2": rng.normal(size=(16, 16)) / 4}
    model = model_of([node("MatMul", ["x", "w"], "h"), node("MatMul", ["h", "w2"], "y")], weights, ["y"], (400, 16))
    rows = rng.normal(size=(3, 400, 16)).astype(np.float32)
    rows[0, 0, 0] = 500
    data = [{"x": row} for row in rows]
    result = quantlab.quantize_static(model, None, data, activation_type="uint8", per_channel=True)
    found = quantlab.attribute(model, result.model, data, backend=ONE_THREAD)
    advice = next(row.advice for row in found.sources if row.tensor == "x" and row.part == "rounding")
    assert "99.9% of the values lie in" in advice
    assert "cut the few others off with --calibrate percentile, or give it 16 bits" in advice


@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
def test_shares_are_those_of_runs_made_one_by_one(quant_format):
    data = [{"image": image[None]} for image in demo.digits().test_images[:10]]
    model = quantlab.load(demo.float_model())
    result = quantlab.quantize_static(model, None, data, quant_format=quant_format, activation_type="uint8")
    found = quantlab.attribute(model, result.model, data, runs=5, backend=ONE_THREAD)
    gated = gated_model(quantlab.prepare_for(model).model, result.model)
    places = {(gate.tensor, gate.part): place for place, gate in enumerate(gated.gates)}
    simulate, rounded = (ONE_THREAD.open(each, ["logits"]) for each in (gated.model, result.model))
    everything = range(len(gated.gates))

    def stacked(run, **feed):
        return np.concatenate([run({**sample, **feed})["logits"] for sample in data]).astype(np.float64)

    def noise(on):
        return float(((stacked(simulate, quantlab_gates=gated.setting(on)) - exact) ** 2).sum())

    exact = stacked(simulate, quantlab_gates=gated.setting())
    measured = float(((stacked(rounded) - exact) ** 2).sum())
    simulated = noise(everything)
    measured_rows = [row for row in found.sources if row.alone is not None]
    assert len(measured_rows) == 5
    alone = [noise([places[row.tensor, row.part]]) / measured for row in measured_rows]
    without = [noise(set(everything) - {places[row.tensor, row.part]}) / simulated for row in measured_rows]
    assert [row.alone for row in measured_rows] == pytest.approx(alone)
    assert [row.relieved for row in measured_rows] == pytest.approx([1 - share for share in without])
    assert found.sqnr_db == pytest.approx(10 * np.log10((exact**2).sum() / measured))
    assert found.simulated_db == pytest.approx(10 * np.log10((exact**2).sum() / simulated))
    assert found.interaction == pytest.approx(simulated / measured - sum(alone))
    assert found.requantization == pytest.approx((measured - simulated) / measured)
    assert found.alone + found.interaction + found.requantization == pytest.approx(1)
    gone = set(measured_rows[0].nodes)
    left = noise([place for place, gate in enumerate(gated.gates) if not gone.issuperset(gate.nodes)]) / simulated
    assert measured_rows[0].left == pytest.approx(left)


def test_estimates_are_near_the_shares_alone(faulty):
    for row in faulty[2].sources:
        if row.part == "weight" and (row.alone or 0) > 0.1:
            assert row.estimate == pytest.approx(row.alone, rel=0.2)


def test_the_order_is_measured_first_then_estimated():
    data = [{"image": image[None]} for image in demo.digits().test_images[:4]]
    result = quantlab.quantize_static(demo.float_model(), None, data)
    found = quantlab.attribute(
        quantlab.load(demo.float_model()), result.model, data, runs=3, screening=16, backend=ONE_THREAD
    )
    alone = [row.alone for row in found.sources]
    assert alone[:3] == sorted(alone[:3], reverse=True)
    assert alone[3:] == [None] * (len(alone) - 3)
    rest = [row.estimate for row in found.sources[3:]]
    assert rest == sorted(rest, reverse=True)
    assert found.sources[-1].advice.endswith("of the output error by the screening; not measured")
    assert found.to_json()["sources"][0]["nodes"]
    assert found.samples == 4


def test_what_cannot_be_attributed():
    model = hot_channel()
    result = quantized(model)
    with pytest.raises(
        DataError, match="attributing error reads the data more than once, and this data can be read only"
    ):
        quantlab.attribute(model, result.model, iter(DATA))
    with pytest.raises(DataError, match="there is no data to attribute error on: give at least one sample"):
        quantlab.attribute(model, result.model, [])
    with pytest.raises(OptionError, match="screening must be at least 8, got 7"):
        quantlab.attribute(model, result.model, DATA, screening=7)
    with pytest.raises(OptionError, match="runs must be at least 0, got -1"):
        quantlab.attribute(model, result.model, DATA, runs=-1)
    with pytest.raises(ModelError, match=r"the two models have different outputs: \['a', 'b', 'c'\] and \['y'\]"):
        quantlab.attribute(three_faults(), result.model, DATA)
    recipe = quantlab.Recipe.from_json({"layout": {"integer_inputs": True}})
    integers = quantlab.quantize(model, DATA, recipe).model
    with pytest.raises(
        ModelError, match="'x' has another type in the quantized model: quantize without integer_inputs"
    ):
        quantlab.attribute(model, integers, DATA)
    labels = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> g (float[4, 16] x) => (int64[4] label)
        <float[16, 16] w = {"""
        + ", ".join(map(str, range(256)))
        + """}>
        { y = MatMul (x, w)   label = ArgMax <axis = 1, keepdims = 0> (y) }"""
    )
    with pytest.raises(ModelError, match=r"none of the outputs \('label'\) is floating-point: there is no error to"):
        quantlab.attribute(labels, quantized(labels).model, DATA)


def test_what_the_runtime_rounds_by_itself_is_requantization():
    """Between rounded tensors, onnxruntime's optimizer rounds the float weight of a Conv that was left in float."""
    rng = np.random.default_rng(7)
    sizes = np.geomspace(1, 300, 16)
    constants = {"w": rng.normal(size=(16, 16, 1, 1)) / 4, "uneven": rng.normal(size=(16, 16, 1, 1)) / 4}
    constants["uneven"] *= sizes[:, None, None, None]
    constants["w2"] = rng.normal(size=(16, 16, 1, 1)) / sizes[:, None, None] / 4
    constants |= {"b": np.zeros(16), "b1": np.zeros(16)}
    nodes = [
        node("Conv", ["x", "w"], "h"),
        node("Conv", ["h", "uneven", "b"], "wide"),
        node("Conv", ["wide", "w2", "b1"], "y"),
    ]
    model = model_of(nodes, constants, ["y"], (1, 16, 8, 8))
    data = [{"x": rng.normal(size=(1, 16, 8, 8)).astype(np.float32)} for _ in range(4)]
    result = quantlab.quantize_static(model, None, data, activation_type="uint8", nodes_to_exclude=["wide_node"])
    plain, optimized = (
        quantlab.attribute(model, result.model, data, backend=OrtBackend(threads=1, optimize=optimize))
        for optimize in (False, True)
    )
    assert plain.requantization == pytest.approx(0, abs=1e-3)
    assert optimized.requantization > 0.05
    content, settings = result.model.SerializeToString(), {"providers": ["CPUExecutionProvider"]}
    spared = onnxruntime.InferenceSession(content, disabled_optimizers=["WeightBiasQuantization"], **settings)
    unoptimized = OrtBackend(threads=1, optimize=False).open(result.model)
    step = float(result.plan.tensors["y"].qparams.scale)
    for sample in data:
        np.testing.assert_allclose(spared.run(None, sample)[0], unoptimized(sample)["y"], atol=1.01 * step)


def test_a_model_that_another_tool_made_of_the_unprepared_one_is_attributed_as_it_was():
    """Preparing folds BatchNormalization; onnxruntime.quantization leaves it, and rounds what stands before it."""
    vectors = {name: 0.5 + np.abs(normal(4, seed=seed)) for seed, name in enumerate(("scale", "shift", "mean", "var"))}
    body = "t = Conv(x, w, b) n = BatchNormalization(t, scale, shift, mean, var) y = Relu(n)"
    case = image("batch-norm", body, **vectors)
    bare = case.model()
    written = peer_model(bare, INT8, case.batches(), None)
    found = quantlab.attribute(bare, written, case.batches(), runs=30, backend=ONE_THREAD)
    before = next(node.output[0] for node in bare.graph.node if node.op_type == "Conv")
    assert {(source.tensor, source.part) for source in found.sources} >= {(before, "rounding"), ("w", "weight")}
    assert abs(found.requantization) < 0.02
    assert found.simulated_db == pytest.approx(found.sqnr_db, abs=0.1)
