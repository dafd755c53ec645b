"""The percentile rule against order statistics of the raw data, and against numbers found by hand."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab.arrays import INT8, UINT8, QuantSpec
from quantlab.calibration import Bins, Histogram, MinMaxRule, PercentileRule
from quantlab.calibration.rules.percentile import lower_cut, upper_cut
from quantlab.errors import OptionError

SYMMETRIC, ASYMMETRIC = QuantSpec(dtype=INT8, symmetric=True), QuantSpec(dtype=UINT8)
values = st.floats(-1e3, 1e3, width=32)
samples = hnp.arrays(np.float32, st.integers(1, 300), elements=values)
percents = st.one_of(st.floats(0.01, 100), st.sampled_from([99.999, 99.99, 99.9, 99, 90, 75, 50, 100]))


def ends(x, percent, spec, max_bins=4096, tails="each"):
    rule = PercentileRule(percent=percent, tails=tails, max_bins=max_bins)
    seen = rule.empty().update(x)
    found = rule.range(seen, spec)
    return float(found.lo), float(found.hi), seen.bins.width


def order_statistics(x, share):
    """The values that a cut of `share` at each end leaves as the outermost, by sorting."""
    x = np.sort(x)
    gone = int(share * x.size)
    return float(x[gone]), float(x[x.size - 1 - gone])


def share_of(percent):
    return (100 - Fraction(str(float(percent)))) / 100


@given(samples, percents, st.sampled_from([8, 4096]))
def test_two_sided_cut_is_within_a_bin_of_the_order_statistic(x, percent, max_bins):
    x = np.append(x, [np.float32(-1), np.float32(1)])
    lo, hi, width = ends(x, percent, ASYMMETRIC, max_bins)
    below, above = order_statistics(x, share_of(percent) / 2)
    assert abs(lo - below) <= width
    assert abs(hi - above) <= width


@given(samples, percents, st.sampled_from([8, 4096]))
def test_one_sided_cut_is_within_a_bin_of_the_order_statistic(x, percent, max_bins):
    x = np.abs(x)
    lo, hi, width = ends(x, percent, ASYMMETRIC, max_bins)
    assert lo == x.min()
    outermost = order_statistics(x, share_of(percent))[1]
    assert abs(hi - outermost) <= width
    mirrored_lo, mirrored_hi, width = ends(-x, percent, ASYMMETRIC, max_bins)
    assert mirrored_hi == -x.min()
    assert abs(mirrored_lo + outermost) <= width


@given(samples, percents, st.sampled_from([8, 4096]))
def test_symmetric_cut_is_within_a_bin_of_the_order_statistic(x, percent, max_bins):
    lo, hi, width = ends(x, percent, SYMMETRIC, max_bins)
    threshold = order_statistics(np.abs(x), share_of(percent))[1]
    assert abs(max(-lo, hi) - min(threshold, max(-x.min(), x.max()))) <= width
    assert lo >= x.min()
    assert hi <= x.max()


@given(samples, percents, st.sampled_from([8, 4096]))
def test_cutting_by_magnitude_is_the_symmetric_cut_whatever_the_grid(x, percent, max_bins):
    found = ends(x, percent, ASYMMETRIC, max_bins, tails="magnitude")
    assert found == ends(x, percent, SYMMETRIC, max_bins)


@given(samples, percents)
def test_both_ways_agree_on_tensors_of_one_sign(x, percent):
    for signed in (np.abs(x), -np.abs(x)):
        each, whole = (ends(signed, percent, ASYMMETRIC, tails=tails) for tails in ("each", "magnitude"))
        assert whole[0] == pytest.approx(each[0], abs=each[2])
        assert whole[1] == pytest.approx(each[1], abs=each[2])


def test_the_short_side_of_a_skewed_tensor_stays_whole():
    x = np.concatenate([np.linspace(-0.25, 0, 5_000), np.linspace(0, 8, 5_000)])
    lo, hi, _ = ends(x, 99, ASYMMETRIC, tails="magnitude")
    assert lo == -0.25
    # The 100 largest of the 5,000 spread over 0..8.
    assert hi == pytest.approx(8 * 0.98, abs=0.01)


@pytest.mark.parametrize("percent", [99.999, 99.9, 99.0, 90.0, 30.0])
@pytest.mark.parametrize("draw", ["normal", "laplace", "standard_cauchy"])
def test_agrees_with_numpy_within_one_bin(percent, draw):
    x = getattr(np.random.default_rng(5), draw)(size=200_001)
    lo, hi, width = ends(x, percent, ASYMMETRIC)
    tail = (100 - percent) / 2
    assert abs(hi - np.percentile(x, 100 - tail, method="inverted_cdf")) <= width
    assert abs(lo + np.percentile(-x, 100 - tail, method="inverted_cdf")) <= width
    _, threshold, width = ends(np.abs(x), percent, SYMMETRIC)
    assert abs(threshold - np.percentile(np.abs(x), percent, method="inverted_cdf")) <= width


def test_agrees_with_numpys_interpolation_where_the_data_is_dense():
    x = np.random.default_rng(6).uniform(-1, 3, 500_000)
    lo, hi, width = ends(x, 99, ASYMMETRIC)
    assert abs(lo - np.percentile(x, 0.5)) <= width
    assert abs(hi - np.percentile(x, 99.5)) <= width


@given(samples, st.sampled_from([SYMMETRIC, ASYMMETRIC]))
def test_all_of_the_data_is_minmax(x, spec):
    seen = PercentileRule(percent=100).empty().update(x)
    assert PercentileRule(percent=100).range(seen, spec) == MinMaxRule().range(seen, spec)


@given(samples, percents, percents, st.sampled_from([SYMMETRIC, ASYMMETRIC]))
def test_a_higher_percentage_never_has_a_narrower_range(x, a, b, spec):
    inner_lo, inner_hi, _ = ends(x, min(a, b), spec)
    outer_lo, outer_hi, _ = ends(x, max(a, b), spec)
    assert outer_lo <= inner_lo
    assert outer_hi >= inner_hi


@given(hnp.arrays(np.int64, st.integers(1, 12), elements=st.integers(0, 5)), st.fractions(0, 1))
def test_cuts_are_mirror_images(counts, part):
    counts[0] += 1
    bins = Bins(-3, -5, counts)
    rank = part * int(counts.sum()) * Fraction(99, 100)
    assert upper_cut(bins, rank) == -lower_cut(bins.mirrored(), rank)
    # The share below the cut, counted back by linear interpolation, is the rank.
    place = (lower_cut(bins, rank) - float(bins.edges()[0])) / bins.width
    assert np.interp(place, np.arange(counts.size + 1), bins.cumulative()) == pytest.approx(float(rank), abs=1e-9)


@pytest.mark.parametrize(
    ("x", "percent", "spec", "lo", "hi"),
    [
        # Eight bins of width 1 with one value each; found by hand.
        (np.arange(-4, 4) + 0.5, 75, ASYMMETRIC, -3, 3),
        (np.arange(-4, 4) + 0.5, 50, ASYMMETRIC, -2, 2),
        (np.arange(-4, 4) + 0.5, 87.5, ASYMMETRIC, -3.5, 3.5),
        (np.arange(-4, 4) + 0.25, 99, ASYMMETRIC, -3.75, 3.25),
        # Two values of |x| in each of four bins: a quarter of the eight fills the outermost.
        (np.arange(-4, 4) + 0.5, 75, SYMMETRIC, -3, 3),
        (np.arange(-4, 4) + 0.5, 62.5, SYMMETRIC, -2.5, 2.5),
        # No negatives: the lower end stays, the whole quarter (two values) goes above.
        (np.arange(8) + 0.5, 75, ASYMMETRIC, 0.5, 6),
        (-np.arange(8) - 0.5, 75, ASYMMETRIC, -6, -0.5),
        # Two of 200,000 are cut on either side: exactly the outliers, whatever 100 - 99.999 is in binary.
        (np.concatenate([[-90.5], np.zeros(199_998), [100.5]]), 99.999, ASYMMETRIC, 0, 16),
    ],
)
def test_golden_ranges(x, percent, spec, lo, hi):
    assert ends(x, percent, spec, 8 if x.size == 8 else 16)[:2] == (lo, hi)


def test_explanations():
    x = np.concatenate([np.linspace(-8.125, 9, 100_001), [np.nan]])
    rule = PercentileRule(percent=99.9, tails="each")
    seen = rule.empty().update(x)
    # By hand: 50.0005 values are cut on either side. Of bins 2**-7 wide the first holds 46 and the second 46, of which
    # 4.0005 go: -8.125 + 2**-7 * (1 + 4.0005 / 46); above 9 - 2**-7 * (1 + 4.0005 / 46), as 9 itself begins a bin.
    assert rule.explain(seen, ASYMMETRIC) == (
        "percentile 99.9 % of 100,001 values in 2,193 bins: [-8.11651, 8.99151] of the observed [-8.125, 9]; "
        "1 NaN left out"
    )
    assert rule.explain(seen, SYMMETRIC).startswith("percentile 99.9 % of 100,001 absolute values in 1,153 bins: [")
    assert PercentileRule(percent=99.9).explain(seen, ASYMMETRIC) == rule.explain(seen, SYMMETRIC)


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan"), "99", True, None])
def test_impossible_percentages_are_refused(percent):
    with pytest.raises(OptionError, match=r"^percent must be a number above 0 and at most 100, got "):
        PercentileRule(percent=percent)


def test_unknown_tails_are_refused():
    with pytest.raises(OptionError, match=r"^tails must be one of 'magnitude', 'each', got 'both'$"):
        PercentileRule(tails="both")


def test_impossible_bins_are_refused():
    with pytest.raises(OptionError, match=r"^max_bins must be an integer of at least 8, got 4.5$"):
        PercentileRule(max_bins=4.5)
    assert PercentileRule(max_bins=64).empty() == Histogram(max_bins=64)
