"""Products of 8-bit integers as x86 processors without VNNI add them: in pairs, in 16 bits, with saturation.

    pair_t = clip(a_2t b_2t + a_2t+1 b_2t+1, -32768, 32767)        y = sum over t of pair_t, in 32 bits

That is VPMADDUBSW on uint8 `a` and int8 `b`, then VPMADDWD by ones. A pair fits as long as |b| <= 64, since
2 * 255 * 64 = 32640; with |b| up to 127 it may reach 2 * 255 * 127 = 64770 and is cut to 32767. Source: Intel 64 and
IA-32 Architectures Software Developer's Manual, volume 2, VPMADDUBSW.

Pairs are neighbours along the axis that is summed over: elements 0 and 1, 2 and 3, and so on; an odd last one stands
alone. That is the order of onnxruntime's kernels for uint8 by int8, which take four neighbours at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.errors import ShapeError

Integers = npt.NDArray[np.integer[Any]]

LOWEST, HIGHEST = -(2**15), 2**15 - 1
BLOCK = 2**20
"""Sums of pairs that are held at a time."""


def pair_sums(a: npt.NDArray[np.uint8], b: npt.NDArray[np.int8]) -> npt.NDArray[np.int16]:
    """Multiply, and add neighbouring products with saturation: VPMADDUBSW.

    Args:
        a: uint8, shape (..., K) with an even K.
        b: int8, of a shape that broadcasts with it.

    Returns:
        int16, shape (..., K / 2).

    Raises:
        ShapeError: K is odd, or a type is another one.

    Example:
        >>> pair_sums(np.array([255, 255, 255, 255], np.uint8), np.array([127, 127, 64, 64], np.int8))
        array([32767, 32640], dtype=int16)
    """
    _check(a, b)
    if a.shape[-1] % 2:
        raise ShapeError(f"pairs need an even number of products, got {a.shape[-1]}: append a zero to both")
    return np.clip(_exact_pairs(a, b), LOWEST, HIGHEST).astype(np.int16)


@dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product with and without saturation.

    Attributes:
        exact: The true sums, int64, shape (M, N).
        saturated: The sums of saturated pairs, int64, shape (M, N).
        pairs: Pairs that saturate for each column, int64, shape (N,).
    """

    exact: npt.NDArray[np.int64]
    saturated: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]


def matmul_by_pairs(a: npt.NDArray[np.uint8], b: npt.NDArray[np.int8]) -> Product:
    """Multiply matrices both ways, in memory that does not grow with the product M N K.

    Args:
        a: uint8, shape (M, K).
        b: int8, shape (K, N).

    Returns:
        Both products, and where they differ.

    Raises:
        ShapeError: The shapes do not go together, or a type is another one.

    Example:
        >>> found = matmul_by_pairs(np.full((1, 2), 255, np.uint8), np.full((2, 1), 127, np.int8))
        >>> found.exact.item(), found.saturated.item(), found.pairs.item()
        (64770, 32767, 1)
    """
    _check(a, b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ShapeError(f"cannot multiply shape {a.shape} by {b.shape}: give (M, K) and (K, N)")
    if a.shape[1] % 2:
        a, b = np.pad(a, ((0, 0), (0, 1))), np.pad(b, ((0, 1), (0, 0)))
    exact = _exact(a, b)
    excess, pairs = np.zeros_like(exact), np.zeros(b.shape[1], np.int64)
    column, pair = np.nonzero(_may_saturate(b).T)  # by column
    step = max(1, BLOCK // max(1, len(a)))
    for start in range(0, len(column), step):
        some, left = column[start : start + step], 2 * pair[start : start + step]
        sums = a[:, left].astype(np.int32) * b[left, some] + a[:, left + 1].astype(np.int32) * b[left + 1, some]
        over = sums - np.clip(sums, LOWEST, HIGHEST)
        owner, first = np.unique(some, return_index=True)
        excess[:, owner] += np.add.reduceat(over, first, axis=1, dtype=np.int64)
        pairs[owner] += np.add.reduceat(np.count_nonzero(over, axis=0), first)
    return Product(exact=exact, saturated=exact - excess, pairs=pairs)


def _may_saturate(b: Integers) -> npt.NDArray[np.bool_]:
    """Say which pairs of weights the largest activations, 255, would saturate, shape (K / 2, N); others never do."""
    wide = b.astype(np.int64).reshape(-1, 2, b.shape[1])
    above = 255 * np.maximum(wide, 0).sum(axis=1) > HIGHEST
    below = 255 * np.minimum(wide, 0).sum(axis=1) < LOWEST
    return np.asarray(above | below)


def _exact(a: Integers, b: Integers) -> npt.NDArray[np.int64]:
    """Multiply exactly: float64 holds every sum of fewer than 2^37 products of 8-bit integers, and BLAS is fast."""
    return np.asarray((a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64))


def _exact_pairs(a: Integers, b: Integers) -> npt.NDArray[np.int32]:
    # Neighbours are taken apart first, so that no array of single products is made.
    left = a[..., 0::2].astype(np.int32) * b[..., 0::2]
    return np.asarray(left + a[..., 1::2].astype(np.int32) * b[..., 1::2])


def _check(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
    if a.dtype.name != "uint8" or b.dtype.name != "int8":
        raise ShapeError(f"the pairs of VPMADDUBSW are uint8 by int8, got {a.dtype.name} by {b.dtype.name}")


def wide_pair_sums(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Multiply uint8 by uint8 and add neighbouring products: widened to 16 bits, then VPMADDWD, which adds in 32 bits.

    A pair is at most 2 * 255 * 255 = 130050, so nothing saturates: with uint8 weights the sums are exact everywhere.

    Args:
        a: uint8, shape (..., K) with an even K.
        b: uint8, of a shape that broadcasts with it.

    Returns:
        int32, shape (..., K / 2).

    Raises:
        ShapeError: K is odd, or a type is another one.

    Example:
        >>> wide_pair_sums(np.full(2, 255, np.uint8), np.full(2, 255, np.uint8))
        array([130050], dtype=int32)
    """
    if {a.dtype.name, b.dtype.name} != {"uint8"} or a.shape[-1] % 2:
        raise ShapeError(
            f"wide pairs are an even number of uint8 by uint8, got {a.shape[-1]} of {a.dtype.name} by {b.dtype.name}"
        )
    return _exact_pairs(a.astype(np.int16), b.astype(np.int16))
