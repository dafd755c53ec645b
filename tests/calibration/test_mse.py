"""The mse rule against brute force: `fake_quant` of the values themselves for one range after the other."""

import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab.arrays import INT4, INT8, INT16, UINT4, UINT8, UINT16, QuantSpec, Range, fake_quant, qparams_from_range
from quantlab.calibration import Histogram, MseRule, calibrator
from quantlab.calibration.rules.mse import TIE, errors, points, search
from quantlab.errors import OptionError

SPECS = (
    QuantSpec(dtype=INT8, symmetric=True),
    QuantSpec(dtype=INT8, symmetric=True, narrow_range=True),
    QuantSpec(dtype=UINT8),
    QuantSpec(dtype=UINT8, symmetric=True),
    QuantSpec(dtype=UINT8, reduce_range=True),
    QuantSpec(dtype=INT4, symmetric=True),
    QuantSpec(dtype=UINT4),
    QuantSpec(dtype=INT16),
    QuantSpec(dtype=UINT16),
)
specs = st.sampled_from(SPECS)
DRAWS = {
    "normal": lambda rng: rng.normal(size=20_000),
    "relu": lambda rng: np.maximum(rng.normal(size=20_000), 0),
    "negative": lambda rng: -rng.gamma(2.0, size=20_000),
    "heavy tails": lambda rng: rng.standard_t(3, size=20_000),
    "skewed": lambda rng: rng.gamma(1.5, size=20_000) - 0.5,
    "outlier": lambda rng: np.append(rng.normal(size=20_000), 60.0),
    "uniform": lambda rng: rng.uniform(-1, 3, size=20_000),
}
draws = pytest.mark.parametrize("draw", DRAWS)


def filled(draw, max_bins=4096):
    x = DRAWS[draw](np.random.default_rng(0))
    return x, Histogram(max_bins=max_bins).update(x)


def rms_of(x, lo, hi, spec):
    """Root mean squared error of the values themselves on a grid in exact arithmetic, one value after the other."""
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if spec.symmetric:
        lo, hi = -max(-lo, hi), max(-lo, hi)
    scale = (hi - lo) / (spec.qmax - spec.qmin)
    zero = round((spec.qmin + spec.qmax) / 2) if spec.symmetric else round(spec.qmin - lo / scale)
    q = np.clip(np.rint(x / scale) + zero, spec.dtype.qmin, spec.dtype.qmax)
    return math.sqrt(np.mean(((q - zero) * scale - x) ** 2))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_oracle_is_fake_quant(spec):
    x = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    found = Range(np.float32(-2.5), np.float32(3.25))
    error = fake_quant(x, qparams_from_range(found, spec)).astype(np.float64) - x
    # fake_quant rounds its scale and its outputs to float32.
    assert math.isclose(rms_of(x, -2.5, 3.25, spec), math.sqrt(np.mean(error**2)), rel_tol=1e-3)


@given(
    x=hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-100, 100)),
    spec=specs,
    ends=st.lists(st.tuples(st.floats(0, 2000), st.floats(0, 2000)), min_size=1, max_size=5),
)
def test_errors_equal_rounding_every_point(x, spec, ends):
    values = points(Histogram().update(x))
    lo, hi = (np.array(end) for end in zip(*ends, strict=True))
    assume((lo + hi > 1e-3).all())
    found = errors(values, lo, hi, spec)
    for error, one_lo, one_hi in zip(found, lo, hi, strict=True):
        rms = [rms_of(np.array([c]), -one_lo, one_hi, spec) for c in values.x]
        expected = float(np.sum(np.square(rms) * values.counts)) / values.total
        assert math.isclose(error, expected, rel_tol=1e-9, abs_tol=1e-12)


@draws
@pytest.mark.parametrize("spec", [SPECS[0], SPECS[2], SPECS[4], SPECS[6]], ids=str)
def test_both_ways_to_add_up_agree(draw, spec):
    values = points(filled(draw)[1])
    lo, hi = values.lo * np.array([1.0, 0.3, 0.7, 0.0]), values.hi * np.array([1.0, 0.4, 0.0, 0.9])
    some = lo + hi > 0
    by_level = errors(values, lo[some], hi[some], spec)
    # So few points at a time that each is rounded to its level.
    few = [
        errors(replace(values, x=values.x[k::400], counts=values.counts[k::400]), lo[some], hi[some], spec)
        for k in range(400)
    ]
    # What is left differs by far less than the rule calls a tie.
    assert values.x.size > 16 > values.x[::400].size
    assert np.allclose(by_level, np.sum(few, axis=0), rtol=0, atol=1e-2 * TIE * values.mean_square())


@draws
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("symmetric", [False, True])
def test_no_range_is_much_better_on_the_values_themselves(draw, spec, symmetric):
    x, seen = filled(draw, 256)
    rule = MseRule(max_bins=256, symmetric=symmetric)
    found = rule.range(seen, spec)
    width = 2.0 ** points(seen).exponent
    own = rms_of(x, float(found.lo), float(found.hi), spec)
    parts = np.arange(1, 65) / 64
    if symmetric or spec.symmetric or seen.lo >= 0 or seen.hi <= 0:
        top = max(-seen.lo, seen.hi)
        edges = np.append(np.arange(width, top, width), top)
        both = symmetric or spec.symmetric
        tried = [(-t if both or seen.lo < 0 else 0.0, t if both or seen.hi > 0 else 0.0) for t in edges]
        # Every edge is tried, and the error of each is known to one bin width.
        assert own <= min(rms_of(x, lo, hi, spec) for lo, hi in tried) + 2 * width
        return
    # The first search takes every 64th part of each side, rounded up to bins of a power of two.
    step = [max(1, 2 ** math.ceil(math.log2(limit / width / 64))) * width for limit in (-seen.lo, seen.hi)]
    sides = [
        np.unique(np.minimum(np.ceil(parts[::8] * limit / k) * k, limit))
        for limit, k in zip((-seen.lo, seen.hi), step, strict=True)
    ]
    best = min(rms_of(x, -lo, hi, spec) for lo, hi in itertools.product(*sides))
    assert own <= best + 2 * width


@given(x=hnp.arrays(np.int64, st.integers(2, 60), elements=st.integers(-500, 500)), spec=specs)
def test_symmetric_search_is_exhaustive(x, spec):
    # Odd quarters lie in the middle of bins of width 1/2; 1001 bins at most hold them, and none is next to zero.
    values = x / 2.0 + 0.25
    values = values[np.abs(values) > 0.5]
    assume(values.size)
    seen = Histogram(max_bins=2002).update(values)
    laid = points(seen)
    found = search(laid, spec, mirrored=True)
    top = max(laid.lo, laid.hi)
    edges = np.append(np.arange(1, top), top)
    exact = errors(laid, edges, edges, spec)
    assert found.error == exact[edges == found.hi][0]
    assert found.error <= exact.min() + 1e-12 * np.mean((values / 2.0**laid.exponent) ** 2) * (1 + 1e-9)
    assert found.tried == edges.size


def test_an_end_just_below_an_edge_stays_in_its_bin():
    # The middle of [3 - 2**-51, 3] rounds to 3, where the next bin begins.
    values = np.append(np.arange(20) + 3.5, np.nextafter(3.0, 0))
    laid = points(Histogram(max_bins=64).update(values))
    edge = 3 * 2.0**-laid.exponent
    assert laid.x[0] == np.nextafter(edge, 0)
    assert laid.x.size == 21
    width = 2.0**laid.exponent
    found = math.sqrt(errors(laid, np.zeros(1), np.array([laid.hi]), SPECS[6])[0]) * width
    assert abs(found - rms_of(values, 0.0, laid.hi * width, SPECS[6])) < width


def test_where_nothing_is_gained_nothing_is_clipped():
    for values in ([-3.0, 0.0, 5.0], [0.0, 8.0], [-1.0, 1.0], [1e-30, 7.0]):
        seen = Histogram().update(np.array(values))
        for spec in SPECS[:4]:
            found = calibrator("mse").range(seen, spec)
            error = rms_of(np.array(values), float(found.lo), float(found.hi), spec)
            assert error <= rms_of(np.array(values), min(values), max(values), spec) + 2 * 2.0 ** points(seen).exponent


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_side_that_is_next_to_nothing(spec):
    for values in ([2.9e151, -4e-155], [-2.9e151, 5e-324]):
        seen = Histogram().update(np.array(values))
        found = MseRule().range(seen, spec)
        assert seen.lo <= found.lo <= found.hi <= seen.hi
        x, width = np.array(values), 2.0 ** points(seen).exponent
        assert rms_of(x, found.lo, found.hi, spec) <= rms_of(x, seen.lo, seen.hi, spec) + 2 * width


def test_zeros_count_for_nothing():
    x = np.append(np.abs(np.random.default_rng(0).normal(size=50_000)), 0.0)
    many = np.concatenate([x, np.zeros(500_000)])
    rule = MseRule()
    for spec in SPECS:
        assert rule.range(rule.empty().update(x), spec) == rule.range(rule.empty().update(many), spec)


def test_explanation():
    rule = MseRule()
    x = np.append(np.random.default_rng(0).normal(size=100_000), 50.0)
    line = rule.explain(rule.empty().update(x), SPECS[5])
    assert line.startswith("mse of 100,001 values, 3,200 ranges tried, root mean squared error 0.")
    one = rule.explain(rule.empty().update(np.zeros(3)), SPECS[5])
    assert one == "mse of 3 values, 1 range tried, root mean squared error 0: [0, 0] of the observed [0, 0]"


@draws
def test_a_range_of_a_full_histogram_takes_less_than_a_tenth_of_a_second(draw):
    seen = filled(draw)[1]
    for spec in (SPECS[0], SPECS[2]):
        times = []
        for _ in range(5):
            start = time.thread_time()  # of this thread alone: machines are shared
            MseRule().range(seen, spec)
            times.append(time.thread_time() - start)
        assert min(times) < 0.1


def test_options_are_checked():
    with pytest.raises(OptionError, match=r"^max_bins must be an integer of at least 8, got 4$"):
        MseRule(max_bins=4)
    with pytest.raises(OptionError, match=r"^symmetric must be true or false, got 'yes'$"):
        calibrator("mse", {"symmetric": "yes"})
