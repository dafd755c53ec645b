"""Blocked kernels against slow loops and against onnxruntime: QuantizeLinear with block_size, and 4-bit packing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab_kernels import compiled, compiled_blocks, reference
from tests.kernels.block_models import block_runner, native_pack
from tests.kernels.kernel_cases import GRIDS, bits, blocked, outcome, specials, weights

LINEAR = [grid for grid in GRIDS if grid != "int32"]
MODULES = [reference, compiled]
LAYOUTS = [
    ((5, 40, 3), 1, 16),
    ((3, 20, 40), 1, 8),
    ((40, 6), 0, 16),
    ((6, 40), 1, 16),
    ((6, 35), -1, 16),
    ((6, 128), -1, 64),
    ((3, 96), 1, 64),
    ((4, 6, 3, 3), 1, 4),
    ((20,), 0, 8),
    ((4, 4), 0, 1),
    ((4, 4), 0, 9),
]


def spread(values, axis, size, length):
    """One value for each element instead of one for each block."""
    return np.take(np.repeat(values, size, axis=axis), np.arange(length), axis=axis)


def numbers(grid, dtype, shape, axis, size):
    """Scales and zero points, seeded."""
    _, qmin, qmax = GRIDS[grid]
    count = list(shape)
    count[axis] = -(-count[axis] // size)
    rng = np.random.default_rng(5)
    return np.exp(rng.uniform(-3, 1, count)).astype(dtype), rng.integers(qmin, qmax, count, endpoint=True)


@settings(deadline=None, max_examples=200)
@given(blocked())
def test_a_block_is_a_tensor_with_a_grid_of_its_own(case):
    x, scale, zero, axis, size, qmin, qmax, storage = case
    q = reference.quantize_block(*case)
    back = reference.dequantize_block(q, scale, zero, axis, size)
    both = reference.fake_quant_block(*case[:-1])
    steps, zeros = spread(scale, axis, size, x.shape[axis]), spread(zero, axis, size, x.shape[axis])
    for i in np.ndindex(x.shape):
        one = x[i].reshape(1)
        assert bits(reference.quantize(one, steps[i], zeros[i], qmin, qmax, storage)[0]) == bits(q[i])
        assert bits(reference.dequantize(q[i].reshape(1), steps[i], zeros[i])[0]) == bits(back[i])
        assert bits(reference.fake_quant(one, steps[i], zeros[i], qmin, qmax)[0]) == bits(both[i])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("grid", LINEAR)
def test_onnxruntime_gives_the_same_bits(grid, dtype, layout):
    shape, axis, size = layout
    storage, qmin, qmax = GRIDS[grid]
    scale, zero = numbers(grid, dtype, shape, axis, size)
    x = (np.random.default_rng(6).standard_normal(shape) * 10).astype(dtype)
    inner_axis = axis % len(shape) != len(shape) - 1
    # Unpaired 4-bit elements, and axes that are not the last, treat special values of float32 in another way: below.
    special = specials(dtype)
    if dtype == np.float32 and (inner_axis or (grid.endswith("int4") and shape[-1] % 2)):
        special = special[np.abs(special) <= 1000]
    x.reshape(-1)[: special.size] = special[: x.size]
    want = bits(block_runner("qdq", grid, scale, zero, axis, size)(x))
    stored = None if grid.endswith("int4") else bits(block_runner("q", grid, scale, zero, axis, size)(x))
    for module in MODULES:
        assert bits(module.fake_quant_block(x, scale, zero, axis, size, qmin, qmax)) == want
        q = module.quantize_block(x, scale, zero, axis, size, qmin, qmax, storage)
        assert bits(module.dequantize_block(q, scale, zero, axis, size)) == want
        assert stored is None or bits(q) == stored


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("grid", GRIDS)
def test_onnxruntime_dequantizes_constants_to_the_same_bits(grid, dtype, layout):
    shape, axis, size = layout
    storage, qmin, qmax = GRIDS[grid]
    scale, zero = numbers(grid, dtype, shape, axis, size)
    zero *= grid != "int32"  # onnxruntime allows no other for int32
    q = np.random.default_rng(7).integers(qmin, qmax, shape, endpoint=True).astype(storage)
    want = bits(block_runner("dq", grid, scale, zero, axis, size, stored=q)(q))
    for module in MODULES:
        assert bits(module.dequantize_block(q, scale, zero, axis, size)) == want


def test_onnxruntime_follows_the_float16_rule_where_the_axis_is_not_the_last():
    scale, zero = np.full((1, 2), 0.5, np.float32), np.zeros((1, 2), np.int64)
    x = np.array([[np.inf, -np.inf], [np.nan, 1e30]], np.float32)
    theirs = block_runner("q", "int8", scale, zero, 0, 2)(x)
    assert theirs.tolist() == [[-128, -128], [-128, -128]]
    for module in MODULES:
        assert module.quantize_block(x, scale, zero, 0, 2, -128, 127, np.int8).tolist() == [[127, -128], [-128, 127]]


def same_as_native(weight, size, symmetric):
    packed, scale, zero = native_pack(weight, size, symmetric)
    for module in MODULES:
        made = module.quantize_pack_4bit(weight, size, symmetric)
        assert bits(made.packed) == bits(packed)
        assert bits(made.scale) == bits(scale)
        assert made.zero_point is None if symmetric else bits(made.zero_point) == bits(zero)


@settings(deadline=None, max_examples=300)
@given(weights(), st.sampled_from([16, 32, 64, 128, 256]), st.booleans())
def test_packing_gives_the_bytes_of_onnxruntime(weight, size, symmetric):
    if weight.size:  # onnxruntime divides by the number of columns
        same_as_native(weight, size, symmetric)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_packing_gives_the_bytes_of_onnxruntime_on_many_tiles(monkeypatch, dtype, size, symmetric):
    """Several threads, tiles of columns, slabs of rows, and a last block of one row."""
    monkeypatch.setattr(compiled_blocks, "_cores", lambda: 3)
    monkeypatch.setattr(compiled_blocks, "_TILE", 100)
    monkeypatch.setattr(compiled_blocks, "_SHARED", 1)
    same_as_native(np.random.default_rng(8).standard_normal((1025, 701)).astype(dtype), size, symmetric)


@pytest.mark.parametrize("symmetric", [False, True])
def test_every_finite_float16_is_widened_and_packed_as_onnxruntime_does(symmetric):
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    same_as_native(np.where(np.isfinite(halves), halves, 0).reshape(256, 256), 16, symmetric)


def column(*values):
    return np.array(values, np.float32)[:, None]


def unpacked(made, rows):
    packed = made.packed.reshape(made.packed.shape[0], -1)
    return np.stack([packed & 15, packed >> 4], -1).reshape(packed.shape[0], -1)[:, :rows].tolist()


@pytest.mark.parametrize("module", MODULES)
def test_odd_cases_of_packing(module):
    zeros = module.quantize_pack_4bit(column(*[0.0] * 16), 16, False)
    assert (unpacked(zeros, 16), zeros.scale.tolist(), zeros.zero_point.tolist()) == ([[0] * 16], [[0.0]], [[0x80]])
    mirrored = module.quantize_pack_4bit(column(*[0.0] * 16), 16, True)
    assert (unpacked(mirrored, 16), mirrored.zero_point) == ([[8] * 16], None)
    # The farther end is -8 steps: a positive one makes the scale negative, and of two equal ones the lower counts.
    assert module.quantize_pack_4bit(column(-1, 2), 16, True).scale.tolist() == [[-0.25]]
    assert module.quantize_pack_4bit(column(-2, 1), 16, True).scale.tolist() == [[0.25]]
    assert module.quantize_pack_4bit(column(2, -2), 16, True).scale.tolist() == [[0.25]]
    # Halves go away from zero: 1.5 to 2 and 2.5 to 3.
    ties = module.quantize_pack_4bit(column(0, 15, 0.5, 1.5, 2.5, 14.5), 16, False)
    assert unpacked(ties, 6) == [[0, 15, 1, 2, 3, 15]]
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert unpacked(module.quantize_pack_4bit(column(0, 15, below), 16, False), 3) == [[0, 15, 0]]


@pytest.mark.parametrize("module", MODULES)
def test_messages(module):
    x, ones, zeros = np.zeros((4, 5), np.float32), np.ones((4, 3), np.float32), np.zeros((4, 3), int)
    with pytest.raises(ValueError, match="block_size is 0; a block has 1 element or more"):
        module.fake_quant_block(x, ones, zeros, 1, 0, 0, 255)
    with pytest.raises(
        ValueError,
        match=r"blocks of 3 along axis 1 of shape \(4, 5\) need scale and zero_point of shape \(4, 2\); "
        r"got \(4, 3\) and \(4, 3\)",
    ):
        module.quantize_block(x, ones, zeros, 1, 3, 0, 255, np.uint8)
    with pytest.raises(TypeError, match="got integers of int64; allowed are int8"):
        module.dequantize_block(zeros, ones, zeros, 1, 2)
    with pytest.raises(TypeError, match="got a weight of float64; allowed are float16 and float32"):
        module.quantize_pack_4bit(np.zeros((4, 5)), 16, False)
    with pytest.raises(ValueError, match=r"got a weight of shape \(4,\); allowed is \(K, N\), with blocks along K"):
        module.quantize_pack_4bit(np.zeros(4, np.float32), 16, False)
    with pytest.raises(ValueError, match="block_size is 24; allowed are 16, 32, 64, 128, 256"):
        module.quantize_pack_4bit(x, 24, False)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), [((3, 96), 1), ((2, 320), -1), ((64,), 0), ((2, 96, 1), 1), ((0, 96), 1)])
@pytest.mark.parametrize("size", [16, 32, 64, 96, 128])
def test_blocks_along_the_last_axis_agree_whether_or_not_they_are_whole_lanes(grid, dtype, shape, axis, size):
    storage, qmin, qmax = GRIDS[grid]
    rng = np.random.default_rng(5)
    x = (30 * rng.standard_normal(shape)).astype(dtype)
    special = specials(dtype)
    x.reshape(-1)[: special.size] = special[: x.size]
    count = list(shape)
    count[axis] = -(-count[axis] // size)
    scale = rng.uniform(0.05, 0.5, count).astype(np.float32)
    zero = rng.integers(max(qmin, -50), min(qmax, 50), count, endpoint=True)
    fake, stored = (x, scale, zero, axis, size, qmin, qmax), (x, scale, zero, axis, size, qmin, qmax, storage)
    assert outcome(compiled.fake_quant_block, *fake) == outcome(reference.fake_quant_block, *fake)
    assert outcome(compiled.quantize_block, *stored) == outcome(reference.quantize_block, *stored)
    back = (reference.quantize_block(*stored), scale, zero, axis, size)
    assert outcome(compiled.dequantize_block, *back) == outcome(reference.dequantize_block, *back)
