"""The entropy rule against its definition, written out bin by bin with scipy's rel_entr."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import rel_entr

from quantlab.arrays import INT4, INT8, UINT8, UINT16, QuantSpec
from quantlab.calibration import Bins, EntropyRule
from quantlab.calibration.rules.entropy import TIE, levels_from_zero, search
from quantlab.errors import OptionError
from quantlab.kernels import kl_divergences

SYMMETRIC, ASYMMETRIC = QuantSpec(dtype=INT8, symmetric=True), QuantSpec(dtype=UINT8)


def naive_divergence(counts, levels, kept):
    """D_i of the definition, one bin at a time."""
    counts = [int(c) for c in counts]
    inside = counts[:kept]
    if sum(inside) == 0:
        return math.inf
    p = list(inside)
    p[max(j for j in range(kept) if inside[j])] += sum(counts[kept:])
    q = []
    for j in range(kept):
        members = [inside[m] for m in range(kept) if m * levels // kept == j * levels // kept]
        q.append(sum(members) / sum(c > 0 for c in members) if inside[j] else 0.0)
    return float(rel_entr(np.array(p) / sum(p), np.array(q) / sum(q)).sum())


def naive_search(counts, levels):
    """The widest of the best thresholds, in bins."""
    counts = list(counts)
    if len(counts) > 1:
        counts[0] = counts[1]
    candidates = range(min(levels, len(counts)), len(counts) + 1)
    all_divergences = [naive_divergence(counts, levels, kept) for kept in candidates]
    return max(kept for kept, d in zip(candidates, all_divergences, strict=True) if d <= min(all_divergences) + TIE)


histograms = hnp.arrays(
    np.int64, st.integers(1, 40), elements=st.one_of(st.just(0), st.integers(0, 20), st.integers(0, 10**9))
)


@given(histograms, st.integers(1, 50))
def test_fast_form_equals_the_definition(counts, levels):
    counts[-1] += 1
    fewest = min(levels, counts.size)
    expected = [naive_divergence(counts, levels, kept) for kept in range(fewest, counts.size + 1)]
    np.testing.assert_allclose(kl_divergences(counts, levels), expected, rtol=1e-9, atol=TIE)


@given(histograms, st.integers(1, 50))
def test_both_forms_agree_on_the_threshold(counts, levels):
    counts[-1] += 1
    assert search(Bins(0, 0, counts), levels).threshold == naive_search(counts, levels)


@pytest.mark.parametrize("draw", ["normal", "laplace", "standard_cauchy"])
@pytest.mark.parametrize("levels", [8, 64, 128])
def test_both_forms_agree_on_real_histograms(draw, levels):
    x = np.abs(getattr(np.random.default_rng(7), draw)(size=50_000))
    counts = np.histogram(x, 300, (0, x.max()))[0]
    assert search(Bins(0, 0, counts), levels).threshold == naive_search(counts, levels)


def test_worked_example_of_the_source():
    # Migacz 2017: [1, 0, 2, 3, 5, 3, 1, 7] on two levels is [6, 16], expanded [2, 0, 2, 2, 4, 4, 4, 4].
    counts = np.array([1, 0, 2, 3, 5, 3, 1, 7])
    expanded = np.array([2, 0, 2, 2, 4, 4, 4, 4])
    expected = rel_entr(counts / counts.sum(), expanded / expanded.sum()).sum()
    assert kl_divergences(counts, 2)[-1] == pytest.approx(expected, rel=1e-12)
    # (log 0.5 + 2 log 1 + 3 log 1.5 + 5 log 1.25 + 3 log 0.75 + log 0.25 + 7 log 1.75) / 22
    assert expected == pytest.approx(0.1503153, abs=5e-8)


def test_golden_threshold():
    # By hand, two levels, the first bin taking 4 from its neighbour:
    #   2 bins [4, 4 + 2] against [4, 4]:          0.4 log(0.4 / 0.5) + 0.6 log(0.6 / 0.5) = 0.020136
    #   3 bins [4, 4, 0], the 2 clipped to bin 1:  the levels are [4, 4] and [0], so the same
    #   4 bins [4, 4, 0, 2]:                       level means are 4 and 2: nothing is lost
    counts = np.array([9, 4, 0, 2])
    shape = [0.4 * math.log(0.8) + 0.6 * math.log(1.2)] * 2 + [0.0]
    np.testing.assert_allclose(kl_divergences(np.array([4, 4, 0, 2]), 2), shape, atol=1e-15)
    found = search(Bins(-1, 0, counts), 2)
    assert (found.threshold, found.tried, found.size, found.levels) == (2.0, 3, 4, 2)


def test_where_nothing_is_gained_nothing_is_clipped():
    # One value a level whatever the threshold: all divergences are zero, and the widest range is taken.
    x = np.array([0.0, 1.0])
    rule = EntropyRule()
    found = rule.range(rule.empty().update(x), ASYMMETRIC)
    assert (found.lo, found.hi) == (0.0, 1.0)


def test_zeros_of_a_relu_do_not_pull_the_threshold_down():
    x = np.random.default_rng(8).normal(size=200_000)
    rule = EntropyRule()
    without = rule.range(rule.empty().update(np.abs(x)), SYMMETRIC)
    many_zeros = rule.range(rule.empty().update(np.abs(x)).update(np.zeros(1_000_000)), SYMMETRIC)
    assert many_zeros.hi == without.hi
    assert many_zeros.hi > 3


@pytest.mark.parametrize("outlier", [50.0, 300.0])
def test_a_single_outlier_is_clipped(outlier):
    x = np.append(np.random.default_rng(9).normal(size=300_000), outlier)
    rule = EntropyRule()
    found = rule.range(rule.empty().update(x), SYMMETRIC)
    assert 3 < found.hi < outlier / 3


@pytest.mark.parametrize(
    ("spec", "signed", "unsigned"),
    [
        (SYMMETRIC, 128, 128),
        (QuantSpec(dtype=INT8, symmetric=True, narrow_range=True), 128, 128),
        (QuantSpec(dtype=INT8), 128, 256),
        (ASYMMETRIC, 128, 256),
        (QuantSpec(dtype=UINT8, symmetric=True), 128, 128),
        (QuantSpec(dtype=UINT8, reduce_range=True), 64, 128),
        (QuantSpec(dtype=INT8, symmetric=True, reduce_range=True), 65, 65),
        (QuantSpec(dtype=INT4, symmetric=True), 8, 8),
        (QuantSpec(dtype=UINT16), 32768, 65536),
    ],
    ids=str,
)
def test_levels(spec, signed, unsigned):
    empty = EntropyRule().empty()
    assert levels_from_zero(empty.update(np.array([-1.0, 2.0])), spec) == signed
    for one_sided in (np.array([0.0, 2.0]), np.array([1.0, 2.0]), np.array([-1.0, 0.0])):
        assert levels_from_zero(empty.update(one_sided), spec) == unsigned


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("spec", [SYMMETRIC, ASYMMETRIC], ids=str)
def test_threshold_applies_to_either_sign(sign, spec):
    # One sign beyond 4 and one up to 1 only: the observed end stands on the short side.
    rng = np.random.default_rng(10)
    x = sign * np.append(np.abs(rng.laplace(size=100_000)), -rng.uniform(0, 1, 1000))
    rule = EntropyRule()
    seen = rule.empty().update(x)
    found = rule.range(seen, spec)
    short, long = (found.lo, found.hi) if sign > 0 else (-found.hi, -found.lo)
    assert short == (seen.lo if sign > 0 else -seen.hi)
    assert 4 < long < seen.abs_hi


def test_many_real_candidates_on_enough_bins():
    rng = np.random.default_rng(11)
    for x in (rng.normal(size=100_000), np.abs(rng.normal(size=100_000)), -rng.exponential(size=100_000)):
        seen = EntropyRule().empty().update(x)
        bins = seen.folded_from_zero(4096)
        assert 2048 < len(bins) <= 4096
        assert search(bins, 128).tried == len(bins) - 127


def test_explanations():
    rule = EntropyRule(bins=16)
    x = np.arange(-16, 16) + 0.5
    assert rule.explain(rule.empty().update(x), QuantSpec(dtype=INT4, symmetric=True)) == (
        "entropy of 32 values, 9 thresholds tried on 16 bins of |x| for 8 levels, divergence 0: [-15.5, 15.5] of the "
        "observed [-15.5, 15.5]"
    )
    # More levels than bins leave one threshold, and the line says so.
    line = rule.explain(rule.empty().update(x), ASYMMETRIC)
    assert line.startswith("entropy of 32 values, 1 threshold tried on 16 bins of |x| for 128 levels, divergence 0: ")


@pytest.mark.parametrize("bins", [7, 0, -1, 4096.0, True, "many"])
def test_impossible_bins_are_refused(bins):
    with pytest.raises(OptionError, match=r"^bins must be an integer of at least 8, got "):
        EntropyRule(bins=bins)
