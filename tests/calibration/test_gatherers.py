"""A gatherer hands out the bytes that updating the statistic one array after the other comes to."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab.calibration import (
    BatchEnds,
    ExponentialAverage,
    Histogram,
    JoinedHistogram,
    Magnitudes,
    MinMax,
    MovingAverage,
    OnnxruntimeHistogram,
    PerChannelMinMax,
    statistics,
)
from quantlab.calibration.gather import Gathered, gatherer
from quantlab.errors import DataError

EMPTY = (
    MinMax(),
    Histogram(),
    Histogram(max_bins=8),
    Histogram(max_bins=100, absolute=True),
    MovingAverage(),
    ExponentialAverage(),
    PerChannelMinMax(axis=0),
    OnnxruntimeHistogram(bins=4),
    OnnxruntimeHistogram(bins=5, absolute=True),
    BatchEnds(),
    BatchEnds(axis=1),
    Magnitudes(),
    JoinedHistogram.after(MinMax().update(np.array([-250.0, 250.0])), bins=4),
)
# Neither so small nor so large that onnxruntime's histogram needs impossible bins.
values = st.integers(-2000, 2000).map(lambda k: k / 8) | st.sampled_from([np.nan, np.inf, -np.inf, -0.0])
dtypes = st.sampled_from([np.float16, np.float32, np.float64])
streams = dtypes.flatmap(lambda d: st.lists(hnp.arrays(d, (2, 3), elements=values), max_size=6))


def fill(empty, arrays):
    return reduce(lambda seen, x: seen.update(x), arrays, empty)


def image(seen):
    """Every bit of a statistic."""
    arrays = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in seen.arrays().items()}
    return type(seen), arrays, seen.count, seen.nan_count, seen.inf_count


def test_every_statistic_is_under_the_laws():
    assert {type(empty) for empty in EMPTY} == {statistics[kind] for kind in statistics}
    assert {type(empty) for empty in EMPTY if isinstance(empty, Gathered)} == {MinMax, Histogram}


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
class TestLaws:
    @given(before=streams, arrays=streams)
    def test_gathering_comes_to_the_bytes_of_updating(self, empty, before, arrays):
        dtype = np.result_type(*before, np.float16)
        arrays = [x.astype(dtype) for x in arrays]  # onnxruntime's histogram takes one type only
        with np.errstate(over="ignore"):
            start = fill(empty, [x.astype(dtype) for x in before])
        seen, own = gatherer(start), image(start)
        for n, x in enumerate(arrays):
            seen.add(x)
            want = fill(start, arrays[: n + 1])
            assert (seen.nan_count, seen.inf_count) == (want.nan_count, want.inf_count)
            assert image(seen.result()) == image(want)
        assert image(seen.result()) == image(fill(start, arrays))
        assert image(start) == own

    def test_what_was_handed_out_stays_as_it_is(self, empty):
        seen = gatherer(empty)
        seen.add(np.array([[1.0, -2.0], [0.5, 0.25]]))
        first = seen.result()
        before = image(first)
        seen.add(np.array([[1.0, -1.0], [0.5, 200.0]]))
        assert image(first) == before
        assert image(seen.result()) != before

    def test_what_is_refused_leaves_no_trace(self, empty):
        seen = gatherer(empty.update(np.array([[1.0, -2.0]])))
        before = image(seen.result())
        with pytest.raises(DataError, match="takes NumPy arrays of float16, float32 or float64, got an array of int64"):
            seen.add(np.array([[3, 400]]))
        assert image(seen.result()) == before


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_long_streams_that_widen_now_and_then(absolute, dtype):
    rng = np.random.default_rng(11)
    parts = [(9, 1), (5000, 1), (20_000, 1), (70, 40), (6000, 2)]
    arrays = [(spread * rng.standard_normal(size)).astype(dtype) for size, spread in parts]
    arrays[2][[7, 19_000]] = np.nan, -np.inf
    empty = Histogram(max_bins=512, absolute=absolute)
    seen = gatherer(empty)
    for x in arrays:
        seen.add(x)
    assert image(seen.result()) == image(fill(empty, arrays))
    # A single array shows the same, whatever the bins were in between.
    assert image(seen.result()) == image(empty.update(np.concatenate(arrays)))
