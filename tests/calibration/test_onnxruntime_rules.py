"""The rules that repeat onnxruntime's numbers, compared bit for bit with its own classes on the same arrays."""

import contextlib
import io
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnxruntime.quantization.calibrate import HistogramCollector

from quantlab.arrays import FLOAT8E4M3FN, FLOAT8E5M2, INT8, UINT8, QuantSpec, qparams_from_range
from quantlab.calibration import (
    BatchEnds,
    JoinedHistogram,
    Magnitudes,
    MinMax,
    OnnxruntimeHistogram,
    PerChannelMinMax,
    calibrator,
    calibrators,
)
from quantlab.errors import DataError, OptionError

SPEC = QuantSpec(dtype=UINT8)
FLOAT8 = QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True)
PEERS = [name for name in calibrators if hasattr(calibrators[name], "second")]
FORMS = [
    ("onnxruntime_percentile", {}),
    ("onnxruntime_percentile", {"percentile": 99, "num_bins": 50}),
    ("onnxruntime_percentile", {"symmetric": False}),
    ("onnxruntime_percentile", {"symmetric": False, "percentile": 90, "num_bins": 33}),
    ("onnxruntime_percentile", {"percentile": 100, "num_bins": 64}),
    ("onnxruntime_entropy", {}),
    ("onnxruntime_entropy", {"num_bins": 300, "num_quantized_bins": 128}),
    ("onnxruntime_entropy", {"num_bins": 65, "num_quantized_bins": 8}),
    ("onnxruntime_distribution", {}),
    ("onnxruntime_distribution", {"num_bins": 512, "scenario": "p3"}),
]
forms = pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
tame = st.integers(-3000, 3000).map(lambda k: k / 16)
tame_arrays = hnp.arrays(np.float32, st.integers(1, 60), elements=tame)


def peer(name, options, collects):
    """onnxruntime's collector after each call of `collect`: its histogram and its range."""
    collector = HistogramCollector(
        method=name.removeprefix("onnxruntime_"),
        symmetric=options.get("symmetric", name == "onnxruntime_percentile"),
        num_bins=options.get("num_bins", 128 if name == "onnxruntime_entropy" else 2048),
        num_quantized_bins=options.get("num_quantized_bins", 128),
        percentile=options.get("percentile", 99.999),
        scenario=options.get("scenario", "same"),
    )
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        for samples in collects:
            collector.collect({"x": samples})
        found = collector.compute_collection_result()["x"]
    low, high = found.range_value if name == "onnxruntime_distribution" else found[:2]
    return collector.histogram_dict["x"], float(low), float(high)


def fails(name, options, collects):
    """Say whether onnxruntime's collector runs out of numbers for the edges of its bins."""
    try:
        peer(name, options, collects)
    except ValueError as error:
        return "Too many bins for data range" in str(error)
    return False


def ours(name, options, arrays):
    rule = calibrator(name, options)
    seen = rule.empty()
    for x in arrays:
        seen = seen.update(x)
    return seen, rule.range(seen, SPEC)


def joined(name, options, arrays):
    """Two passes, in parts that are merged in another order."""
    rule = calibrator(name, options)
    first = rule.first()
    for x in arrays:
        first = first.merge(rule.first().update(x))
    empty = rule.second(first)
    seen = empty
    for x in reversed(arrays):
        seen = empty.update(x).merge(seen)
    return seen, rule.range(seen, SPEC)


def assert_same(name, options, arrays):
    assert_equal(peer(name, options, [[x] for x in arrays]), ours(name, options, arrays))


def assert_same_joined(name, options, arrays):
    # The peer joins arrays of one shape only; of other shapes, this stands for them.
    assert_equal(peer(name, options, [[np.concatenate([x.ravel() for x in arrays])]]), joined(name, options, arrays))


def assert_equal(peers, own):
    (counts, edges, *_), low, high = peers
    seen, found = own
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
    for count in (1, 2, 4):
        for collects, own in (([[x] for x in arrays[:count]], ours), ([arrays[:count]], joined)):
            if dtype == np.float16 and calibrator(name, options).num_bins >= 512 and fails(name, options, collects):
                # float16 has no numbers for the edges of so many bins.
                text = r"^onnxruntime's histogram fails on float16 values in \[.*Too many bins"
                with pytest.raises(DataError, match=text):
                    own(name, options, arrays[:count])
            else:
                assert_equal(peer(name, options, collects), own(name, options, arrays[:count]))


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
    assert_same_joined(name, options, arrays)


@forms
@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 0.1])
def test_equals_the_peer_on_constant_data(name, options, value):
    assert_same(name, options, [np.full(100, value, np.float32)])
    assert_same_joined(name, options, [np.full(100, value, np.float32)] * 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_averages_add_as_the_peer_adds(dtype):
    rng = np.random.default_rng(0)
    ends = np.sort(rng.normal(size=(1000, 2)).astype(dtype), axis=1)
    for count in (1, 2, 7, 9, 127, 130, 1000):
        rule = calibrator("onnxruntime_minmax", {"moving_average": True})
        seen = rule.empty()
        for pair in ends[:count]:
            seen = seen.update(pair)
        found = rule.range(seen, SPEC)
        # What `MinMaxCalibrater.compute_data` does with the outputs of its ReduceMin and ReduceMax.
        wanted = [np.nanmean([row[[side]] for row in ends[:count]], axis=0) for side in (0, 1)]
        assert [float(found.lo), float(found.hi)] == [float(end[0]) for end in wanted]


class TestMinMax:
    def test_plain_ends_need_one_pass_and_can_be_merged(self):
        assert calibrator("onnxruntime_minmax").empty() == MinMax()
        assert calibrator("onnxruntime_minmax", {"per_channel": True}).empty() == PerChannelMinMax(axis=1)
        for options in ({"moving_average": True}, {"max_intermediate_outputs": 3}):
            seen = calibrator("onnxruntime_minmax", options).empty()
            assert seen.ordered
            with pytest.raises(OptionError, match=r"^ends of batches in their order cannot be merged, because nobody"):
                seen.merge(seen)

    def test_the_peer_forgets_whole_buffers(self):
        rule = calibrator("onnxruntime_minmax", {"max_intermediate_outputs": 2})
        seen = rule.empty()
        for value in (100.0, -100.0, 1.0):
            seen = seen.update(np.array([value], np.float32))
        assert float(rule.range(seen, SPEC).hi) == float(rule.range(seen, SPEC).lo) == 1
        assert (
            rule.explain(seen, SPEC)
            == "onnxruntime_minmax of 3 values in 3 samples: [1, 1] of the observed [-100, 100]"
        )
        text = r"^of 4 samples none is left with max_intermediate_outputs=2: onnxruntime drops so many at a time"
        with pytest.raises(DataError, match=text):
            rule.range(seen.update(np.ones(1, np.float32)), SPEC)

    def test_messages(self):
        for name, value in (("stride", 0), ("max_intermediate_outputs", True)):
            with pytest.raises(OptionError, match=rf"^{name} must be an integer of at least 1 or none, got {value}$"):
                calibrator("onnxruntime_minmax", {name: value})
        with pytest.raises(OptionError, match=r"^averaging_constant must be a number from 0 to 1, got 1.5$"):
            calibrator("onnxruntime_minmax", {"averaging_constant": 1.5})
        with pytest.raises(OptionError, match=r"^per_channel and stride exclude each other: onnxruntime joins strides"):
            calibrator("onnxruntime_minmax", {"per_channel": True, "stride": 2})
        rule = calibrator("onnxruntime_minmax", {"moving_average": True, "stride": 2})
        with pytest.raises(DataError, match=r"^1 samples cannot be cut into strides of 2: onnxruntime refuses them"):
            rule.range(rule.empty().update(np.ones(2)), SPEC)
        with pytest.raises(DataError, match=r"^no finite value was seen \(1 NaN, 1 infinite\)"):
            rule.range(rule.empty().update(np.array([np.nan, np.inf])), SPEC)
        with pytest.raises(OptionError, match=r"with moving_average=True and .* needs BatchEnds, got a MinMax; "):
            rule.range(MinMax().update(np.ones(2)), SPEC)
        seen = BatchEnds(axis=1).update(np.ones((2, 3), np.float32))
        with pytest.raises(DataError, match=r"^a batch of float32 with 4 channels came after batches of float32 with"):
            seen.update(np.ones((2, 4), np.float32))
        with pytest.raises(DataError, match=r"^an array of shape \(5,\) has no axis 1 to take channels from$"):
            seen.update(np.ones(5, np.float32))


class TestDistribution:
    def test_float8_scale(self):
        x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
        rule = calibrator("onnxruntime_distribution")
        seen, _ = joined("onnxruntime_distribution", {}, [x])
        grid = qparams_from_range(rule.range(seen, FLOAT8), FLOAT8)
        assert float(grid.scale) == pytest.approx(float(x.std()) / 100.057724, rel=1e-3)

    def test_messages(self):
        rule = calibrator("onnxruntime_distribution")
        seen = rule.empty().update(np.ones(3, np.float32))
        with pytest.raises(OptionError, match=r"^onnxruntime has no distribution for float8e5m2: take float8e4m3fn$"):
            rule.range(seen, QuantSpec(dtype=FLOAT8E5M2, symmetric=True))
        with pytest.raises(DataError, match=r"^the values lie so close together that onnxruntime's float8 scale is "):
            rule.range(seen, FLOAT8)
        with pytest.raises(OptionError, match=r"^num_bins must be at least 512, got 511: onnxruntime refuses fewer$"):
            calibrator("onnxruntime_distribution", {"num_bins": 511})
        with pytest.raises(
            OptionError, match=r"^unknown scenario 'some'; did you mean 'same'\? \(allowed: same, p3\)$"
        ):
            calibrator("onnxruntime_distribution", {"scenario": "some"})


class TestJoined:
    def test_other_data_in_the_second_pass_is_refused(self):
        for first in (MinMax(), Magnitudes()):
            empty = JoinedHistogram.after(first.update(np.array([-2, 3], np.float32)), bins=8)
            with pytest.raises(DataError, match=r"^the second pass over the data had 1 values in \[4, 4\], the first"):
                empty.update(np.array([4], np.float32))
            with pytest.raises(DataError, match=r"^the second pass over the data had 1 values in \[2, 2\], the first"):
                empty.update(np.array([2], np.float32)).require_whole()

    def test_only_counts_on_the_same_bins_are_merged(self):
        one, other = (
            JoinedHistogram.after(MinMax().update(np.array(values, np.float32)), bins=8) for values in ([1, 2], [1, 3])
        )
        for wrong, text in ((other, "one on other bins"), (MinMax(), "a MinMax")):
            with pytest.raises(OptionError, match=rf"^a JoinedHistogram cannot be merged with {text}; merge those "):
                one.merge(wrong)
        with pytest.raises(OptionError, match=r"^Magnitudes cannot be merged with a MinMax; merge statistics of one"):
            Magnitudes().merge(MinMax())
        with pytest.raises(DataError, match=r"^an array of float64 came after arrays of float32; give one type only$"):
            one.update(np.ones(1, np.float32)).update(np.ones(1))
        with pytest.raises(DataError, match=r"^counts of float64 came after those of float32; give one type only$"):
            one.update(np.ones(1, np.float32)).merge(one.update(np.ones(1)))
        with pytest.raises(OptionError, match=r"^a second pass needs the MinMax or Magnitudes of the first, got a "):
            JoinedHistogram.after(BatchEnds(), bins=8)

    def test_empty_arrays_and_infinities_are_left_out(self):
        rule = calibrator("onnxruntime_percentile")
        arrays = [np.zeros((0, 3), np.float32), np.array([1, np.inf, -2], np.float32), np.array([np.inf], np.float32)]
        first = rule.first()
        for x in arrays:
            first = first.update(x)
        seen = rule.second(first)
        for x in arrays:
            seen = seen.update(x)
        assert (seen.count, seen.inf_count, int(seen.counts.sum())) == (2, 2, 2)
        assert rule.range(seen, SPEC) == joined("onnxruntime_percentile", {}, [np.array([1, -2], np.float32)])[1]
        nothing = rule.second(rule.first())
        assert nothing.edges.size == 0
        with pytest.raises(DataError, match=r"^no finite value was seen"):
            rule.range(nothing, SPEC)


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
        text = rf"^range rule '{name}' needs an OnnxruntimeHistogram or JoinedHistogram with absolute=.*, got MinMax; "
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
        calibrator("onnxruntime_entropy", {"num_bins": 0})
    text = r"^num_quantized_bins must be an integer from 1 to num_bins=128, got 129$"
    with pytest.raises(OptionError, match=text):
        calibrator("onnxruntime_entropy", {"num_quantized_bins": 129})
    with pytest.raises(OptionError, match=r"^percentile must be a number from 0 to 100, got 101$"):
        calibrator("onnxruntime_percentile", {"percentile": 101})
