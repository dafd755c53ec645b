"""The ends per channel equal those of looping over the channels, however the data is cut and merged."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab import kernels
from quantlab.arrays import INT8, QuantSpec
from quantlab.calibration import MinMax, PerChannelMinMax, calibrator
from quantlab.errors import DataError, OptionError

any_array = st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
    lambda d: hnp.arrays(d, hnp.array_shapes(max_dims=4, max_side=4), elements=hnp.from_dtype(np.dtype(d)))
)


def looped(arrays, axis):
    """One `MinMax` a channel."""
    channels = range(arrays[0].shape[axis])
    seen = [MinMax() for _ in channels]
    for x in arrays:
        for c in channels:
            seen[c] = seen[c].update(np.take(x, c, axis=axis))
    return seen


@given(x=any_array, data=st.data())
def test_equals_looping_over_channels(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    arrays = [x, x[..., ::-1] * x.dtype.type(0.5), x]
    seen = PerChannelMinMax(axis=axis)
    for array in arrays:
        seen = seen.update(array)
    expected = looped(arrays, axis)
    assert seen.los.tolist() == [one.lo for one in expected]
    assert seen.his.tolist() == [one.hi for one in expected]
    assert seen.counts.T.tolist() == [[one.count, one.nan_count, one.inf_count] for one in expected]
    whole = MinMax().update(np.stack(arrays))
    assert (seen.count, seen.nan_count, seen.inf_count) == (whole.count, whole.nan_count, whole.inf_count)
    assert (seen.lo, seen.hi) == (whole.lo, whole.hi)
    assert not (np.signbit(seen.los) & (seen.los == 0)).any()


@given(hnp.arrays(np.float32, (6, 3, 2), elements=st.floats(width=32)), st.integers(0, 6), st.integers(0, 6))
def test_split_order_and_merging_leave_no_trace(x, a, b):
    low, high = sorted((a, b))
    empty = PerChannelMinMax(axis=1)
    parts = [empty.update(part) for part in (x[:low], x[low:high], x[high:])]
    first, second, third = parts
    whole = empty.update(x)
    assert first.merge(second).merge(third) == first.merge(second.merge(third)) == third.merge(second).merge(first)
    assert first.merge(second).merge(third) == whole
    assert whole.merge(empty) == empty.merge(whole) == whole
    assert hash(pickle.loads(pickle.dumps(whole))) == hash(whole)
    assert pickle.loads(pickle.dumps(whole)) == whole


def test_numpy_and_numba_kernels_agree():
    x = np.random.default_rng(0).normal(size=(4, 16, 40, 40)).astype(np.float32)
    found = []
    for choice in ("numpy", "numba"):
        with kernels.using(choice):
            found.append(PerChannelMinMax(axis=1).update(x))
    assert found[0] == found[1]


def test_ranges_have_a_channel_each():
    x = np.random.default_rng(1).normal(size=(5, 3, 7)).astype(np.float32)
    for options in ({}, {"symmetric": True}):
        rule = calibrator("minmax", {"axis": 1, **options})
        seen = rule.empty().update(x[:2]).update(x[2:])
        found = rule.range(seen, QuantSpec(dtype=INT8, axis=1))
        lo, hi = x.min(axis=(0, 2)).astype(np.float64), x.max(axis=(0, 2)).astype(np.float64)
        largest = np.maximum(-lo, hi)
        assert found.lo.tolist() == (-largest if options else lo).tolist()
        assert found.hi.tolist() == (largest if options else hi).tolist()
        # A grid per tensor gets the ends of the tensor.
        whole = calibrator("minmax", options)
        per_tensor = QuantSpec(dtype=INT8)
        assert rule.range(seen, per_tensor) == whole.range(whole.empty().update(x), per_tensor)


def test_explanation():
    rule = calibrator("minmax", {"axis": 0})
    seen = rule.empty().update(np.array([[1.0, -2.0], [np.nan, 4.0]]))
    assert rule.explain(seen, QuantSpec(dtype=INT8, axis=0)) == (
        "minmax of 3 values, each of 2 channels of axis 0 on its own, together: "
        "[-2, 4] of the observed [-2, 4]; 1 NaN left out"
    )
    assert rule.explain(seen, QuantSpec(dtype=INT8)).startswith("minmax of 3 values: [-2, 4]")


def test_messages():
    rule, spec = calibrator("minmax", {"axis": 0}), QuantSpec(dtype=INT8, axis=0)
    seen = rule.empty().update(np.array([[1.0, -2.0], [np.nan, np.inf]]))
    with pytest.raises(DataError, match=r"^no finite value was seen in channel 1 of 2 along axis 0, so there is no"):
        rule.range(seen, spec)
    with pytest.raises(
        OptionError, match=r"per channel of axis 0 needs .* is a 'minmax'; give 'minmax' the option axi"
    ):
        rule.range(MinMax().update(np.ones(2)), spec)
    with pytest.raises(OptionError, match=r"the statistic is channels along axis 0; give 'minmax' the option axis=1$"):
        rule.range(seen, QuantSpec(dtype=INT8, axis=1))
    with pytest.raises(DataError, match=r"^channels along axis 0: 3 in one array, 2 in those before; choose an axis"):
        seen.update(np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"^an array of shape \(4,\) has no axis 2 to take channels from"):
        PerChannelMinMax(axis=2).update(np.zeros(4))
    with pytest.raises(OptionError, match=r"^a PerChannelMinMax of axis 0 cannot be merged with one of axis 1; merge"):
        seen.merge(PerChannelMinMax(axis=1))
    with pytest.raises(OptionError, match=r"^a PerChannelMinMax of axis 0 cannot be merged with a MinMax; merge"):
        seen.merge(MinMax())
    with pytest.raises(DataError, match="got an array of int64"):
        seen.update(np.zeros((2, 2), np.int64))
    for axis in (True, 1.0, "1"):
        with pytest.raises(OptionError, match=r"^axis must be an integer, got "):
            calibrator("minmax", {"axis": axis})
    with pytest.raises(ValueError, match="read-only"):
        seen.los[0] = 1
