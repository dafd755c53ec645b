"""Calibration as onnxruntime.quantization does it, through the whole engine: its ranges and its models, bit for bit."""

import contextlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization as peer
from onnxruntime.quantization.calibrate import CalibrationMethod, HistogramCollector, create_calibrator

import quantlab
from quantlab import demo
from quantlab.arrays import FLOAT8E4M3FN, UINT8, QuantSpec
from quantlab.calibration import JoinedHistogram, TwoPassRule, calibrator
from quantlab.errors import DataError, OptionError
from quantlab.workflow.calibration import calibrate_ranges, collect_statistics, ranges_of
from quantlab.workflow.quantize import observe

SPEC = QuantSpec(dtype=UINT8)
LIKE = quantlab.Engine.like_onnxruntime()


def small_model():
    """Conv, Relu, pooling and MatMul with two inputs, both with a free batch size."""
    rng = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    def tensor(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "v"], ["m"], name="matmul"),
        helper.make_node("Add", ["m", "y"], ["a"], name="add"),
        helper.make_node("MatMul", ["a", "u"], ["out"], name="last"),
    ]
    constants = [weight("w", 6, 3, 3, 3), weight("b", 6), weight("v", 6, 5), weight("u", 5, 4)]
    ends = [tensor("x", "n", 3, 8, 8), tensor("y", "n", 5)], [tensor("out", "n", 4)]
    graph = helper.make_graph(nodes, "g", *ends, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def small_samples(count, rows=lambda index: 2):
    rng = np.random.default_rng(1)
    return [
        {
            "x": (rng.normal(size=(rows(i), 3, 8, 8)) * (1 + i % 3)).astype(np.float32),
            "y": rng.laplace(size=(rows(i), 5)).astype(np.float32),
        }
        for i in range(count)
    ]


MODELS = {
    "digits": (quantlab.load(demo.float_model()), [{"image": i[None]} for i in demo.digits().train_images[:40]]),
    "small": (small_model(), small_samples(30)),
}
models = pytest.mark.parametrize("which", MODELS)


class Reader(peer.CalibrationDataReader):
    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def peer_ranges(model, samples, method, options, folder, stride=None):
    """All tensors of the peer's calibrator, which `quantize_static` makes and asks in this way."""
    path = Path(folder) / "float.onnx"
    onnx.save(model, path)
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        made = create_calibrator(
            path, None, str(Path(folder) / "augmented.onnx"), CalibrationMethod[method], extra_options=options
        )
        for start in range(0, len(samples), stride or len(samples)):
            made.collect_data(Reader(samples[start : start + (stride or len(samples))]))
        return made.compute_data()


def measured(model, samples, rule, names, engine=LIKE):
    if not isinstance(rule, TwoPassRule):
        return engine.measure(model, {name: rule.empty() for name in names}, samples)
    first = engine.measure(model, {name: rule.first() for name in names}, samples)
    return engine.measure(model, {name: rule.second(first[name]) for name in names}, samples)


CASES = [
    ("MinMax", {}),
    ("MinMax", {"symmetric": True}),
    ("MinMax", {"moving_average": True}),
    ("MinMax", {"moving_average": True, "symmetric": True, "averaging_constant": 0.3}),
    ("MinMax", {"max_intermediate_outputs": 7}),
    ("MinMax", {"max_intermediate_outputs": 9, "moving_average": True}),
    ("Percentile", {}),
    ("Percentile", {"symmetric": False}),
    ("Percentile", {"percentile": 99, "num_bins": 100}),
    ("Percentile", {"percentile": 100, "num_bins": 64, "symmetric": False}),
    ("Percentile", {"percentile": 50.5}),
    ("Entropy", {}),
    ("Entropy", {"num_bins": 300, "num_quantized_bins": 128}),
    ("Entropy", {"num_bins": 255, "num_quantized_bins": 16}),
    ("Distribution", {}),
    ("Distribution", {"num_bins": 600, "scenario": "p3"}),
]


@models
@pytest.mark.parametrize(("method", "options"), CASES, ids=str)
def test_ranges_of_many_samples_are_the_peers(which, method, options, tmp_path):
    model, samples = MODELS[which]
    theirs = peer_ranges(model, samples, method, options, tmp_path)
    rule = calibrator(f"onnxruntime_{method.lower()}", options)
    seen = measured(model, samples, rule, list(theirs.data))
    assert len(seen) >= 9
    for name, data in theirs.items():
        found = rule.range(seen[name], SPEC)
        assert (float(found.lo), float(found.hi)) == tuple(float(np.squeeze(end)) for end in data.range_value), name
        if method == "Distribution":
            assert [np.asarray(moment).tobytes() for moment in rule.moments(seen[name])] == [
                data.avg.tobytes(),
                data.std.tobytes(),
            ]
            assert seen[name].edges.tobytes() == data.hist_edges.tobytes()
            assert seen[name].counts.tolist() == data.hist.tolist()


@models
def test_float8_scales_are_the_peers(which, tmp_path):
    model, samples = MODELS[which]
    for scenario in ("same", "p3"):
        theirs = peer_ranges(model, samples, "Distribution", {"scenario": scenario}, tmp_path)
        rule = calibrator("onnxruntime_distribution", {"scenario": scenario})
        seen = measured(model, samples, rule, list(theirs.data))
        spec = QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True)
        for name, data in theirs.items():
            zero, scale = peer.quant_utils.compute_scale_zp_float8(TensorProto.FLOAT8E4M3FN, data.std)
            grid = quantlab.qparams_from_range(rule.range(seen[name], spec), spec)
            assert (float(grid.scale), int(grid.zero_point)) == (float(scale), float(zero))


@models
@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_ranges_of_channels_are_the_peers(which, moving, symmetric, tmp_path):
    model, samples = MODELS[which]
    options = {"per_channel": True, "moving_average": moving, "symmetric": symmetric}
    theirs = peer_ranges(model, samples, "MinMax", options, tmp_path)
    rule = calibrator("onnxruntime_minmax", options)
    seen = measured(model, samples, rule, list(theirs.data))
    for name, data in theirs.items():
        found = rule.range(seen[name], QuantSpec(dtype=UINT8, axis=1))
        assert [found.lo.tolist(), found.hi.tolist()] == [end.tolist() for end in data.range_value]
        whole = rule.range(seen[name], SPEC)
        assert (whole.lo, whole.hi) == (found.lo.min(), found.hi.max())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"moving_average": True},
        {"moving_average": True, "averaging_constant": 0.3},
        {"moving_average": True, "averaging_constant": 0.3, "symmetric": True},
        {"max_intermediate_outputs": 4},
        {"max_intermediate_outputs": 4, "moving_average": True, "averaging_constant": 1},
    ],
    ids=str,
)
def test_strides_are_the_peers(options, tmp_path):
    model, samples = MODELS["small"]
    theirs = peer_ranges(model, samples, "MinMax", options, tmp_path, stride=6)
    rule = calibrator("onnxruntime_minmax", {**options, "stride": 6})
    seen = measured(model, samples, rule, list(theirs.data))
    for name, data in theirs.items():
        found = rule.range(seen[name], SPEC)
        assert (float(found.lo), float(found.hi)) == tuple(float(end[0]) for end in data.range_value), name


def test_ragged_batches(tmp_path):
    model, samples = small_model(), small_samples(12, rows=lambda index: 1 + index % 4)
    theirs = peer_ranges(model, samples, "MinMax", {"moving_average": True}, tmp_path)
    rule = calibrator("onnxruntime_minmax", {"moving_average": True})
    seen = measured(model, samples, rule, list(theirs.data))
    for name, data in theirs.items():
        found = rule.range(seen[name], SPEC)
        assert (float(found.lo), float(found.hi)) == tuple(float(end[0]) for end in data.range_value), name
    # The peer cannot join arrays of different shapes; its collector takes them joined by hand.
    with pytest.raises(ValueError, match="inhomogeneous shape"):
        peer_ranges(model, samples, "Percentile", {}, tmp_path)
    run = LIKE.backend.open(model, list(theirs.data))
    runs = [run(sample) for sample in samples]
    for symmetric in (True, False):
        collector = HistogramCollector("percentile", symmetric, 2048, 128, 99.9, "same")
        with contextlib.redirect_stdout(io.StringIO()):
            collector.collect({name: np.concatenate([one[name].ravel() for one in runs]) for name in theirs.data})
            wanted = collector.compute_collection_result()
        rule = calibrator("onnxruntime_percentile", {"symmetric": symmetric, "percentile": 99.9})
        seen = measured(model, samples, rule, list(theirs.data))
        for name, (low, high, *_) in wanted.items():
            found = rule.range(seen[name], SPEC)
            assert (float(found.lo), float(found.hi)) == (float(low), float(high)), name


@models
@pytest.mark.parametrize(
    ("method", "extra", "options"),
    [
        ("MinMax", {}, {}),
        ("MinMax", {"CalibMovingAverage": True}, {"moving_average": True}),
        ("MinMax", {"CalibTensorRangeSymmetric": True}, {"symmetric": True}),
        ("Percentile", {}, {}),
        ("Percentile", {"CalibPercentile": 99.5}, {"percentile": 99.5}),
        ("Percentile", {"CalibTensorRangeSymmetric": False}, {"symmetric": False}),
        ("Entropy", {}, {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("activation", ["QUInt8", "QInt8"])
def test_quantized_models_have_the_peers_bytes(which, method, extra, options, activation, tmp_path):
    model, samples = MODELS[which]
    prepared = quantlab.prepare_for(model)
    quantlab.save(prepared.model, tmp_path / "float.onnx")
    ours = quantlab.quantize_static(
        tmp_path / "float.onnx",
        None,
        samples,
        per_channel=True,
        activation_type=activation,
        calibrate_method=f"onnxruntime_{method}",
        calibrate_options=options,
        engine=LIKE,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        peer.quantize_static(
            tmp_path / "float.onnx",
            tmp_path / "peer.onnx",
            Reader(samples),
            per_channel=True,
            activation_type=peer.QuantType[activation],
            calibrate_method=CalibrationMethod[method],
            extra_options=extra,
        )
    mine, theirs = (
        {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in made.graph.initializer}
        for made in (ours.model, onnx.load(tmp_path / "peer.onnx"))
    )
    assert mine == theirs


def quantized(data, engine=None, rule="onnxruntime_percentile", **options):
    return quantlab.quantize_static(
        demo.float_model(), None, data, calibrate_method=rule, engine=engine, **options
    ).model.SerializeToString()


IMAGES = demo.digits().train_images[:50]
TWICE = pytest.mark.parametrize("rule", ["onnxruntime_percentile", "onnxruntime_entropy", "onnxruntime_distribution"])


@TWICE
def test_workers_and_shards_give_the_same_bytes(rule):
    wanted = quantized({"image": IMAGES}, quantlab.Engine(workers=1), rule)
    assert quantized({"image": IMAGES}, quantlab.Engine(workers=3), rule) == wanted
    assert quantized({"image": IMAGES[::-1]}, None, rule) == wanted
    with ThreadPoolExecutor(2) as pool:
        assert quantized({"image": IMAGES}, quantlab.Engine(executor=pool, shards=4), rule) == wanted


@TWICE
@pytest.mark.parametrize("stop", [7, 49, 50, 63, 99])
def test_a_calibration_that_broke_off_in_either_pass_goes_on(rule, stop, tmp_path):
    class Breaking:
        """Breaks off once, after so many samples of both passes."""

        taken = 0

        def __iter__(self):
            for image in IMAGES:
                if Breaking.taken == stop:
                    Breaking.taken += 1
                    raise KeyboardInterrupt
                Breaking.taken += 1
                yield {"image": image[None]}

    engine = quantlab.Engine(checkpoint=tmp_path / "calibration.npz", every=0)
    with pytest.raises(KeyboardInterrupt):
        quantized(Breaking(), engine, rule)
    assert quantized({"image": IMAGES}, engine, rule) == quantized({"image": IMAGES}, None, rule)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["calibration.npz", "calibration.npz.second"]
    with pytest.raises(DataError, match="was made with another options"):
        quantized({"image": IMAGES}, engine, "onnxruntime_minmax")


def test_kept_statistics_and_ranges_give_what_quantizing_gives():
    model, samples = MODELS["digits"]
    recipe = quantlab.Recipe(calibrate="onnxruntime_percentile")
    stored = collect_statistics(model, samples, recipe)
    assert {type(statistic) for statistic in stored.statistics.values()} == {JoinedHistogram}
    table = ranges_of(model, stored, recipe)
    assert table == calibrate_ranges(model, samples, recipe)
    whole = quantlab.quantize(model, samples, recipe)
    kept = quantlab.quantize(model, None, recipe, ranges=table)
    assert kept.plan.tensors["logits"].qparams == whole.plan.tensors["logits"].qparams
    for options in ({"symmetric": False}, {"num_bins": 64}):
        with pytest.raises(OptionError, match=r"was collected with (absolute|bins)="):
            ranges_of(model, stored, replace(recipe, calibrate_options=options))


def test_averages_depend_on_the_order_and_are_not_shared_out():
    with ThreadPoolExecutor(1) as pool:
        engine = quantlab.Engine(executor=pool, shards=2)
        with pytest.raises(OptionError, match="depends on the order of the samples, so they cannot be shared out"):
            quantized({"image": IMAGES}, engine, "onnxruntime_minmax", calibrate_options={"moving_average": True})


def test_data_that_can_be_read_only_once_is_refused_before_it_is_read():
    def once():
        raise AssertionError("reading has begun")
        yield {}

    text = r"^range rule 'onnxruntime_percentile' reads the data twice, and this data can be read only once: give "
    for data in (once(), Reader(once())):
        with pytest.raises(DataError, match=text):
            quantized(data)
    model, recipe = quantlab.load(demo.float_model()), quantlab.Recipe(calibrate="onnxruntime_percentile")
    prepared = quantlab.prepare_for(model, recipe)
    with pytest.raises(DataError, match=text):
        observe(prepared, quantlab.decide(prepared, recipe), once(), recipe)


def test_data_that_changes_between_the_passes_is_refused():
    class Changing:
        def __init__(self, factor):
            self.factor, self.passes = np.float32(factor), 0

        def __iter__(self):
            self.passes += 1
            factor = self.factor if self.passes == 2 else np.float32(1)
            return iter([{"image": image[None] * factor} for image in IMAGES])

    recipe = quantlab.Recipe(calibrate="onnxruntime_percentile")
    for factor in (0.5, 2):
        with pytest.raises(
            DataError, match=r"the second pass over the data had .* values in .*, the first .*; give the"
        ):
            quantlab.quantize(quantlab.load(demo.float_model()), Changing(factor), recipe)


def test_the_engine_is_the_one_documented():
    assert LIKE.backend == quantlab.OrtBackend(threads=0, optimize=False)
    assert replace(LIKE, workers=2).backend == LIKE.backend
    assert LIKE.second_pass() is LIKE
    assert quantlab.Engine(checkpoint="a.npz").second_pass().checkpoint == "a.npz.second"
