"""Observers: the ranges of their rules, channel by channel like a loop, and grids of their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.arrays import INT4, INT8, UINT8, QParams, QuantSpec, fake_quant
from quantlab.calibration import (
    FixedQParamsObserver,
    NoopObserver,
    RecordingObserver,
    ReuseInputObserver,
    RuleObserver,
    calibrators,
    histogram_observer,
    min_max_observer,
    moving_average_min_max_observer,
    moving_average_per_channel_min_max_observer,
    per_channel_min_max_observer,
)
from quantlab.errors import DataError, OptionError

TENSOR = QuantSpec(dtype=UINT8)
CHANNELS = QuantSpec(dtype=INT8, symmetric=True, axis=1)


def stream(seed=0, count=5):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((2, 3, 4)).astype(np.float32) * np.float32(1 + index) for index in range(count)]


def observed(observer, arrays):
    for x in arrays:
        assert observer.observe(x) is x
    return observer


@given(st.integers(0, 1000), st.integers(1, 6))
def test_min_max(seed, count):
    arrays = stream(seed, count)
    found = observed(min_max_observer(TENSOR), arrays).range()
    assert (found.lo, found.hi) == (min(x.min() for x in arrays), max(x.max() for x in arrays))


@given(st.integers(0, 1000), st.sampled_from([0.01, 0.25, 1.0]))
def test_the_moving_average_begins_with_the_first_batch_and_steps_on(seed, constant):
    arrays = stream(seed)
    lo, hi = float(arrays[0].min()), float(arrays[0].max())
    for x in arrays[1:]:
        lo, hi = lo + constant * (float(x.min()) - lo), hi + constant * (float(x.max()) - hi)
    found = observed(moving_average_min_max_observer(TENSOR, constant), arrays).range()
    np.testing.assert_allclose([found.lo, found.hi], [lo, hi], rtol=1e-14)


@pytest.mark.parametrize("per_channel", [per_channel_min_max_observer, moving_average_per_channel_min_max_observer])
def test_per_channel_is_a_loop_over_channels(per_channel):
    alone = {
        per_channel_min_max_observer: min_max_observer,
        moving_average_per_channel_min_max_observer: moving_average_min_max_observer,
    }[per_channel]
    arrays = stream()
    found = observed(per_channel(CHANNELS), arrays)
    grid = QuantSpec(dtype=INT8, symmetric=True)
    looped = [alone(grid) for _ in range(3)]
    for x in arrays:
        for channel, one in enumerate(looped):
            one.observe(x[:, channel])
    assert found.range().lo.tolist() == [float(one.range().lo) for one in looped]
    assert found.range().hi.tolist() == [float(one.range().hi) for one in looped]
    assert found.qparams().scale.tolist() == [float(one.qparams().scale) for one in looped]
    assert found.qparams().scale.dtype == np.float32


def test_the_histogram_observer_loses_less_than_the_whole_range_on_heavy_tails():
    x = np.random.default_rng(0).laplace(size=20_000).astype(np.float32)
    grid = QuantSpec(dtype=INT4, symmetric=True)

    def error(observer):
        return float(np.mean((fake_quant(x, observed(observer, [x[:7000], x[7000:]]).qparams()) - x) ** 2))

    assert error(histogram_observer(grid)) < 0.5 * error(min_max_observer(grid))


@pytest.mark.parametrize("rule", [name for name in calibrators if not hasattr(calibrators[name], "second")])
@pytest.mark.parametrize("spec", [QuantSpec(dtype=INT8, symmetric=True), CHANNELS], ids=["tensor", "channels"])
def test_any_rule_that_reads_once_can_observe(rule, spec):
    found = observed(RuleObserver(rule, spec), stream()).qparams()
    assert found.scale.shape == ((3,) if spec.per_channel else ())


def test_fixed_numbers_stay():
    grid = QParams(scale=np.float32(1 / 256), zero_point=np.uint8(0), spec=TENSOR)
    assert observed(FixedQParamsObserver(grid), stream()).qparams() is grid


def test_the_input_s_grid_is_reused():
    source = observed(min_max_observer(TENSOR), stream(1))
    assert observed(ReuseInputObserver(source), stream(2)).qparams() == source.qparams()


def test_recording_keeps_copies():
    observer = RecordingObserver()
    x = np.array([1.0, 2.0], np.float32)
    assert observer.observe(x) is x
    x[0] = 5
    assert [kept.tolist() for kept in observer.arrays] == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: NoopObserver().qparams(),
            "a NoopObserver has no grid: its tensor stays as it is",
        ),
        (
            lambda: RecordingObserver().qparams(),
            "a RecordingObserver keeps arrays and has no grid; give its .arrays to another observer",
        ),
        (
            lambda: min_max_observer(CHANNELS),
            f"min_max_observer takes a grid for the whole tensor, got {CHANNELS}; drop the axis",
        ),
        (
            lambda: per_channel_min_max_observer(TENSOR),
            f"an observer per channel takes a grid with an axis, got {TENSOR}; or take min_max_observer",
        ),
        (
            lambda: RuleObserver("minmax", QuantSpec(dtype=INT8, axis=0, block_size=4)),
            f"an observer takes a grid per tensor or per channel, got {QuantSpec(dtype=INT8, axis=0, block_size=4)}; "
            "drop block_size",
        ),
        (
            lambda: moving_average_min_max_observer(TENSOR, 0),
            "constant must be a number above 0 and at most 1, got 0",
        ),
    ],
)
def test_what_cannot_be(make, text):
    with pytest.raises(OptionError) as error:
        make()
    assert str(error.value) == text


def test_a_rule_of_two_passes_is_refused():
    with pytest.raises(OptionError, match="reads its data twice, and an observer sees it once; take another rule"):
        RuleObserver("onnxruntime_percentile", TENSOR)


def test_arrays_that_cannot_be_observed():
    observer = per_channel_min_max_observer(CHANNELS)
    with pytest.raises(DataError, match="nothing was observed yet, so there is no range"):
        observer.range()
    with pytest.raises(DataError, match=r"an array of shape \(4,\) has no axis 1 to take channels from"):
        observer.observe(np.zeros(4, np.float32))
    observer.observe(np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match="channels along axis 1: 4 in one array, 3 in those before"):
        observer.observe(np.zeros((2, 4), np.float32))
    with pytest.raises(DataError, match="no finite value was seen"):
        observed(min_max_observer(TENSOR), [np.array([np.nan], np.float32)]).qparams()
