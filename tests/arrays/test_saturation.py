"""Sums of pairs in 16 bits: the emulator against a loop over single products, and the two ways out of saturation."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.arrays.saturation import BLOCK, matmul_by_pairs, pair_sums, wide_pair_sums
from quantlab.errors import ShapeError


def naive(a, b):
    """Multiply (M, K) by (K, N) element by element in Python's integers, as VPMADDUBSW and VPMADDWD do."""
    rows, depth, columns = len(a), len(b), len(b[0])
    exact, saturated, pairs = ([[0] * columns for _ in range(rows)] for _ in range(3))
    for i in range(rows):
        for j in range(columns):
            for k in range(0, depth, 2):
                products = [int(a[i][t]) * int(b[t][j]) for t in range(k, min(k + 2, depth))]
                cut = max(-32768, min(32767, sum(products)))
                exact[i][j] += sum(products)
                saturated[i][j] += cut
                pairs[i][j] += cut != sum(products)
    return np.array(exact), np.array(saturated), np.array(pairs).sum(axis=0)


@st.composite
def operands(draw, least=-128, most=127):
    rows, depth, columns = (draw(st.integers(1, size)) for size in (4, 9, 4))
    # Ends are drawn often: they are what saturates.
    a = st.one_of(st.sampled_from([0, 254, 255]), st.integers(0, 255))
    b = st.one_of(st.sampled_from([least, most]), st.integers(least, most))
    return (
        np.array(draw(st.lists(a, min_size=rows * depth, max_size=rows * depth)), np.uint8).reshape(rows, depth),
        np.array(draw(st.lists(b, min_size=depth * columns, max_size=depth * columns)), np.int8).reshape(
            depth, columns
        ),
    )


@given(operands())
def test_products_are_those_of_a_naive_loop(pair):
    found = matmul_by_pairs(*pair)
    for got, wanted in zip((found.exact, found.saturated, found.pairs), naive(*pair), strict=True):
        np.testing.assert_array_equal(got, wanted)


@given(operands(-64, 64))
def test_weights_of_7_bits_never_saturate(pair):
    found = matmul_by_pairs(*pair)
    assert not found.pairs.any()
    np.testing.assert_array_equal(found.saturated, found.exact)


@given(operands())
def test_uint8_weights_are_summed_exactly(pair):
    a, b = pair
    unsigned = b.view(np.uint8)
    if len(b) % 2:
        a, unsigned = np.pad(a, ((0, 0), (0, 1))), np.pad(unsigned, ((0, 1), (0, 0)))
    sums = wide_pair_sums(a[:, None, :], unsigned.T[None]).sum(axis=2, dtype=np.int64)
    np.testing.assert_array_equal(sums, a.astype(int) @ unsigned.astype(int))


def test_the_ends_of_16_bits():
    a = np.array([[255, 255], [255, 255], [255, 255], [255, 255]], np.uint8)
    b = np.array([[127, 127], [64, 64], [-64, -64], [-128, -128]], np.int8)
    assert pair_sums(a, b).ravel().tolist() == [32767, 32640, -32640, -32768]
    assert wide_pair_sums(a, np.full((4, 2), 255, np.uint8)).ravel().tolist() == [130050] * 4
    assert (2 * 255 * 127, 2 * 255 * 64) == (64770, 32640)


def test_large_products_are_computed_in_parts():
    random = np.random.default_rng(0)
    a = random.integers(0, 256, (10_000, 32), dtype=np.uint8)
    b = random.integers(-128, 128, (32, 50), dtype=np.int8)
    above, below = (end(b, 0).astype(int).reshape(16, 2, 50).sum(axis=1) for end in (np.maximum, np.minimum))
    assert len(a) * ((above > 128) | (below < -128)).sum() > BLOCK  # more than is held at a time
    found = matmul_by_pairs(a, b)
    sums = a.astype(np.int32)[:, :, None] * b
    pairs = sums[:, 0::2] + sums[:, 1::2]
    np.testing.assert_array_equal(found.exact, pairs.sum(axis=1))
    cut = np.clip(pairs, -32768, 32767)
    np.testing.assert_array_equal(found.saturated, cut.sum(axis=1))
    np.testing.assert_array_equal(found.pairs, (cut != pairs).sum(axis=(0, 1)))


A, B = np.zeros((2, 4), np.uint8), np.zeros((4, 3), np.int8)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: pair_sums(A[:, :3], B.T[:2, :3]), "pairs need an even number of products, got 3: append a zero"),
        (lambda: pair_sums(A.view(np.int8), B), "the pairs of VPMADDUBSW are uint8 by int8, got int8 by int8"),
        (lambda: matmul_by_pairs(A, B.T), "cannot multiply shape (2, 4) by (3, 4): give (M, K) and (K, N)"),
        (lambda: wide_pair_sums(A, A.view(np.int8)), "wide pairs are an even number of uint8 by uint8, got 4 of uint8"),
    ],
)
def test_what_cannot_be_multiplied(act, words):
    with pytest.raises(ShapeError, match=re.escape(words)):
        act()
