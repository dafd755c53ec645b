"""Laws of the statistics: how the data is split, ordered, merged or scaled leaves no trace in them."""

import math
import pickle
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab.calibration import Bins, Histogram, MinMax, lattice_exponent
from quantlab.calibration.lattice import bin_of, bins_between
from quantlab.errors import DataError, OptionError, RangeError

FLOATS = (np.float16, np.float32, np.float64)
EMPTY = (MinMax(), Histogram(), Histogram(max_bins=8), Histogram(max_bins=100))
finite = st.floats(allow_nan=False, allow_infinity=False)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)


def streams(dtype, **limits):
    return st.lists(hnp.arrays(dtype, shapes, elements=hnp.from_dtype(np.dtype(dtype), **limits)), max_size=5)


any_stream = st.sampled_from(FLOATS).flatmap(streams)


def fill(empty, arrays):
    return reduce(lambda seen, x: seen.update(x), arrays, empty)


def image(seen):
    """Every bit of a statistic."""
    ends = (seen.count, seen.nan_count, seen.inf_count, seen.lo.hex(), seen.hi.hex())
    if isinstance(seen, MinMax):
        return ends
    bins = seen.bins
    return (*ends, seen.max_bins, bins and (bins.exponent, bins.first, bins.counts.dtype.str, bins.counts.tobytes()))


def naive_histogram(values, max_bins):
    """Count with rational numbers, one value at a time."""
    values = [Fraction(float(v)) for v in values if np.isfinite(v)]
    lo, hi = min(values), max(values)
    least = max(math.frexp(float(max(-lo, hi)))[1] - 53, -1022) if max(-lo, hi) else -1022
    exponent = least
    while math.floor(hi / Fraction(2) ** exponent) - math.floor(lo / Fraction(2) ** exponent) + 1 > max_bins:
        exponent += 1
    places = [math.floor(v / Fraction(2) ** exponent) for v in values]
    return exponent, min(places), [places.count(k) for k in range(min(places), max(places) + 1)]


# ---------------------------------------------------------------------------------------------------------------------
# The lattice


@given(finite, st.integers(-1022, 1022))
def test_bin_of_is_the_rational_floor(value, exponent):
    assert bin_of(value, exponent) == math.floor(Fraction(value) / Fraction(2) ** exponent)


@given(finite, finite, st.integers(2, 5000))
def test_exponent_is_the_least_that_fits(a, b, max_bins):
    lo, hi = min(a, b), max(a, b)
    exponent = lattice_exponent(lo, hi, max_bins)
    assert bins_between(lo, hi, exponent) <= max_bins
    largest = max(-lo, hi)
    coarsest_needed = max(math.frexp(largest)[1] - 53, -1022) if largest else -1022
    assert exponent == coarsest_needed or bins_between(lo, hi, exponent - 1) > max_bins
    assert max(abs(bin_of(lo, exponent)), abs(bin_of(hi, exponent))) <= 2**53


@given(st.lists(finite, min_size=4, max_size=4), st.integers(2, 5000))
def test_a_wider_range_never_has_a_finer_lattice(values, max_bins):
    outer_lo, inner_lo, inner_hi, outer_hi = sorted(values)
    assert lattice_exponent(outer_lo, outer_hi, max_bins) >= lattice_exponent(inner_lo, inner_hi, max_bins)


@given(st.integers(-40, 40), hnp.arrays(np.int64, st.integers(1, 20), elements=st.integers(0, 9)), st.integers(0, 70))
def test_joining_bins_equals_counting_on_the_coarser_lattice(first, counts, shift):
    fine = Bins(3, first, counts)
    start = first >> shift
    size = ((first + counts.size - 1) >> shift) - start + 3
    coarse = fine.on(3 + shift, start - 1, size)
    for place in range(size):
        members = [c for k, c in enumerate(counts) if (first + k) >> shift == start - 1 + place]
        assert coarse.counts[place] == sum(members)
    assert coarse.counts.sum() == counts.sum()


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30))
def test_folding_counts_absolute_values(quarters):
    # Odd quarters never lie on an edge of a bin of width 1/2, so that folding is exact.
    values = np.array(quarters) / 2 + 0.25
    first = int(np.floor(values.min() * 2))
    bins = Bins(-1, first, np.bincount((np.floor(values * 2) - first).astype(int)))
    folded = bins.folded()
    assert folded.first >= 0
    expected = np.bincount(np.floor(np.abs(values) * 2).astype(int), minlength=folded.first + len(folded))
    assert expected[folded.first :].tolist() == folded.counts.tolist()
    assert expected[: folded.first].sum() == 0


def test_edges_are_exact_and_stop_at_the_largest_number():
    assert Bins(-2, -1, np.array([1, 1])).edges().tolist() == [-0.25, 0.0, 0.25]
    top = float(np.finfo(np.float64).max)
    seen = Histogram(max_bins=8).update(np.array([-top, top]))
    assert (seen.edges()[0], seen.edges()[-1]) == (-top, top)
    assert seen.bins.edge(0.0, len(seen.bins)) == top


def test_a_finer_lattice_is_refused():
    with pytest.raises(RangeError, match=r"2 bins of width 2\*\*0 from bin 0 do not fit into 4 bins of width 2\*\*-1"):
        Bins(0, 0, np.array([1, 1])).on(-1, 0, 4)


# ---------------------------------------------------------------------------------------------------------------------
# Laws of every statistic


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
class TestLaws:
    @given(data=st.data())
    def test_split_and_order_leave_no_trace(self, empty, data):
        arrays = data.draw(any_stream)
        flat = [x.ravel() for x in arrays]
        whole = fill(empty, [np.concatenate(flat)] if flat else [])
        assert image(fill(empty, arrays)) == image(whole)
        assert image(fill(empty, data.draw(st.permutations(arrays)))) == image(whole)
        assert image(fill(empty, [x[k : k + 1] for x in flat for k in range(x.size)])) == image(whole)

    # A float32 that vanishes next to a huge float64 still lies below zero.
    @example(parts=([], [np.array([-1e307, 1e307])], [np.array([-1e-45, 1], np.float32)]))
    @given(parts=st.tuples(any_stream, any_stream, any_stream))
    def test_merge_is_associative_and_commutative(self, empty, parts):
        a, b, c = (fill(empty, arrays) for arrays in parts)
        assert image(a.merge(b)) == image(b.merge(a))
        assert image(a.merge(b).merge(c)) == image(a.merge(b.merge(c)))
        assert image(a.merge(b).merge(c)) == image(fill(empty, [x for arrays in parts for x in arrays]))
        assert image(a.merge(empty)) == image(empty.merge(a)) == image(a)

    @given(arrays=any_stream)
    def test_everything_is_counted(self, empty, arrays):
        seen = fill(empty, arrays)
        flat = np.concatenate([np.zeros(0), *(x.ravel().astype(np.float64) for x in arrays)])
        real = flat[np.isfinite(flat)]
        assert (seen.nan_count, seen.inf_count) == (np.isnan(flat).sum(), np.isinf(flat).sum())
        assert seen.count == real.size
        assert (seen.lo, seen.hi) == ((real.min(), real.max()) if real.size else (math.inf, -math.inf))

    def test_updating_changes_no_old_value(self, empty):
        first = empty.update(np.array([1.0, 2.0]))
        before = image(first)
        first.update(np.array([-1e9, np.nan]))
        assert image(first) == before

    def test_pickled_and_compared(self, empty):
        seen = empty.update(np.array([1.0, -2.0, 0.3]))
        copy = pickle.loads(pickle.dumps(seen))
        assert copy == seen
        assert hash(copy) == hash(seen)
        assert copy != seen.update(np.array([0.3]))
        assert image(copy) == image(seen)

    def test_memory_does_not_grow(self, empty):
        rng = np.random.default_rng(0)
        sizes = []
        seen = empty.update(np.array([-100.0, 100.0]))
        for _ in range(200):
            seen = seen.update(rng.normal(size=100))
            sizes.append(len(pickle.dumps(seen)))
        assert max(sizes) - min(sizes) <= 8
        assert max(sizes) < 8 * getattr(empty, "max_bins", 0) + 1000

    @pytest.mark.parametrize("bad", [np.array([1, 2]), np.array([True]), [1.0], np.array([1j])], ids=repr)
    def test_other_types_are_refused(self, empty, bad):
        with pytest.raises(DataError, match="takes NumPy arrays of float16, float32 or float64, got"):
            empty.update(bad)

    def test_other_kinds_are_refused(self, empty):
        other = Histogram() if isinstance(empty, MinMax) else MinMax()
        with pytest.raises(OptionError, match="cannot be merged with a"):
            empty.merge(other)

    def test_strided_arrays(self, empty):
        x = np.arange(24, dtype=np.float32).reshape(4, 6)
        assert image(empty.update(x[::2, ::-3].T)) == image(empty.update(np.array([5, 2, 17, 14], np.float32)))


# ---------------------------------------------------------------------------------------------------------------------
# The histogram


@given(st.sampled_from(FLOATS).flatmap(streams), st.sampled_from([8, 9, 100]))
def test_histogram_equals_counting_with_rationals(arrays, max_bins):
    values = [v for x in arrays for v in x.ravel()]
    assume(any(np.isfinite(values)))
    bins = fill(Histogram(max_bins=max_bins), arrays).bins
    assert (bins.exponent, bins.first, bins.counts.tolist()) == naive_histogram(values, max_bins)


@pytest.mark.parametrize("dtype", FLOATS)
def test_histogram_equals_numpy_on_its_edges(dtype):
    x = np.random.default_rng(1).standard_t(3, size=20_000).astype(dtype)
    seen = Histogram().update(x.reshape(10, 2000))
    assert 2048 <= seen.counts.size <= 4096
    assert np.histogram(x.astype(np.float64), seen.edges())[0].tolist() == seen.counts.tolist()
    assert seen.cumulative().tolist() == [np.count_nonzero(x.astype(np.float64) < edge) for edge in seen.edges()]


@given(streams(np.float32, allow_nan=False, allow_infinity=False), st.integers(-700, 700), st.sampled_from([8, 4096]))
def test_scaling_by_a_power_of_two_changes_no_count(arrays, k, max_bins):
    plain = fill(Histogram(max_bins=max_bins), arrays)
    scaled = fill(Histogram(max_bins=max_bins), [np.asarray(np.ldexp(x.astype(np.float64), k)) for x in arrays])
    assert plain.counts.tolist() == scaled.counts.tolist()
    if plain.count:
        assert (scaled.lo, scaled.hi) == (math.ldexp(plain.lo, k), math.ldexp(plain.hi, k))
        assert plain.bins.first == scaled.bins.first
        assert plain.abs_hi == 0 or scaled.bins.exponent == plain.bins.exponent + k


@given(st.sampled_from(FLOATS).flatmap(streams))
def test_first_and_last_bin_hold_the_ends(arrays):
    seen = fill(Histogram(max_bins=16), arrays)
    assume(seen.count)
    assert seen.counts.sum() == seen.count
    assert seen.counts[0] > 0 < seen.counts[-1]
    assert seen.edges()[0] <= seen.lo <= seen.edges()[1]
    assert seen.edges()[-2] <= seen.hi <= seen.edges()[-1]


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([0.0], 1),
        ([0.0] * 5, 1),
        ([-0.0, 0.0], 1),
        ([3.14159] * 7, 1),
        ([-1e-3], 1),
        ([1e6, 1e6 + 1], 4096 // 2 + 1),
        # 3e38 = 1805.6 * 2**117, 1.7e308 = 1936.7 * 2**1013, 1e308 = 2278.4 * 2**1012
        ([-3e38, 3e38], 2 * 1806),
        ([5e-324], 1),
        ([-5e-324, 5e-324], 2),
        ([-1.7e308, 1.7e308], 2 * 1937),
        ([1e308, -5e-324], 2279 + 1),
    ],
)
def test_extreme_values(values, size):
    seen = Histogram().update(np.array(values))
    assert (seen.counts.size, seen.count) == (size, len(values))
    assert (seen.lo, seen.hi) == (min(values), max(values))


@pytest.mark.parametrize(
    ("dtype", "width", "below_zero", "from_zero"),
    # 65504 = 2047 * 2**5 lies on an edge; 3.4028e38 = 2**128 - 2**104 lies just below 2048 * 2**117.
    [(np.float16, 5, 2047, 2048), (np.float32, 117, 2048, 2048)],
)
def test_extremes_of_the_narrow_types(dtype, width, below_zero, from_zero):
    info = np.finfo(dtype)
    x = np.array([info.min, info.max, info.smallest_subnormal, -info.smallest_subnormal, 0, info.tiny], dtype)
    seen = Histogram().update(x)
    assert (seen.bins.exponent, seen.bins.first, seen.counts.size) == (width, -below_zero, below_zero + from_zero)
    assert seen.counts[[0, below_zero - 1, below_zero, -1]].tolist() == [1, 1, 3, 1]


def test_golden_counts():
    # By hand: [-1, 2.5] takes 8 bins of width 1/2, from bin -2 on.
    seen = Histogram(max_bins=8).update(np.array([-1.0, -0.25, 0.0, 0.49, 0.5, 2.5]))
    assert (seen.bins.exponent, seen.bins.first) == (-1, -2)
    assert seen.counts.tolist() == [1, 1, 2, 1, 0, 0, 0, 1]
    assert seen.folded().counts.tolist() == [3, 2, 0, 0, 0, 1]
    # 4 needs bins of width 1; the old ones join in pairs: [-1, 0), [0, 1), ...
    assert seen.update(np.array([4.0])).counts.tolist() == [2, 3, 0, 1, 0, 1]


def test_folded_from_zero_has_more_than_half_of_the_bins_wanted():
    rng = np.random.default_rng(2)
    normal = rng.normal(size=1000)
    for x in (normal, normal + 30, -np.abs(normal), np.array([-7.0, 1e-9])):
        folded = Histogram(max_bins=512).update(x).folded_from_zero(256)
        assert folded.first == 0
        assert 128 < len(folded) <= 256
        assert folded.counts[-1] > 0
        assert folded.counts.sum() == x.size


def test_messages():
    with pytest.raises(OptionError, match=r"^max_bins must be an integer of at least 8, got 7$"):
        Histogram(max_bins=7)
    with pytest.raises(OptionError, match=r"^histograms of at most 8 and 9 bins cannot be merged; collect both with"):
        Histogram(max_bins=8).merge(Histogram(max_bins=9))
    with pytest.raises(DataError, match=r"has seen no finite value has no bins"):
        Histogram().folded()
    with pytest.raises(DataError, match=r"got an array of int64; convert it first \(bfloat16 to float32 loses nothing"):
        MinMax().update(np.array([1]))


def test_an_empty_histogram_has_no_bins():
    seen = Histogram().update(np.array([np.nan, np.inf, -np.inf]))
    assert (seen.count, seen.nan_count, seen.inf_count) == (0, 1, 2)
    assert seen.counts.size == seen.edges().size == seen.cumulative().size == 0


def test_scalars_are_arrays_without_axes():
    assert image(Histogram().update(np.float16(3))) == image(Histogram().update(np.array([3.0])))


def test_counts_are_read_only():
    seen = pickle.loads(pickle.dumps(Histogram().update(np.ones(3))))
    with pytest.raises(ValueError, match="read-only"):
        seen.counts[0] = 9
