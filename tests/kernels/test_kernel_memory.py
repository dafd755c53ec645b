"""Results in memory of the caller have the bits of those in new memory; what does not suit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab_kernels import compiled, reference
from tests.kernels.kernel_cases import bits, outcome
from tests.kernels.test_kernel_twins import ARGUMENTS

MODULES = pytest.mark.parametrize("module", [reference, compiled])
ACTS = ("fake_quant", "quantize", "dequantize")
WRITERS = [f"{act}{form}" for act in ACTS for form in ("", "_axis", "_block")]
FAKE_QUANTS = {
    "fake_quant": (np.float32(0.1), 3, -128, 127),
    "fake_quant_axis": (np.array([0.1, 0.3], np.float32), [3, -1], 0, -128, 127),
    "fake_quant_block": (np.full((2, 100), 0.1, np.float32), np.ones((2, 100), int), 1, 3, -128, 127),
}


def normal(*shape):
    return np.random.default_rng(3).standard_normal(shape, np.float32)


@MODULES
@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
@settings(max_examples=60)
def test_the_bits_are_those_of_new_memory(module, name, data):
    kernel, args = getattr(module, name), ARGUMENTS[name][0](data.draw)
    want = outcome(kernel, *args)
    if isinstance(want[0], type):
        assert outcome(lambda: kernel(*args, out=np.zeros(0))) == want
        return
    dtype, shape, _ = want
    out = np.full(shape, 77, dtype)
    assert kernel(*args, out=out) is out
    assert bits(out) == want


@MODULES
@pytest.mark.parametrize("name", FAKE_QUANTS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fake_quant_writes_over_what_it_reads(module, name, dtype):
    kernel, rest = getattr(module, name), FAKE_QUANTS[name]
    x = normal(2, 300).astype(dtype)
    want = kernel(x, *rest)
    assert kernel(x, *rest, out=x) is x
    assert bits(x) == bits(want)


@MODULES
@pytest.mark.parametrize("name", FAKE_QUANTS)
@pytest.mark.parametrize("kind", ["shifted down", "shifted up", "transposed"])
def test_memory_that_overlaps_in_another_way_gives_the_same_bits(module, name, kind):
    kernel, rest = getattr(module, name), FAKE_QUANTS[name]
    room = normal(700)
    starts = {"shifted down": (0, 1), "shifted up": (1, 0), "transposed": (0, 0)}[kind]
    out, x = (room[start : start + 600].reshape(2, 300) for start in starts)
    x = np.lib.stride_tricks.as_strided(x, (2, 300), (4, 8)) if kind == "transposed" else x
    want = kernel(x.copy(), *rest)
    assert bits(kernel(x, *rest, out=out)) == bits(want)


@MODULES
def test_integers_may_be_written_over_the_floats_they_come_from(module):
    x = normal(4, 300)
    args = (np.float32(0.1), 3, -128, 127, np.int8)
    want = module.quantize(x, *args)
    out = x.reshape(-1).view(np.int8)[1000:2200].reshape(4, 300)
    assert bits(module.quantize(x, *args, out=out)) == bits(want)
    q, room = want.copy(), np.zeros(1300, np.float32)
    room.view(np.int8)[7:1207] = q.reshape(-1)
    stored = room.view(np.int8)[7:1207].reshape(4, 300)
    back = module.dequantize(q, np.float32(0.1), 3)
    assert bits(module.dequantize(stored, np.float32(0.1), 3, out=room[:1200].reshape(4, 300))) == bits(back)


@MODULES
@pytest.mark.parametrize("name", ["fake_quant_axis", "fake_quant_block"])
def test_results_may_be_written_over_the_scales(module, name):
    kernel, (scale, *rest) = getattr(module, name), FAKE_QUANTS[name]
    x = normal(2, 300)
    want = kernel(x, scale, *rest)
    out = np.zeros((2, 300), np.float32)
    kept = out.reshape(-1)[: scale.size].reshape(scale.shape)
    kept[...] = scale
    assert bits(kernel(x, kept, *rest, out=out)) == bits(want)


UNFIT = {
    "dtype": (np.zeros((2, 3), np.float64), "float64 of shape (2, 3), contiguous, writeable"),
    "shape": (np.zeros((3, 2), np.float32), "float32 of shape (3, 2), contiguous, writeable"),
    "layout": (np.zeros((3, 2), np.float32).T, "float32 of shape (2, 3), not contiguous, writeable"),
    "read-only": (np.broadcast_to(np.float32(0), (2, 3)), "float32 of shape (2, 3), not contiguous, read-only"),
}


@MODULES
@pytest.mark.parametrize("kind", UNFIT)
def test_memory_that_does_not_suit_is_refused(module, kind):
    out, got = UNFIT[kind]
    x, ones, zeros = np.ones((2, 3), np.float32), np.ones(2, np.float32), np.zeros(2, int)
    blocks = (np.ones((2, 1), np.float32), np.zeros((2, 1), int), 1, 3)
    calls = [
        lambda: module.fake_quant(x, 1.0, 0, 0, 9, out=out),
        lambda: module.fake_quant_axis(x, ones, zeros, 0, 0, 9, out=out),
        lambda: module.fake_quant_block(x, *blocks, 0, 9, out=out),
        lambda: module.dequantize(x.astype(np.int8), 1.0, 0, out=out),
        lambda: module.dequantize_axis(x.astype(np.int8), ones, zeros, 0, out=out),
        lambda: module.dequantize_block(x.astype(np.int8), *blocks, out=out),
    ]
    for call in calls:
        assert outcome(call) == (
            ValueError,
            f"out takes a writeable, contiguous float32 array of shape (2, 3); got {got}",
        )
    assert not out.any()
    calls = [
        lambda: module.quantize(x, 1.0, 0, 0, 9, np.uint8, out=out),
        lambda: module.quantize_axis(x, ones, zeros, 0, 0, 9, np.uint8, out=out),
        lambda: module.quantize_block(x, *blocks, 0, 9, np.uint8, out=out),
    ]
    for call in calls:
        want = f"out takes a writeable, contiguous uint8 array of shape (2, 3); got {got}"
        assert outcome(call) == (ValueError, want)


# ---------------------------------------------------------------------------------------------------------------------
# Counts that are added to


@MODULES
@given(data=st.data())
@settings(max_examples=100)
def test_counts_are_added_to_those_given(module, data):
    for make in ARGUMENTS["min_max_lattice"]:
        args = make(data.draw)
        before = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 2**40, args[-1])
        into = before.copy()
        want, got = outcome(module.min_max_lattice, *args), outcome(module.min_max_lattice, *args, into)
        if isinstance(want[0], type):
            assert got == want
            assert (into == before).all()
            continue
        counts = module.min_max_lattice(*args).counts
        assert got[1][0] == want[1][0]
        assert got[1][1] == bits(None if counts is None else before + counts)
        assert (into == (before if counts is None else before + counts)).all()


@MODULES
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bins", [64, 131_072])
@pytest.mark.parametrize("place", [None, 0, 150_000, -1])
def test_counts_stay_as_they_were_where_an_element_lies_outside(module, dtype, bins, place):
    x = np.clip(np.random.default_rng(7).standard_normal(300_001), -3.9, 3.9).astype(dtype)
    x[5] = np.nan
    if place is not None:
        x[place] = 9.0
    exponent = 3 - bins.bit_length() + 1
    into = np.arange(bins)
    for size in (300_001, 40):  # more and fewer elements than bins
        part = x[-size:]
        found = module.min_max_lattice(part, exponent, -bins // 2, bins, into)
        outside = (part == 9.0).any()
        assert (found.counts is None) == outside
        if not outside:
            assert found.counts is into
            into -= module.lattice_histogram(part, exponent, -bins // 2, bins)
        assert (into == np.arange(bins)).all()


@MODULES
@pytest.mark.parametrize(
    ("into", "got"),
    [
        (np.zeros(4, np.int32), "int32 of shape (4,), contiguous, writeable"),
        (np.zeros(5, np.int64), "int64 of shape (5,), contiguous, writeable"),
        (np.zeros(8, np.int64)[::2], "int64 of shape (4,), not contiguous, writeable"),
        (np.frombuffer(bytes(32), np.int64), "int64 of shape (4,), contiguous, read-only"),
    ],
)
def test_counters_that_do_not_suit_are_refused(module, into, got):
    want = f"into takes a writeable, contiguous int64 array of shape (4,); got {got}"
    assert outcome(module.min_max_lattice, np.zeros(3, np.float32), 0, 0, 4, into) == (ValueError, want)
    assert not into.any()
