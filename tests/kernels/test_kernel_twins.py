"""The compiled twin of every kernel gives the bits of its definition, or refuses with the same words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab import kernels
from quantlab_kernels import compiled, reference
from tests.kernels.kernel_cases import GRIDS, arrays, bits, blocked, grids, outcome, weights

Draw = Callable[..., Any]


def _lattice(draw: Draw) -> tuple[Any, ...]:
    exponent = draw(st.one_of(st.integers(-12, 12), st.integers(-1022, 1022)))
    first = draw(st.one_of(st.integers(-3000, 3000), st.integers(-(2**53), 2**53)))
    bins = draw(st.one_of(st.integers(0, 6000), st.sampled_from([1, 2048])))
    return draw(arrays()), exponent, first, bins


def _covering_lattice(draw: Draw) -> tuple[Any, ...]:
    x = draw(arrays())
    lo, hi, _, _ = reference.min_max(x)
    if lo > hi:
        return x, 0, 0, 1
    exponent = max(-1022, int(np.frexp(max(abs(float(lo)), abs(float(hi)), 1e-300))[1]) - draw(st.integers(0, 10)))
    return x, exponent, -(2**11), 2**12


def _histogram(draw: Draw) -> tuple[Any, ...]:
    x = draw(arrays())
    edge = st.one_of(
        st.floats(-1000, 1000),
        st.sampled_from([0.0, -1.0, 1.0, 7.5, 1e-40, 6e-8, 65504.0, 3e38, -3e38, 1e300]),
    )
    lo, hi = sorted((draw(edge), draw(edge)))
    return x, lo, hi, draw(st.sampled_from([1, 2, 3, 10, 255, 2048]))


def _tensor(draw: Draw, *, store: bool) -> tuple[Any, ...]:
    scale, zero, qmin, qmax, storage = draw(grids())
    return draw(arrays()), scale, zero, qmin, qmax, *((storage,) if store else ())


def _axis(draw: Draw, *, store: bool) -> tuple[Any, ...]:
    x = draw(arrays())
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    scale, zero, qmin, qmax, storage = draw(grids(channels=x.shape[axis]))
    return x, scale, zero, axis, qmin, qmax, *((storage,) if store else ())


def _integers(draw: Draw, x: Any, storage: Any, qmin: int, qmax: int) -> Any:
    seed = draw(st.integers(0, 2**16))
    return np.random.default_rng(seed).integers(qmin, qmax, x.shape, storage, endpoint=True)


def _dequantize(draw: Draw) -> tuple[Any, ...]:
    x, scale, zero, qmin, qmax, storage = _tensor(draw, store=True)
    return _integers(draw, x, storage, qmin, qmax), scale, zero


def _dequantize_axis(draw: Draw) -> tuple[Any, ...]:
    x, scale, zero, axis, qmin, qmax, storage = _axis(draw, store=True)
    return _integers(draw, x, storage, qmin, qmax), scale, zero, axis


def _min_max_axis(draw: Draw) -> tuple[Any, ...]:
    x = draw(arrays())
    return x, draw(st.integers(-x.ndim, x.ndim - 1))


def _counts(draw: Draw) -> tuple[Any, ...]:
    seed, size = draw(st.integers(0, 2**16)), draw(st.integers(1, 400))
    rng = np.random.default_rng(seed)
    scale = draw(st.sampled_from([1, 10, 10**6, 10**12]))
    counts = rng.integers(-1 if draw(st.integers(0, 9)) == 0 else 0, scale, size, endpoint=True)
    counts[rng.random(size) < draw(st.sampled_from([0.0, 0.3, 0.95]))] = 0
    return counts, draw(st.one_of(st.integers(0, 20), st.sampled_from([128, 256, 65_536])))


def _curve(draw: Draw) -> tuple[Any, ...]:
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    start, size = draw(st.integers(-300, 300)), draw(st.integers(0, 300))
    bins = start + np.flatnonzero(rng.random(size) < draw(st.sampled_from([0.1, 0.5, 1.0])))
    x = bins + (rng.random(bins.size) if draw(st.booleans()) else 0.5)
    share = rng.integers(0, 1000, x.size).astype(np.float64) / draw(st.sampled_from([1, 1000]))
    grids = draw(st.integers(0, 40))
    step = rng.choice([0.25, 0.5, 1.0, 1.7, 30.0, 1e-9, 1e9], grids) * rng.choice([1.0, 1.01], grids)
    levels = draw(st.sampled_from([1, 2, 3, 15, 16, 255, 700]))
    first = rng.choice([0.0, -(levels - 1) / 2, -float(levels // 2), -float(levels), 5.0, -0.25], grids)
    return x, share, step, first, levels


def _dequantize_block(draw: Draw) -> tuple[Any, ...]:
    x, scale, zero, axis, size, qmin, qmax, storage = draw(blocked())
    return _integers(draw, x, storage, qmin, qmax), scale, zero, axis, size


def _pack(draw: Draw) -> tuple[Any, ...]:
    return draw(weights()), draw(st.sampled_from([16, 32, 64, 128, 256, 8])), draw(st.booleans())


def _pairs(draw: Draw) -> tuple[Any, ...]:
    x, rng = draw(arrays()), np.random.default_rng(draw(st.integers(0, 2**16)))
    with np.errstate(all="ignore"):
        other, grid = (
            (x + draw(st.sampled_from([0, 1])) * rng.standard_normal(x.shape)).astype(x.dtype) for _ in range(2)
        )
    ends = np.sort(rng.standard_normal((2, *(x.shape if draw(st.booleans()) else ()))), axis=0)
    return x, other, grid, ends[0], ends[1]


def _integer_pairs(draw: Draw) -> tuple[Any, ...]:
    x, scale, zero, qmin, qmax, storage = _tensor(draw, store=True)
    return x, _integers(draw, x, storage, qmin, qmax), scale, zero, qmin, qmax


ARGUMENTS: dict[str, list[Callable[[Draw], tuple[Any, ...]]]] = {
    "min_max": [lambda draw: (draw(arrays()),)],
    "min_max_axis": [_min_max_axis],
    "min_max_lattice": [_lattice, _covering_lattice],
    "kl_divergences": [_counts],
    "mse_curve": [_curve],
    "lattice_histogram": [_lattice, _covering_lattice],
    "histogram": [_histogram],
    "fake_quant": [lambda draw: _tensor(draw, store=False)],
    "fake_quant_axis": [lambda draw: _axis(draw, store=False)],
    "quantize": [lambda draw: _tensor(draw, store=True)],
    "quantize_axis": [lambda draw: _axis(draw, store=True)],
    "dequantize": [_dequantize],
    "dequantize_axis": [_dequantize_axis],
    "fake_quant_block": [lambda draw: draw(blocked())[:-1]],
    "quantize_block": [lambda draw: draw(blocked())],
    "dequantize_block": [_dequantize_block],
    "quantize_pack_4bit": [_pack],
    "error_sums": [_pairs],
    "grid_error_sums": [_integer_pairs],
}


@pytest.mark.parametrize("name", kernels.CROSSOVER)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_the_twin_gives_the_bits_of_the_definition(name, data):
    for make in ARGUMENTS[name]:
        args = make(data.draw)
        assert outcome(getattr(compiled, name), *args) == outcome(getattr(reference, name), *args)


@pytest.mark.parametrize("name", kernels.CROSSOVER)
def test_a_kernel_has_a_definition_a_twin_and_a_public_function_with_one_signature(name):
    definition = inspect.signature(getattr(reference, name))
    assert inspect.signature(getattr(compiled, name)) == definition
    assert inspect.signature(getattr(kernels, name)) == definition


def test_every_function_of_the_definition_is_a_kernel():
    functions = {name for name in reference.__all__ if inspect.isfunction(getattr(reference, name))}
    assert functions == set(kernels.CROSSOVER)
    assert functions <= set(kernels.__all__)
    assert set(compiled.__all__) == set(reference.__all__)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["normal", "relu", "on the edges", "offset", "narrow"])
@pytest.mark.parametrize("bins", [1, 100, 2048])
def test_large_histograms_agree_whatever_lies_on_the_edges(dtype, kind, bins):
    rng = np.random.default_rng(7)
    x = rng.standard_normal(50_000)
    made = {
        "normal": (x, -4.0, 4.0),
        "relu": (np.maximum(x, 0), -4.0, 4.0),
        "on the edges": (np.round(x * 8) / 8, -4.0, 4.0),
        "offset": (x + 1000.0, 996.0, 1004.0),
        "narrow": (x, -1e-3, 1e-3),
    }
    values, lo, hi = made[kind]
    args = (values.astype(dtype), lo, hi, bins)
    assert outcome(compiled.histogram, *args) == outcome(reference.histogram, *args)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "kind", ["inside", "outside at once", "outside at last", "not finite", "both", "outside, then NaN"]
)
def test_the_pass_for_streams_agrees_over_many_blocks(dtype, kind):
    x = np.maximum(np.random.default_rng(7).standard_normal(20_001), -1).astype(dtype)
    if kind in ("not finite", "both"):
        x[[3, 9_000, 20_000]] = np.nan, np.inf, -np.inf
    if kind in ("outside at last", "both"):
        x[-2] = 9.0
    if kind in ("outside at once", "outside, then NaN"):
        x[0] = -9.0
    if kind == "outside, then NaN":
        x[15_000] = np.nan
    x.flags.writeable = False
    for exponent, first, bins in ((-8, -2048, 4096), (-13, -65_536, 131_072)):
        got = compiled.min_max_lattice(x, exponent, first, bins)
        assert (got.counts is None) == (kind.startswith("outside") or kind == "both")
        assert bits(got) == bits(reference.min_max_lattice(x, exponent, first, bins))


@pytest.mark.parametrize("levels", [2, 128, 256])
@pytest.mark.parametrize("kind", ["normal", "relu", "gaps"])
def test_sweeps_of_many_bins_agree(levels, kind):
    values = np.random.default_rng(7).standard_normal(200_000)
    values = {"normal": np.abs(values), "relu": np.maximum(values, 0), "gaps": np.round(np.abs(values), 2)}[kind]
    counts = np.histogram(values, 2048)[0]
    assert outcome(compiled.kl_divergences, counts, levels) == outcome(reference.kl_divergences, counts, levels)
    step = np.arange(1, 2049) / (levels - 1)
    args = (np.arange(2048) + 0.5, counts.astype(np.float64), step, np.zeros(2048), levels)
    assert outcome(compiled.mse_curve, *args) == outcome(reference.mse_curve, *args)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_large_float16_arrays_use_a_table_and_agree(grid, dtype):
    storage, qmin, qmax = GRIDS[grid]
    x = np.tile(np.arange(2**16, dtype=np.uint16).view(np.float16), 3)
    for zero in {qmin, 0, qmax}:
        for args in ((x, dtype(0.1), zero, qmin, qmax), (x[::-1], dtype(6e-5), zero, qmin, qmax)):
            assert outcome(compiled.fake_quant, *args) == outcome(reference.fake_quant, *args)
            stored = (*args, storage)
            assert outcome(compiled.quantize, *stored) == outcome(reference.quantize, *stored)


@pytest.mark.parametrize("module", [reference, compiled])
def test_inputs_stay_as_they_were(module):
    x = np.array([[0.3, -0.0, np.nan], [np.inf, 2.5, -1e30]], np.float32)
    before = x.tobytes()
    module.min_max(x)
    module.min_max_axis(x, 1)
    module.fake_quant(x, 0.1, 3, 0, 255)
    module.quantize_axis(x, np.full(3, 0.1, np.float32), np.zeros(3, int), 1, 0, 255, np.uint8)
    module.histogram(x, -1.0, 1.0, 4)
    assert x.tobytes() == before
