"""Labels come from the batch, under a name, or from one array whose rows are those of the data in its order."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantlab.errors import DataError, nearest
from quantlab.metrics.measure import Array, Seen, chosen

DEFAULT = "label"
"""The name under which labels stand in a batch unless another one is given."""


def names_of(labels: str | Array) -> tuple[str, ...]:
    """Return the names that have to stand in a batch."""
    return (labels,) if isinstance(labels, str) else ()


def labels_of(labels: str | Array, seen: Seen) -> Array:
    """Return the labels of a batch.

    Args:
        labels: Their name in the batch, or all labels, shape (rows of all the data, ...).
        seen: The batch.

    Returns:
        Shape (rows, ...).

    Raises:
        DataError: The batch has nothing of that name, or the array has too few rows.
    """
    if isinstance(labels, str):
        if labels not in seen.batch:
            raise DataError(
                f"the data has no labels {labels!r}{nearest(labels, seen.batch)} (it has "
                f"{', '.join(map(repr, seen.batch))}): add an array of that name with a row a sample, and name it in "
                "batches(labels=...)"
            )
        return np.asarray(seen.batch[labels])
    found = np.asarray(labels)
    end = seen.first_row + seen.rows
    if found.ndim == 0 or len(found) < end:
        raise DataError(
            f"there are labels of shape {found.shape}, and the data has {end} rows or more: give a label a row"
        )
    return found[seen.first_row : end]


def classes_and_labels(output: str | None, labels: str | Array, threshold: float, seen: Seen) -> tuple[Array, Array]:
    """Return the classes that a model gives and the true ones, of the same shape.

    Args:
        output: Name of the output, shape (rows, ..., classes); one with a single column, or none, is compared with the
            threshold. None for the first.
        labels: The labels, or their name.
        threshold: Above it a single number stands for class 1, else for 0.
        seen: The batch.

    Returns:
        Two arrays of integers.

    Raises:
        DataError: The labels are no integers, or do not have the shape of the classes.
    """
    scores, truth = chosen(seen.rounded, output), labels_of(labels, seen)
    single = scores.ndim < 2 or scores.shape[-1] == 1
    classes = (scores > threshold).astype(np.int64) if single else scores.argmax(axis=-1)
    return _fitting(classes, truth)


def _fitting(classes: Array, truth: Array) -> tuple[Array, Array]:
    if truth.dtype.kind not in "iub":
        raise DataError(f"labels are of type {truth.dtype.name}: classes are integers, such as int64")
    if classes.size != truth.size or _tight(classes) != _tight(truth):
        raise DataError(
            f"labels have shape {truth.shape}, and the model gives classes of shape {classes.shape}: give one integer "
            "a class that is to be found (not one-hot)"
        )
    return classes.reshape(-1).astype(np.int64), truth.reshape(-1).astype(np.int64)


def _tight(array: Array) -> tuple[Any, ...]:
    """Return the shape without axes of size 1: labels come as (N,) and as (N, 1)."""
    return tuple(size for size in array.shape if size != 1)
