"""Averages of the batches' ends: exact sums for the mean, one rounding a step for the exponential form."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab.arrays import INT8, QuantSpec
from quantlab.calibration import ExponentialAverage, MinMax, MovingAverage, calibrator
from quantlab.errors import DataError, OptionError

SPEC = QuantSpec(dtype=INT8)
dtypes = st.sampled_from([np.float16, np.float32, np.float64])
batches = dtypes.flatmap(
    lambda d: st.lists(hnp.arrays(d, st.integers(0, 6), elements=hnp.from_dtype(np.dtype(d))), max_size=6)
)


def fill(empty, arrays):
    for x in arrays:
        empty = empty.update(x)
    return empty


def ends_of(arrays):
    """The ends of each batch that has any, as rational numbers."""
    finite = [x[np.isfinite(x)].astype(np.float64) for x in arrays]
    return [(Fraction(float(x.min())), Fraction(float(x.max()))) for x in finite if x.size]


@given(batches)
def test_mean_is_the_rational_mean_rounded_once(arrays):
    seen = fill(MovingAverage(), arrays)
    ends = ends_of(arrays)
    assert seen.batches == len(ends)
    if not ends:
        assert seen.averages() == (math.inf, -math.inf)
        return
    expected = tuple(float(sum(end) / len(ends)) for end in zip(*ends, strict=True))
    assert seen.averages() == expected
    assert not any(math.copysign(1, v) < 0 for v in seen.averages() if v == 0)


@given(st.data())
def test_order_and_merging_leave_no_trace_in_the_mean(data):
    arrays = data.draw(batches)
    whole = fill(MovingAverage(), arrays)
    assert fill(MovingAverage(), data.draw(st.permutations(arrays))) == whole
    first, second = (data.draw(st.integers(0, len(arrays))) for _ in range(2))
    low, high = sorted((first, second))
    a, b, c = (fill(MovingAverage(), part) for part in (arrays[:low], arrays[low:high], arrays[high:]))
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == c.merge(a).merge(b) == whole
    assert whole.merge(MovingAverage()) == MovingAverage().merge(whole) == whole


@given(batches, st.one_of(st.floats(0, 1, exclude_min=True), st.just(1)))
def test_exponential_average_is_the_recurrence_rounded_each_step(arrays, constant):
    seen = fill(ExponentialAverage(constant=constant), arrays)
    ends = ends_of(arrays)
    assume(ends)
    lo, hi = (float(end) for end in ends[0])
    for new_lo, new_hi in ends[1:]:
        lo = float((1 - Fraction(constant)) * Fraction(lo) + Fraction(constant) * new_lo)
        hi = float((1 - Fraction(constant)) * Fraction(hi) + Fraction(constant) * new_hi)
    assert seen.averages() == (lo, hi)
    assert seen.lo <= lo <= hi <= seen.hi


@given(batches)
def test_a_constant_of_one_keeps_the_last_batch(arrays):
    ends = ends_of(arrays)
    assume(ends)
    assert fill(ExponentialAverage(constant=1), arrays).averages() == tuple(map(float, ends[-1]))


def test_both_agree_with_numpy():
    arrays = np.random.default_rng(0).normal(size=(20, 100)).astype(np.float32)
    lows, highs = arrays.min(axis=1).astype(np.float64), arrays.max(axis=1).astype(np.float64)
    mean = fill(MovingAverage(), arrays).averages()
    # NumPy rounds each of 20 sums.
    assert np.allclose(mean, (lows.mean(), highs.mean()), rtol=20 * np.finfo(float).eps, atol=0)
    low = lows[0]
    for new in lows[1:]:
        low = low + 0.01 * (new - low)
    assert np.isclose(fill(ExponentialAverage(), arrays).averages()[0], low, rtol=60 * np.finfo(float).eps, atol=0)


@pytest.mark.parametrize("seen", [MovingAverage(), ExponentialAverage(constant=0.5)], ids=repr)
class TestBoth:
    def test_ends_and_counts_are_those_of_minmax(self, seen):
        arrays = [np.array([1.0, np.nan, -2.0]), np.array([np.inf, 5.0]), np.zeros(0), np.array([np.nan])]
        seen, plain = fill(seen, arrays), fill(MinMax(), arrays)
        assert seen.ends == plain
        assert (seen.count, seen.nan_count, seen.inf_count, seen.lo, seen.hi) == (3, 2, 1, -2.0, 5.0)

    def test_pickled_and_compared(self, seen):
        more = seen.update(np.array([1.0, -2.0]))
        assert pickle.loads(pickle.dumps(more)) == more != seen
        assert hash(pickle.loads(pickle.dumps(more))) == hash(more)

    def test_huge_values_do_not_overflow(self, seen):
        top = float(np.finfo(np.float64).max)
        seen = fill(seen, [np.array([-top]), np.array([top]), np.array([top])])
        assert all(map(math.isfinite, seen.averages()))

    def test_memory_does_not_grow(self, seen):
        rng = np.random.default_rng(0)
        sizes = []
        for _ in range(200):
            seen = seen.update(rng.normal(size=10))
            sizes.append(len(pickle.dumps(seen)))
        assert max(sizes) < 1500

    def test_other_types_are_refused(self, seen):
        with pytest.raises(DataError, match="got an array of int64"):
            seen.update(np.array([1]))


def test_only_the_exponential_form_is_ordered():
    assert (MovingAverage.ordered, ExponentialAverage.ordered) == (False, True)
    with pytest.raises(OptionError, match=r"^exponential averages cannot be merged, because they depend on the order"):
        ExponentialAverage().merge(ExponentialAverage())
    with pytest.raises(OptionError, match=r"^a MovingAverage cannot be merged with a MinMax"):
        MovingAverage().merge(MinMax())


def test_the_rule_takes_the_average_it_asks_for():
    x = [np.array([-1.0, 2.0]), np.array([-3.0, 10.0])]
    for options, lo, hi in (({}, -2.0, 6.0), ({"constant": 0.25}, -1.5, 4.0), ({"symmetric": True}, -6.0, 6.0)):
        rule = calibrator("moving_average", options)
        found = rule.range(fill(rule.empty(), x), SPEC)
        assert (found.lo, found.hi) == (lo, hi)
    rule = calibrator("moving_average", {"constant": 0.25})
    assert rule.explain(fill(rule.empty(), x), SPEC) == (
        "moving_average of 4 values, constant 0.25: [-1.5, 4] of the observed [-3, 10]"
    )
    with pytest.raises(OptionError, match=r"with constant=0.25 needs an ExponentialAverage, got a MovingAverage; coll"):
        rule.range(MovingAverage(), SPEC)


@pytest.mark.parametrize("constant", [0, 0.0, -0.1, 1.5, math.nan, True, "0.1"])
def test_impossible_constants_are_refused(constant):
    with pytest.raises(OptionError, match=r"^constant must be a number above 0 and at most 1, got "):
        calibrator("moving_average", {"constant": constant})
