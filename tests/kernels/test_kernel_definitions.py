"""The NumPy definitions agree with deliberately slow loops, with their laws, and refuse in words that help."""

from __future__ import annotations

import bisect
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quantlab_kernels import compiled, reference
from quantlab_kernels.reference import MinMax
from tests.kernels.kernel_cases import GRIDS, arrays, bits, grids

BOTH = pytest.mark.parametrize("kernels", [reference, compiled], ids=["numpy", "numba"])
quick = settings(deadline=None, max_examples=100)


def naive_min_max(x):
    lo, hi, nans, infs = math.inf, -math.inf, 0, 0
    for v in x.ravel().tolist():
        if math.isnan(v):
            nans += 1
        elif math.isinf(v):
            infs += 1
        else:
            lo, hi = min(lo, v), max(hi, v)
    unsigned = [0.0 if bound == 0 else bound for bound in (lo, hi)]
    return MinMax(x.dtype.type(unsigned[0]), x.dtype.type(unsigned[1]), nans, infs)


def naive_quantize(v, scale, zero, qmin, qmax):
    """One float32 element; Python rounds half to even and its integers have no end."""
    with np.errstate(all="ignore"):
        quotient = float(np.float32(v) / np.float32(scale))
    if math.isnan(quotient):
        return qmin
    if math.isinf(quotient):
        return qmax if quotient > 0 else qmin
    return max(qmin, min(qmax, round(quotient) + zero))


@given(x=arrays())
@quick
def test_min_max_is_that_of_a_loop(x):
    assert bits(reference.min_max(x)) == bits(naive_min_max(x))


@given(x=arrays(), data=st.data())
@quick
def test_min_max_axis_is_min_max_of_each_channel(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    found = reference.min_max_axis(x, axis)
    for c in range(x.shape[axis]):
        assert bits(MinMax(*(part[c] for part in found))) == bits(naive_min_max(np.take(x, c, axis)))


@BOTH
def test_an_empty_array_gives_the_neutral_element(kernels):
    assert kernels.min_max(np.zeros((0, 3), np.float32)) == (math.inf, -math.inf, 0, 0)
    assert kernels.min_max(np.array([np.nan, np.inf], np.float32)) == (math.inf, -math.inf, 1, 1)


@BOTH
@pytest.mark.parametrize("zeros", [[-0.0], [0.0, -0.0], [-0.0, 0.0]])
def test_a_zero_bound_is_positive(kernels, zeros):
    lo, hi, _, _ = kernels.min_max(np.array(zeros, np.float32))
    assert not np.signbit(lo)
    assert not np.signbit(hi)


@given(x=arrays(finite=True), exponent=st.integers(-8, 8))
@quick
def test_the_lattice_bin_is_the_exact_floor(x, exponent):
    numbers = [math.floor(Fraction(v) / Fraction(2) ** exponent) for v in x.ravel().tolist()]
    assume(all(-5000 <= k < 5000 for k in numbers))
    want = np.zeros(10_000, np.int64)
    for k in numbers:
        want[k + 5000] += 1
    np.testing.assert_array_equal(reference.lattice_histogram(x, exponent, -5000, 10_000), want)


@given(x=arrays(), exponent=st.integers(-8, 8), first=st.integers(-3000, 3000), bins=st.integers(1, 6000))
@quick
def test_the_pass_for_streams_counts_exactly_if_everything_finite_is_inside(x, exponent, first, bins):
    numbers = [
        math.floor(Fraction(v) / Fraction(2) ** exponent) - first for v in x.ravel().tolist() if math.isfinite(v)
    ]
    ends, counts = reference.min_max_lattice(x, exponent, first, bins)
    assert bits(ends) == bits(naive_min_max(x))
    if not all(0 <= k < bins for k in numbers):
        assert counts is None
        return
    assert counts.tolist() == np.bincount(np.array(numbers, int), minlength=bins).tolist()


@BOTH
@pytest.mark.parametrize("exponent", [0, 3, 1000])
def test_a_negative_number_that_vanishes_on_scaling_stays_below_zero(kernels, exponent):
    x = np.array([-5e-324, -1e-310, 5e-324, -0.0, 0.0])
    assert kernels.lattice_histogram(x, exponent, -1, 2).tolist() == [2, 3]


@BOTH
@given(seed=st.integers(0, 2**16), shift=st.integers(-100, 100), exponent=st.integers(-9, -3))
@quick
def test_the_lattice_is_equivariant_under_powers_of_two(kernels, seed, shift, exponent):
    x = np.random.default_rng(seed).standard_normal(500).astype(np.float32)
    scaled = np.ldexp(x, shift).astype(np.float32)
    assume(np.array_equal(np.ldexp(scaled, -shift), x))
    first, bins = -(8 << -exponent), 16 << -exponent
    np.testing.assert_array_equal(
        kernels.lattice_histogram(scaled, exponent + shift, first, bins),
        kernels.lattice_histogram(x, exponent, first, bins),
    )


@BOTH
@given(seed=st.integers(0, 2**16), cut=st.integers(0, 400), bins=st.sampled_from([1, 7, 2048]))
@quick
def test_counts_are_conserved_and_add_up_over_any_split(kernels, seed, cut, bins):
    x = np.random.default_rng(seed).standard_normal(400).astype(np.float32)
    lo, hi, _, _ = kernels.min_max(x)
    whole = kernels.histogram(x, lo, hi, bins)
    assert whole.sum() == x.size
    parts = kernels.histogram(x[:cut], lo, hi, bins) + kernels.histogram(x[cut:], lo, hi, bins)
    np.testing.assert_array_equal(whole, parts)
    lattice = kernels.lattice_histogram(x, -5, -256, 512)
    assert lattice.sum() == x.size
    split = kernels.lattice_histogram(x[:cut], -5, -256, 512) + kernels.lattice_histogram(x[cut:], -5, -256, 512)
    np.testing.assert_array_equal(lattice, split)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("lo", "hi", "bins"), [(-3.0, 3.0, 100), (0.0, 1.7, 2048), (-0.1, 2.3, 1)])
def test_the_histogram_is_a_search_among_the_edges(dtype, lo, hi, bins):
    rng = np.random.default_rng(3)
    edges = np.linspace(lo, hi, bins + 1, dtype=dtype)
    x = np.concatenate([rng.standard_normal(3000).astype(dtype), edges, np.nextafter(edges, dtype(9))])
    want = [0] * bins
    places = edges.tolist()
    for v in x.tolist():
        if places[0] <= v <= places[-1]:
            want[min(bisect.bisect_right(places, v) - 1, bins - 1)] += 1
    assert reference.histogram(x, lo, hi, bins).tolist() == want


@BOTH
def test_a_range_wider_than_the_dtype_is_counted_in_float64(kernels):
    x = np.array([-3e38, 0.0, 3e38], np.float32)
    assert kernels.histogram(x, float(x[0]), float(x[2]), 3).tolist() == [1, 1, 1]


@BOTH
@pytest.mark.parametrize(
    ("bins", "lo", "hi"), [(2, 99.99999513690089, 100.00000486309911), (1, -3000.0001980459574, -3000.000097653296)]
)
def test_a_range_too_narrow_for_the_dtype_is_counted_in_float64(kernels, bins, lo, hi):
    x = np.array([lo, (lo + hi) / 2, hi], np.float32)
    edges = np.linspace(lo, hi, bins + 1)
    want = [0] * bins
    for v in x.tolist():
        if lo <= v <= hi:
            want[min(bisect.bisect_right(edges.tolist(), v) - 1, bins - 1)] += 1
    assert kernels.histogram(x, lo, hi, bins).tolist() == want


@given(x=arrays(), grid=grids())
@quick
def test_quantize_is_that_of_a_loop(x, grid):
    scale, zero, qmin, qmax, storage = grid
    assume(storage != np.int32)
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    want = [naive_quantize(v, np.float32(scale), zero, qmin, qmax) for v in single.ravel()]
    got = reference.quantize(x, np.float32(scale), zero, qmin, qmax, storage)
    assert got.dtype == storage
    assert got.ravel().tolist() == want


@given(data=st.data())
@quick
def test_int32_storage_divides_in_float64(data):
    values = data.draw(st.lists(st.floats(-1e6, 1e6), max_size=20))
    scale = np.float32(data.draw(st.floats(1e-6, 10.0)))
    low, high = -(2**31), 2**31 - 1
    want = [max(low, min(high, round(v / float(scale)))) for v in values]
    assert reference.quantize(np.array(values), scale, 0, low, high, np.int32).tolist() == want


@given(x=arrays(), grid=grids())
@quick
def test_fake_quant_is_dequantize_of_quantize(x, grid):
    scale, zero, qmin, qmax, storage = grid
    assume(storage != np.int32)
    q = reference.quantize(x, scale, zero, qmin, qmax, storage)
    back = reference.dequantize(q, scale, zero)
    with np.errstate(over="ignore"):
        want = back.astype(x.dtype)
    assert bits(reference.fake_quant(x, scale, zero, qmin, qmax)) == bits(want)


@given(x=arrays(), data=st.data())
@quick
def test_per_axis_is_per_tensor_of_each_channel(x, data):
    axis = data.draw(st.integers(0, x.ndim - 1))
    scale, zero, qmin, qmax, storage = data.draw(grids(channels=x.shape[axis]))
    q = reference.quantize_axis(x, scale, zero, axis, qmin, qmax, storage)
    back = reference.dequantize_axis(q, scale, zero, axis)
    fake = reference.fake_quant_axis(x, scale, zero, axis, qmin, qmax)
    for c in range(x.shape[axis]):
        part, stored = np.take(x, c, axis), np.take(q, c, axis)
        z = int(zero[c])
        assert bits(stored) == bits(reference.quantize(part, scale[c], z, qmin, qmax, storage))
        assert bits(np.take(back, c, axis)) == bits(reference.dequantize(stored, scale[c], z))
        assert bits(np.take(fake, c, axis)) == bits(reference.fake_quant(part, scale[c], z, qmin, qmax))


@pytest.mark.parametrize("grid", GRIDS)
def test_dequantize_is_exact_before_the_one_rounding(grid):
    storage, qmin, qmax = GRIDS[grid]
    q = np.unique(np.linspace(qmin, qmax, 70_000).astype(np.int64)).astype(storage)
    scale, zero = np.float32(0.1), qmax // 3
    want = [np.float32(float(v) - zero) * scale for v in q.tolist()]
    assert bits(reference.dequantize(q, scale, zero)) == bits(np.array(want, np.float32))


@BOTH
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda k: k.min_max(np.zeros(3, np.int32)), TypeError, "got an array of int32; allowed are float16"),
        (
            lambda k: k.lattice_histogram(np.ones(3, np.float32), -1, 0, 2),
            ValueError,
            "finite elements lie outside bins 0..1 of width 2**-1; choose first_bin and bins from min_max",
        ),
        (lambda k: k.min_max_lattice(np.zeros(3, np.int32), -1, 0, 2), TypeError, "got an array of int32; allowed are"),
        (lambda k: k.min_max_lattice(np.ones(3), 0, 0, 0), ValueError, "bins is 0; allowed are 1.."),
        (lambda k: k.lattice_histogram(np.ones(3), 2000, 0, 2), ValueError, "exponent is 2000"),
        (lambda k: k.lattice_histogram(np.ones(3), 0, 0, 0), ValueError, "bins is 0; allowed are 1.."),
        (lambda k: k.lattice_histogram(np.ones(3), 0, 2**53, 1), ValueError, "take a larger exponent"),
        (lambda k: k.histogram(np.ones(3), 1.0, 0.0, 4), ValueError, "max must be larger than min"),
        (lambda k: k.quantize(np.ones(3), 1.0, 0, -129, 127, np.int8), ValueError, "the grid -129..127 does not fit"),
        (lambda k: k.quantize(np.ones(3), 1.0, 0, 0, 1, np.int64), TypeError, "got integers of int64; allowed"),
        (lambda k: k.fake_quant(np.ones(3), 1.0, 0, 5, 4), ValueError, "qmin 5 is above qmax 4"),
        (lambda k: k.dequantize(np.ones(3), 1.0, 0), TypeError, "got integers of float64"),
        (
            lambda k: k.fake_quant_axis(np.ones((2, 3)), np.ones(2, np.float32), [0, 0], 1, 0, 5),
            ValueError,
            r"axis 1 of shape (2, 3) needs scale and zero_point of shape (3,); got (2,) and (2,)",
        ),
        (lambda k: k.min_max_axis(np.ones((2, 3)), 2), np.exceptions.AxisError, "axis 2 is out of bounds"),
    ],
)
def test_refusals(kernels, call, error, text):
    with pytest.raises(error) as caught:
        call(kernels)
    assert text in str(caught.value)
