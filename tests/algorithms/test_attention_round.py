"""Attention round: nearest in the limit, unbiased, repeatable, and better than nearest on calibration data."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.algorithms import attention_round, reconstruct
from quantlab.arrays import INT4, INT8, UINT4, QParams, QuantSpec, Range, dequantize, qparams_from_range, quantize
from quantlab.errors import DataError, OptionError


def grid_of(w, dtype=INT4, axis=None):
    spec = QuantSpec(dtype=dtype, symmetric=dtype.signed, axis=axis)
    other = None if axis is None else tuple(i for i in range(w.ndim) if i != axis)
    return qparams_from_range(Range(w.min(axis=other), w.max(axis=other)), spec)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("dtype", [INT4, UINT4, INT8], ids=str)
def test_without_disturbance_it_is_rounding_to_nearest(dtype, axis):
    w = normal(5, 7)
    grid = grid_of(w, dtype, axis)
    assert np.array_equal(attention_round(w, grid, 0.0), quantize(w, grid))
    assert np.array_equal(attention_round(w, grid, 1e-9, seed=3), quantize(w, grid))


@given(st.floats(-3, 3, width=32), st.sampled_from([0.3, 0.5, 1.0]), st.integers(0, 2**32 - 1))
def test_the_mean_of_many_draws_is_the_weight(value, sigma, seed):
    draws = 20_000
    grid = QParams(scale=np.float32(0.5), zero_point=np.int8(0), spec=QuantSpec(dtype=INT8))
    found = attention_round(np.full(draws, value, np.float32), grid, sigma, seed=seed).astype(float)
    bias = 2 * math.exp(-2 * math.pi**2 * sigma**2) / math.pi
    spread = math.sqrt(sigma**2 + 1 / 4)  # of the draw and of rounding it, at most
    assert abs(found.mean() - value / 0.5) <= bias + 6 * spread / math.sqrt(draws)


def test_far_points_are_rarer():
    grid = QParams(scale=np.float32(1), zero_point=np.int8(0), spec=QuantSpec(dtype=INT8))
    found = attention_round(np.full(50_000, 0.2, np.float32), grid, 0.8)
    counts = [int(np.sum(found == q)) for q in (0, 1, 2, 3)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 0
    # Each point gets what the Gaussian has between its two halfway marks.
    shares = [0.5 * (math.erf((q + 0.3) / 0.8 / 2**0.5) - math.erf((q - 0.7) / 0.8 / 2**0.5)) for q in (0, 1, 2, 3)]
    assert np.allclose(np.array(counts) / 50_000, shares, atol=5 * 0.5 / 50_000**0.5)


def test_draws_repeat_with_their_seed():
    w = normal(40)
    grid = grid_of(w)
    one, same, other = (attention_round(w, grid, 1.0, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_it_stays_on_the_grid():
    w = normal(1000)
    found = attention_round(w, grid_of(w), 20.0)
    assert (found.min(), found.max()) == (-8, 7)


@pytest.mark.parametrize("axis", [None, 0])
def test_reconstruction_beats_rounding_to_nearest(axis):
    # Activations are correlated: six directions and a little noise.
    inputs = normal(1024, 6, seed=1) @ normal(6, 24, seed=9) + np.float32(0.1) * normal(1024, 24, seed=3)
    w = normal(16, 24, seed=2)
    grid = grid_of(w, INT4, axis)

    def loss(integers):
        return float(np.mean((inputs.astype(float) @ (dequantize(integers, grid) - w.astype(float)).T) ** 2))

    learned = reconstruct(w, inputs, grid)
    assert loss(learned) < 0.5 * loss(quantize(w, grid))
    assert np.array_equal(learned, reconstruct(w, inputs, grid))
    assert loss(reconstruct(w, inputs, grid, steps=1)) <= loss(quantize(w, grid))


def test_without_steps_it_is_rounding_to_nearest():
    w = normal(3, 4)
    grid = grid_of(w)
    assert np.array_equal(reconstruct(w, normal(8, 4), grid, steps=0), quantize(w, grid))


@pytest.mark.parametrize("sigma", [-1.0, math.inf, math.nan, "0.5"])
def test_an_impossible_sigma_is_refused(sigma):
    w = normal(4)
    with pytest.raises(OptionError) as error:
        attention_round(w, grid_of(w), sigma)
    assert str(error.value) == f"sigma must be a finite number of grid steps, 0 or more, got {sigma!r}"


def test_what_reconstruction_cannot_use_is_refused():
    w = normal(3, 4)
    grid = grid_of(w)
    with pytest.raises(DataError, match=r"\(outputs, inputs\) and data \(samples, inputs\), got \(3, 4\) and \(8, 5\)"):
        reconstruct(w, normal(8, 5), grid)
    with pytest.raises(DataError, match="weights and calibration data must be finite"):
        reconstruct(w, np.full((8, 4), np.nan, np.float32), grid)
    with pytest.raises(OptionError, match=r"sigma and rate must be above 0 and steps 0 or more, got 0.5, -1 and 300"):
        reconstruct(w, normal(8, 4), grid, rate=-1)
