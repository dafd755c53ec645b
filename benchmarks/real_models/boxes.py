"""Boxes `(left, top, right, bottom)` in pixels: overlap, suppression of doubles, and the F1 score of a detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]


def overlap(left: Boxes, right: Boxes) -> Boxes:
    """Intersection over union of every pair.

    Args:
        left: `(A, 4)`.
        right: `(B, 4)`.

    Returns:
        `(A, B)`, between 0 and 1.

    Example:
        >>> overlap(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])).round(3)
        array([[0.333, 0.   ]])
    """
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(group[:, 2:] - group[:, :2]).prod(axis=1) for group in (left, right)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    ratios: Boxes = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratios


def suppress(boxes: Boxes, scores: NDArray[np.float64], limit: float) -> NDArray[np.intp]:
    """Keep the best of boxes that overlap (greedy non-maximum suppression).

    Args:
        boxes: `(N, 4)`.
        scores: `(N,)`, higher is better.
        limit: Most overlap that two kept boxes may have.

    Returns:
        Indices of the kept boxes, best first.

    Example:
        >>> suppress(np.array([[0.0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]]), np.array([0.5, 0.9, 0.2]), 0.45).tolist()
        [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        order = rest[overlap(boxes[best : best + 1], boxes[rest])[0] <= limit]
    return np.array(kept, dtype=np.intp)


def matched(found: Boxes, true: Boxes, least: float = 0.5) -> int:
    """Count true boxes that a found box meets with an overlap of `least` or more, each found box used once.

    Args:
        found: `(A, 4)`, best first.
        true: `(B, 4)`.
        least: Smallest overlap that counts.

    Returns:
        A number from 0 to `min(A, B)`.
    """
    pairs = overlap(found, true)
    hits = 0
    for row in range(len(found)):
        column = int(pairs[row].argmax()) if len(true) else 0
        if len(true) and pairs[row, column] >= least:
            hits += 1
            pairs[:, column] = -1.0
    return hits


def f1(found: Sequence[Boxes], true: Sequence[Boxes], least: float = 0.5) -> float:
    """F1 score over a set of pictures: `2 hits / (found + true)`.

    Args:
        found: One `(A, 4)` array a picture, best first.
        true: One `(B, 4)` array a picture.
        least: Smallest overlap that counts as a hit.

    Returns:
        Between 0 and 1.
    """
    hits = sum(matched(mine, theirs, least) for mine, theirs in zip(found, true, strict=True))
    return 2 * hits / max(1, sum(map(len, found)) + sum(map(len, true)))
