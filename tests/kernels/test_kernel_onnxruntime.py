"""quantize, dequantize and fake_quant give the bits of onnxruntime's QuantizeLinear and DequantizeLinear.

One deviation is defined away: onnxruntime packs 4-bit integers in pairs, and an element without a partner (an odd row,
an odd end) takes another path for float32, which treats NaN, infinities and quotients of 2**31 and more differently.
The definition follows the paired path everywhere; the last test here pins the other one.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from quantlab_kernels import compiled, reference
from tests.kernels.kernel_cases import GRIDS, bits, specials
from tests.kernels.linear_models import runner

LINEAR = [grid for grid in GRIDS if grid != "int32"]
WIDE = [grid for grid in LINEAR if not grid.endswith("int4")]
MODULES = [reference, compiled]
HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)


def ties(qmin, qmax, scale):
    """Every midpoint between two integers of the grid and beyond its ends, and its neighbours in float32."""
    half = (np.arange(2 * (qmin - 3), 2 * (qmax + 3) + 1) * np.float32(0.5) * scale).astype(np.float32)
    return np.concatenate([half, np.nextafter(half, np.float32(np.inf)), np.nextafter(half, np.float32(-np.inf))])


def inputs(qmin, qmax, scale):
    """Ties, special values, and random bit patterns of float32; an even number of them."""
    patterns = np.random.default_rng(1).integers(0, 2**32, 20_000, np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        parts = [ties(qmin, qmax, scale), specials(np.float32), patterns]
    return np.concatenate([*parts, np.zeros(sum(map(len, parts)) % 2, np.float32)])


def comparable(grid, dtype, paired):
    """The special values on which onnxruntime has one behaviour: all, but for unpaired 4-bit elements of float32."""
    values = specials(dtype)
    if paired or grid in WIDE or dtype == np.float16:
        return values
    return values[np.abs(values) <= 1000]


def zero_points(qmin, qmax):
    return sorted({qmin, 0, (qmin + qmax) // 2 + 3, qmax})


@pytest.mark.parametrize("scale", [0.5, 0.1, 3.7, 1e-40, 1e-30, 1e30, 3.4e38])
@pytest.mark.parametrize("grid", LINEAR)
def test_float32_per_tensor(grid, scale):
    storage, qmin, qmax = GRIDS[grid]
    step = np.float32(scale)
    x = inputs(qmin, qmax, step)
    for zero in zero_points(qmin, qmax):
        want = bits(runner("qdq", grid, step, zero)(x))
        stored = runner("q", grid, step, zero)(x) if grid in WIDE else None
        for module in MODULES:
            assert bits(module.fake_quant(x, step, zero, qmin, qmax)) == want
            q = module.quantize(x, step, zero, qmin, qmax, storage)
            assert bits(module.dequantize(q, step, zero)) == want
            assert stored is None or bits(q) == bits(stored)


@pytest.mark.parametrize("scale", [0.5, 0.1, 3.0, 1e-3, 6e-5, 6e-8, 60000.0])
@pytest.mark.parametrize("grid", LINEAR)
def test_every_float16_per_tensor(grid, scale):
    storage, qmin, qmax = GRIDS[grid]
    step = np.float16(scale)
    for zero in [*zero_points(qmin, qmax), *([-1] if qmin < 0 else [])]:
        want = bits(runner("qdq", grid, step, zero)(HALVES))
        stored = runner("q", grid, step, zero)(HALVES) if grid in WIDE else None
        for module in MODULES:
            assert bits(module.fake_quant(HALVES, step, zero, qmin, qmax)) == want
            q = module.quantize(HALVES, step, zero, qmin, qmax, storage)
            assert bits(module.dequantize(q, step, zero)) == want
            assert stored is None or bits(q) == bits(stored)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 15, 16, 17, 63, 64, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("grid", LINEAR)
def test_special_values_do_not_depend_on_the_length(grid, dtype, length):
    _, qmin, qmax = GRIDS[grid]
    for zero in zero_points(qmin, qmax):
        run = runner("qdq", grid, dtype(0.5), zero)
        for value in comparable(grid, dtype, length % 2 == 0):
            x = np.full(length, value, dtype)
            for module in MODULES:
                assert bits(module.fake_quant(x, dtype(0.5), zero, qmin, qmax)) == bits(run(x))


@pytest.mark.parametrize(
    "shape_axis", [((5, 3, 40), 1), ((5, 40, 3), 1), ((7, 6), 0), ((300, 6), -1), ((4, 5, 3, 3), 0), ((4, 5, 3, 4), 0)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("grid", LINEAR)
def test_per_axis(grid, dtype, shape_axis):
    storage, qmin, qmax = GRIDS[grid]
    shape, axis = shape_axis
    rng = np.random.default_rng(5)
    scale = np.exp(rng.uniform(-3, 1, shape[axis])).astype(dtype)
    zero = rng.integers(qmin, qmax, shape[axis], endpoint=True)
    x = (rng.standard_normal(shape) * 10).astype(dtype)
    special = comparable(grid, dtype, math.prod(shape[axis:][1:]) % 2 == 0 and axis >= 0)
    x.reshape(-1)[: special.size] = rng.permutation(special)
    want = bits(runner("qdq", grid, scale, zero, axis)(x))
    stored = runner("q", grid, scale, zero, axis)(x) if grid in WIDE else None
    for module in MODULES:
        assert bits(module.fake_quant_axis(x, scale, zero, axis, qmin, qmax)) == want
        q = module.quantize_axis(x, scale, zero, axis, qmin, qmax, storage)
        assert bits(module.dequantize_axis(q, scale, zero, axis)) == want
        assert stored is None or bits(q) == bits(stored)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e-7])
@pytest.mark.parametrize("grid", GRIDS)
def test_dequantize_every_integer(grid, scale, dtype):
    storage, qmin, qmax = GRIDS[grid]
    if grid == "int32":
        q = np.concatenate([np.random.default_rng(2).integers(qmin, qmax, 20_000), [qmin, qmax, 0]]).astype(storage)
        zeros = [0]  # onnxruntime allows no other for int32
    else:
        q = np.arange(qmin, qmax + 1).astype(storage)
        zeros = zero_points(qmin, qmax)
    for zero in zeros:
        want = bits(runner("dq", grid, dtype(scale), zero, stored=q)(q))
        for module in MODULES:
            assert bits(module.dequantize(q, dtype(scale), zero)) == want


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("axis", [0, 1])
def test_dequantize_int32_per_axis(axis, dtype):
    rng = np.random.default_rng(6)
    q = rng.integers(-(2**31), 2**31, (40, 50)).astype(np.int32)
    scale = np.exp(rng.uniform(-20, -10, q.shape[axis])).astype(dtype)
    zero = np.zeros(q.shape[axis], np.int64)
    want = bits(runner("dq", "int32", scale, zero, axis, stored=q)(q))
    for module in MODULES:
        assert bits(module.dequantize_axis(q, scale, zero, axis)) == want


@pytest.mark.parametrize("zero", [-3, 0, 7])
def test_an_unpaired_int4_of_float32_follows_the_float16_rule_in_onnxruntime(zero):
    scale = np.float32(0.5)
    run = runner("qdq", "int4", scale, zero)
    for value in specials(np.float32):
        with np.errstate(over="ignore"):
            half = np.array([value]).astype(np.float16)
        if not np.isfinite(value) or half[0] == value:
            rule = reference.fake_quant(half, np.float16(scale), zero, -8, 7).astype(np.float32)
            assert bits(run(np.array([value]))) == bits(rule)
