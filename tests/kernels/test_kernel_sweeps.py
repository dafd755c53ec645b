"""Sweeps agree with the divergence of scipy and with exact fractions, keep their laws, and say what they refuse."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from quantlab_kernels import compiled, reference

BOTH = pytest.mark.parametrize("kernels", [reference, compiled], ids=["numpy", "numba"])
quick = settings(deadline=None, max_examples=50)


def naive_divergence(counts, kept, levels):
    """The formula of one threshold, with a loop over bins."""
    if not counts[:kept].any():
        return math.inf
    p = counts[:kept].astype(float)
    p[np.flatnonzero(counts[:kept])[-1]] += counts[kept:].sum()
    q = np.zeros(kept)
    level = [j * levels // kept for j in range(kept)]
    for j in range(kept):
        group = [counts[m] for m in range(kept) if level[m] == level[j]]
        q[j] = sum(group) / np.count_nonzero(group) if counts[j] else 0.0
    return float(rel_entr(p / p.sum(), q / q.sum()).sum())


@BOTH
@given(counts=st.lists(st.sampled_from([0, 0, 1, 2, 17, 1000]), min_size=1, max_size=24), levels=st.integers(1, 30))
@quick
def test_divergences_are_those_of_the_formula(kernels, counts, levels):
    counts = np.array([*counts, 1])
    fewest = min(levels, counts.size)
    want = [naive_divergence(counts, kept, levels) for kept in range(fewest, counts.size + 1)]
    np.testing.assert_allclose(kernels.kl_divergences(counts, levels), want, rtol=1e-9, atol=1e-13)


@BOTH
@given(seed=st.integers(0, 2**16), shift=st.integers(1, 20))
@quick
def test_divergences_do_not_depend_on_the_number_of_values(kernels, seed, shift):
    counts = np.random.default_rng(seed).integers(0, 50, 40) + (np.arange(40) == 39)
    few, many = kernels.kl_divergences(counts, 8), kernels.kl_divergences(counts << shift, 8)
    np.testing.assert_allclose(few, many, rtol=0, atol=1e-13)


def exact_error(x, share, step, first, levels):
    """Every point to the nearest of all levels, in fractions."""
    grid = [Fraction(step) * (Fraction(first) + g) for g in range(levels)]
    return sum(Fraction(w) * min((v - Fraction(p)) ** 2 for v in grid) for p, w in zip(x, share, strict=True))


@BOTH
@given(
    bins=st.dictionaries(st.integers(-30, 30), st.sampled_from([0.0, 0.25, 0.5]), min_size=1, max_size=12),
    step=st.floats(0.01, 40.0),
    first=st.one_of(st.integers(-16, 16), st.sampled_from([-7.5, 0.5, -0.75])),
    levels=st.integers(1, 16),
    data=st.data(),
)
@quick
def test_the_error_is_that_of_the_nearest_levels(kernels, bins, step, first, levels, data):
    x = np.array(sorted(k + part for k, part in bins.items()))
    share = np.array(data.draw(st.lists(st.integers(0, 999), min_size=x.size, max_size=x.size)), float)
    got = kernels.mse_curve(x, share, np.array([step]), np.array([float(first)]), levels)
    want = float(exact_error(x.tolist(), share.tolist(), step, first, levels))
    # What cancels is as large as the squares of the points and of the levels they are laid on.
    largest = max(float(np.abs(x).max()), abs(step * first), abs(step * (first + levels - 1)))
    assert abs(float(got[0]) - want) <= 1e-13 * float(share.sum()) * largest**2


@BOTH
@pytest.mark.parametrize("levels", [16, 255])
def test_a_far_value_takes_no_precision_from_the_others(kernels, levels):
    x, share = np.append(np.arange(-3, 3) + 0.5, 2.0**20 + 0.5), np.append(np.full(6, 1e9), 1.0)
    step, first = np.array([1.0, 1.7, 1e-3]), np.array([-levels // 2] * 3, float)
    got = kernels.mse_curve(x, share, step, first, levels)
    want = [exact_error(x.tolist(), share.tolist(), s, f, levels) for s, f in zip(step, first, strict=True)]
    np.testing.assert_allclose(got, [float(error) for error in want], rtol=0, atol=1e-15 * levels * share @ x**2)


@BOTH
def test_a_step_of_one_bin_on_its_middles_loses_nothing(kernels):
    x, share = np.arange(8) + 0.5, np.arange(8.0)
    assert kernels.mse_curve(x, share, np.array([1.0]), np.array([0.5]), 8).tolist() == [0.0]


@BOTH
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda k: k.kl_divergences(np.ones(3), 2),
            TypeError,
            "got counts of float64 and shape (3,); allowed is int64",
        ),
        (lambda k: k.kl_divergences(np.zeros(3, int), 2), ValueError, "counts of at least 0 that are not all 0"),
        (lambda k: k.kl_divergences(np.array([3, -1]), 2), ValueError, "counts of at least 0 that are not all 0"),
        (lambda k: k.kl_divergences(np.ones(3, int), 0), ValueError, "levels is 0; allowed are 1..2**32"),
        (lambda k: curve(k, x=[0, 1]), TypeError, "got an array of int64 and shape (2,); allowed is float64"),
        (lambda k: curve(k, x=[0.5, np.inf]), ValueError, "need to be finite"),
        (lambda k: curve(k, x=[0.5]), ValueError, "got 1 points with 2 weights and 1 steps with 1 first levels"),
        (lambda k: curve(k, x=[0.5, 0.6]), ValueError, "points ascend, with at most one in each bin"),
        (lambda k: curve(k, x=[1.5, 0.5]), ValueError, "points ascend, with at most one in each bin"),
        (lambda k: curve(k, step=[0.0]), ValueError, "the smallest step is 0.0; steps are above 0"),
        (lambda k: curve(k, levels=0), ValueError, "levels is 0; allowed are 1..2**32"),
    ],
)
def test_refusals(kernels, call, error, text):
    with pytest.raises(error) as caught:
        call(kernels)
    assert text in str(caught.value)


def curve(kernels, x=(0.5, 1.5), step=(1.0,), levels=4):
    return kernels.mse_curve(np.array(x), np.ones(2), np.array(step), np.zeros(1), levels)
