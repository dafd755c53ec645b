"""The rules that repeat onnxruntime's numbers, compared bit for bit with its own classes on the same arrays."""

import contextlib
import io
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, save
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    CalibrationMethod,
    HistogramCollector,
    create_calibrator,
)

from quantlab.arrays import INT8, UINT8, QuantSpec, qparams_from_range
from quantlab.calibration import OnnxruntimeHistogram, calibrator, calibrators
from quantlab.demo import float_model
from quantlab.errors import DataError, OptionError

settings.register_profile("quantlab", deadline=None)
settings.load_profile("quantlab")

SPEC = QuantSpec(dtype=UINT8)
PEERS = [name for name in calibrators if name.startswith("onnxruntime_")]
FORMS = [
    ("onnxruntime_percentile", {}),
    ("onnxruntime_percentile", {"percent": 99, "bins": 50}),
    ("onnxruntime_percentile", {"symmetric": False}),
    ("onnxruntime_percentile", {"symmetric": False, "percent": 90, "bins": 33}),
    ("onnxruntime_percentile", {"percent": 100, "bins": 64}),
    ("onnxruntime_entropy", {}),
    ("onnxruntime_entropy", {"bins": 300, "quantized_bins": 128}),
    ("onnxruntime_entropy", {"bins": 65, "quantized_bins": 8}),
]
forms = pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
tame = st.integers(-3000, 3000).map(lambda k: k / 16)
tame_arrays = hnp.arrays(np.float32, st.integers(1, 60), elements=tame)


def peer(name, options, arrays):
    """onnxruntime's collector after one `collect` for each array: its histogram and its range."""
    collector = HistogramCollector(
        method=name.removeprefix("onnxruntime_"),
        symmetric=options.get("symmetric", name == "onnxruntime_percentile"),
        num_bins=options.get("bins", 2048 if name == "onnxruntime_percentile" else 128),
        num_quantized_bins=options.get("quantized_bins", 128),
        percentile=options.get("percent", 99.999),
        scenario="same",
    )
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        for x in arrays:
            collector.collect({"x": [x]})
        low, high, *_ = collector.compute_collection_result()["x"]
    return collector.histogram_dict["x"], float(low), float(high)


def ours(name, options, arrays):
    rule = calibrator(name, options)
    seen = rule.empty()
    for x in arrays:
        seen = seen.update(x)
    return seen, rule.range(seen, SPEC)


def assert_same(name, options, arrays):
    (counts, edges, *_), low, high = peer(name, options, arrays)
    seen, found = ours(name, options, arrays)
    assert seen.counts.tolist() == counts.tolist()
    assert seen.edges.dtype == edges.dtype
    assert seen.edges.tolist() == edges.tolist()
    if low <= high:
        assert (float(found.lo), float(found.hi)) == (low, high)
    else:
        # The peer goes on to widen such a range until it contains zero.
        assert min(float(found.lo), 0.0) == min(low, 0.0)
        assert max(float(found.hi), 0.0) == max(high, 0.0)


@forms
@pytest.mark.parametrize("draw", ["normal", "laplace", "standard_cauchy", "exponential"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_equals_the_peer_on_random_data(name, options, draw, dtype):
    rng = np.random.default_rng(0)
    arrays = [np.clip(getattr(rng, draw)(size=(4, 500)) * scale, -200, 200).astype(dtype) for scale in (1, 0.5, 3, 1.1)]
    if dtype == np.float16 and calibrator(name, options).bins == 2048:
        # float16 has no numbers for the edges of so many bins.
        with pytest.raises(ValueError, match="Too many bins for data range"):
            peer(name, options, arrays[:1])
        with pytest.raises(DataError, match=r"^onnxruntime's histogram fails on float16 values in \[.*Too many bins"):
            ours(name, options, arrays[:1])
        return
    for count in (1, 2, 4):
        assert_same(name, options, arrays[:count])


@forms
@given(arrays=st.lists(tame_arrays, min_size=1, max_size=4))
def test_equals_the_peer_on_any_data(name, options, arrays):
    # Bins are added until they reach the new threshold; the peer has no limit on their number.
    reach = [float(np.abs(x).max()) for x in arrays]
    assume(all(r > max(reach) / 20 or r == 0 for r in reach))
    if "entropy" in name:
        # The peer ends with an AssertionError where too few bins are filled to be smoothed.
        assume(np.unique(np.concatenate(arrays)).size > 3)
    assert_same(name, options, arrays)


@forms
@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 0.1])
def test_equals_the_peer_on_constant_data(name, options, value):
    assert_same(name, options, [np.full(100, value, np.float32)])


class Samples(CalibrationDataReader):
    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


@pytest.mark.parametrize("method", ["Percentile", "Entropy"])
def test_equals_the_peer_on_the_demo_model(method, tmp_path):
    path = str(tmp_path / "digits.onnx")
    (tmp_path / "digits.onnx").write_bytes(float_model())
    rng = np.random.default_rng(0)
    samples = [{"image": rng.random((2, 1, 8, 8), np.float32)} for _ in range(5)]
    with contextlib.redirect_stdout(io.StringIO()):
        made = create_calibrator(path, None, str(tmp_path / "augmented.onnx"), CalibrationMethod[method])
        made.collect_data(Samples(samples))
        expected = made.compute_data()
    names = [output.name for output in made.infer_session.get_outputs()]
    runs = [dict(zip(names, made.infer_session.run(None, sample), strict=True)) for sample in samples]
    assert len(expected.data) > 5
    for tensor, data in expected.items():
        _, found = ours(f"onnxruntime_{method.lower()}", {}, [np.asarray([run[tensor] for run in runs])])
        assert (float(found.lo), float(found.hi)) == tuple(map(float, data.range_value)), tensor


def test_minmax_needs_no_form_of_its_own(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])
    save(
        helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)],
                          ir_version=8),
        tmp_path / "m.onnx",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 8)).astype(np.float32) for _ in range(7)]
    arrays[2][0, 0] = np.nan
    for moving, symmetric in ((False, False), (False, True), (True, False)):
        made = create_calibrator(
            tmp_path / "m.onnx",
            ["Relu"],
            str(tmp_path / "augmented.onnx"),
            CalibrationMethod.MinMax,
            extra_options={"moving_average": moving, "symmetric": symmetric},
        )
        clean = arrays if not moving else [a for a in arrays if np.isfinite(a).all()]
        made.collect_data(Samples([{"x": a} for a in clean]))
        low, high = (float(end[0]) for end in made.compute_data()["x"].range_value)
        rule = calibrator("moving_average" if moving else "minmax", {"symmetric": symmetric})
        seen = rule.empty()
        for a in clean:
            seen = seen.update(a)
        found = rule.range(seen, SPEC)
        if moving:
            # The peer adds in float32, with a rounding for each of the batches.
            assert np.allclose((found.lo, found.hi), (low, high), rtol=len(clean) * np.finfo(np.float32).eps, atol=0)
        else:
            assert (float(found.lo), float(found.hi)) == (low, high)


@pytest.mark.parametrize("name", PEERS)
class TestRules:
    def test_nothing_finite_is_refused(self, name):
        rule = calibrator(name)
        for ask in (rule.range, rule.explain):
            with pytest.raises(DataError, match=r"^no finite value was seen \(1 NaN, 1 infinite\)"):
                ask(rule.empty().update(np.array([np.nan, np.inf])), SPEC)

    def test_explanation(self, name):
        rule = calibrator(name)
        line = rule.explain(rule.empty().update(np.array([-1.5, 0.25, 3.0, np.nan, np.inf])), SPEC)
        assert line.startswith(f"{name} ")
        assert line.endswith(" of the observed [-1.5, 3]; 1 NaN and 1 infinite left out")

    def test_every_range_has_a_grid(self, name):
        rule = calibrator(name)
        for values in ([5.0], [-5.0], [0.0], [1e-30], [2.0, 2.1]):
            found = rule.range(rule.empty().update(np.array(values, np.float32)), SPEC)
            for spec in (SPEC, QuantSpec(dtype=INT8, symmetric=True)):
                assert np.isfinite(qparams_from_range(found.astype(np.float32), spec).scale)

    def test_other_statistics_are_refused(self, name):
        own = calibrator("minmax").empty().update(np.ones(2))
        text = rf"^range rule '{name}' needs an OnnxruntimeHistogram with absolute=(True|False), got MinMax; collect"
        with pytest.raises(OptionError, match=text):
            calibrator(name).range(own, SPEC)

    def test_the_statistic_is_ordered_and_not_merged(self, name):
        seen = calibrator(name).empty().update(np.ones(3))
        assert seen.ordered
        assert pickle.loads(pickle.dumps(seen)) == seen
        with pytest.raises(
            OptionError, match=r"^onnxruntime's histograms cannot be merged, because they depend on the"
        ):
            seen.merge(seen)


def test_messages():
    seen = OnnxruntimeHistogram(bins=8).update(np.array([1e-9], np.float32))
    with pytest.raises(
        DataError, match=r"^onnxruntime's histogram of float32 would need .* bins over a span of 0.0083"
    ):
        seen.update(np.ones(1, np.float32))
    with pytest.raises(DataError, match=r"bins over a span of inf, and at most 16,777,216 over a finite one are made"):
        OnnxruntimeHistogram(bins=8).update(np.array([3e38], np.float32))
    with pytest.raises(DataError, match=r"^an array of float64 came after arrays of float32; give one type only$"):
        seen.update(np.ones(1))
    with pytest.raises(DataError, match=r"^onnxruntime's histogram of float32 would need "):
        OnnxruntimeHistogram(bins=8, absolute=True).update(np.array([0, 1e-9], np.float32)).update(
            np.ones(1, np.float32)
        )
    with pytest.raises(OptionError, match=r"^bins must be an integer of at least 1, got 0$"):
        calibrator("onnxruntime_entropy", {"bins": 0})
    with pytest.raises(OptionError, match=r"^quantized_bins must be an integer from 1 to bins=128, got 129$"):
        calibrator("onnxruntime_entropy", {"quantized_bins": 129})
    with pytest.raises(OptionError, match=r"^percent must be a number from 0 to 100, got 101$"):
        calibrator("onnxruntime_percentile", {"percent": 101})
