"""Histograms of absolute values: the laws of a statistic, the bins of |x|, and the rules that may use them."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab import kernels
from quantlab.arrays import INT8, UINT8, QuantSpec
from quantlab.calibration import Histogram, MseRule, calibrator, load_statistics, save_statistics
from quantlab.calibration.lattice import bin_of, bins_between, lattice_exponent
from quantlab.errors import OptionError

dtypes = st.sampled_from([np.float16, np.float32, np.float64])
arrays = dtypes.flatmap(lambda d: hnp.arrays(d, st.integers(0, 40), elements=hnp.from_dtype(np.dtype(d))))
sizes = st.integers(8, 70)
SIGNED = QuantSpec(dtype=INT8, symmetric=True)


def naive(x, max_bins):
    """Count |x| one value at a time, in exact integers."""
    values = [float(v) for v in np.ravel(x) if np.isfinite(v)]
    lo, hi = min(values), max(values)
    reach = max(lo, -hi, 0.0), max(-lo, hi)
    exponent = lattice_exponent(*reach, max_bins)
    counts = [0] * bins_between(*reach, exponent)
    for value in values:
        counts[bin_of(abs(value), exponent) - bin_of(reach[0], exponent)] += 1
    return exponent, bin_of(reach[0], exponent), counts


@given(x=arrays, max_bins=sizes)
def test_it_is_a_count_of_absolute_values(x, max_bins):
    seen = Histogram(max_bins=max_bins, absolute=True).update(x)
    signed = Histogram(max_bins=max_bins).update(x)
    assert seen.ends == signed.ends
    if not seen.count:
        assert seen.bins is None
        return
    exponent, first, counts = naive(x, max_bins)
    assert (seen.bins.exponent, seen.bins.first, seen.counts.tolist()) == (exponent, first, counts)
    assert len(counts) <= max_bins
    assert seen.folded() is seen.bins
    # The bins of the signed values are never finer.
    assert signed.bins.exponent >= exponent


@given(parts=st.lists(arrays, min_size=1, max_size=5), max_bins=sizes, random=st.randoms())
def test_batches_order_and_merging_do_not_matter(parts, max_bins, random):
    empty = Histogram(max_bins=max_bins, absolute=True)
    whole = empty.update(np.concatenate([part.astype(np.float64).ravel() for part in parts]))
    streamed = empty
    for part in parts:
        streamed = streamed.update(part)
    pieces = [empty.update(part) for part in parts]
    random.shuffle(pieces)
    merged = empty
    for piece in pieces:
        merged = piece.merge(merged)
    assert streamed == whole == merged


@given(x=arrays, max_bins=sizes, k=st.integers(-40, 40))
def test_it_scales_with_the_data(x, max_bins, k):
    x = np.where(np.abs(x.astype(np.float64)) > 1e-200, x.astype(np.float64), 0.0)
    x = np.where(np.abs(x) < 1e200, x, 1.0)
    empty = Histogram(max_bins=max_bins, absolute=True)
    plain, scaled = empty.update(x), empty.update(np.ldexp(x, k))
    assert plain.counts.tolist() == scaled.counts.tolist()
    if np.any(x):
        assert scaled.bins.exponent == plain.bins.exponent + k


@given(x=arrays, max_bins=sizes)
def test_it_survives_a_file(x, max_bins):
    seen = Histogram(max_bins=max_bins, absolute=True).update(x)
    file = io.BytesIO()
    save_statistics(file, {"x": seen})
    (found,) = load_statistics(io.BytesIO(file.getvalue())).statistics.values()
    assert found == seen
    assert found != Histogram(max_bins=max_bins).update(x)


def test_both_kernels_count_alike():
    x = np.random.default_rng(0).normal(size=(40, 1000)).astype(np.float32)
    found = []
    for choice in ("numpy", "numba"):
        seen = Histogram(absolute=True)
        with kernels.using(choice):
            for row in x:
                seen = seen.update(row)
        found.append(seen)
    assert found[0] == found[1]
    assert found[0].coarsened(64) == Histogram(max_bins=64, absolute=True).update(x)


@pytest.mark.parametrize("percent", [50.0, 90.0, 99.9])
@pytest.mark.parametrize("offset", [0.0, 1.5, 40.0])
def test_a_percentile_is_at_least_as_close_to_the_data(percent, offset):
    """The exact answer is a quantile of the sorted absolute values; half as many bins leave twice the doubt."""
    x = (np.random.default_rng(1).normal(size=20_001) + offset).astype(np.float32)
    exact = np.sort(np.abs(x))[int(np.ceil(percent / 100 * x.size)) - 1]
    off = {}
    for absolute in (False, True):
        rule = calibrator("percentile", {"percent": percent, "absolute": absolute, "max_bins": 256})
        seen = rule.empty().update(x)
        off[absolute] = seen.bins.width
        assert abs(float(rule.range(seen, SIGNED).hi) - min(exact, seen.hi)) <= seen.bins.width
    assert off[True] <= off[False]
    assert offset or off[True] == off[False] / 2


def test_entropy_finds_the_same_in_half_of_the_bins():
    x = np.append(np.random.default_rng(2).normal(size=50_001), 30.0).astype(np.float32)
    plain, absolute = calibrator("entropy"), calibrator("entropy", {"absolute": True})
    seen, halved = plain.empty().update(x), absolute.empty().update(x)
    assert seen.max_bins == 2 * halved.max_bins
    # No value of this data lies on an edge, so that folding and counting give the same bins.
    assert seen.folded_from_zero(4096) == halved.folded_from_zero(4096)
    for spec in (SIGNED, QuantSpec(dtype=UINT8)):
        assert plain.explain(seen, spec) == absolute.explain(halved, spec)


def test_messages():
    seen = Histogram(absolute=True).update(np.array([-1.0, 2.0]))
    with pytest.raises(OptionError, match=r"^range rule 'mse' needs the signs of the values, which a histogram of abs"):
        MseRule().range(seen, SIGNED)
    with pytest.raises(OptionError, match=r"^range rule 'percentile' needs the signs of the values"):
        calibrator("percentile", {"tails": "each"}).range(seen, QuantSpec(dtype=UINT8))
    with pytest.raises(OptionError, match=r"^absolute=True does not go with tails='each', which needs the signs"):
        calibrator("percentile", {"tails": "each", "absolute": True})
    with pytest.raises(OptionError, match=r"^a histogram of absolute values and one of signed values cannot be merged"):
        seen.merge(Histogram())
    with pytest.raises(OptionError, match=r"^absolute must be true or false, got 1$"):
        Histogram(absolute=1)
    for name in ("percentile", "entropy"):
        with pytest.raises(OptionError, match=r"^absolute must be true or false, got 'yes'$"):
            calibrator(name, {"absolute": "yes"})
