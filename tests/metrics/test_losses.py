"""The two losses among the task metrics, against naive sums, and what they refuse."""

import math

import numpy as np
import pytest

from quantlab.errors import DataError
from quantlab.metrics import task_metric

RNG = np.random.default_rng(3)
EXACT = RNG.normal(size=(12, 5)).astype(np.float32)
ROUNDED = (EXACT + RNG.normal(scale=0.1, size=EXACT.shape)).astype(np.float32)
LABELS = RNG.integers(0, 5, 12)


def run(metric, rounded, **batch):
    for start in range(0, 12, 5):
        rows = slice(start, start + 5)
        metric.update({"y": EXACT[rows]}, {"y": rounded[rows]}, {name: array[rows] for name, array in batch.items()})
    return metric.result()


def test_mse_is_the_mean_of_squared_differences():
    total = sum((float(x) - float(y)) ** 2 for x, y in zip(EXACT.flat, ROUNDED.flat, strict=True))
    assert run(task_metric("mse"), ROUNDED) == pytest.approx(total / EXACT.size, rel=1e-12)
    assert run(task_metric("mse"), EXACT) == 0
    assert not task_metric("mse").higher_is_better


def test_cross_entropy_is_the_mean_of_minus_log_probabilities():
    total = 0.0
    for row, label in zip(ROUNDED.tolist(), LABELS.tolist(), strict=True):
        total -= math.log(math.exp(row[label]) / sum(map(math.exp, row)))
    assert run(task_metric("cross_entropy"), ROUNDED, label=LABELS) == pytest.approx(total / 12, rel=1e-12)
    assert run(task_metric("cross_entropy:labels=y"), ROUNDED, y=LABELS) == pytest.approx(total / 12, rel=1e-12)


def test_cross_entropy_of_large_logits_is_finite():
    logits = np.full((12, 5), -1e4, np.float32)
    logits[np.arange(12), LABELS] = 1e4
    assert run(task_metric("cross_entropy"), logits, label=LABELS) == 0
    assert run(task_metric("cross_entropy"), logits, label=(LABELS + 1) % 5) == 2e4


@pytest.mark.parametrize(
    ("rounded", "labels", "text"),
    [
        (ROUNDED, LABELS + 5, r"labels run from [5-9] to 9: the model has 5 classes"),
        (ROUNDED[:, 0], LABELS, r"cross_entropy needs logits of two or more classes: the output has shape \(5,\)"),
        (ROUNDED, LABELS.astype(float), "labels are of type float64: classes are integers, such as int64"),
    ],
)
def test_cross_entropy_refuses(rounded, labels, text):
    with pytest.raises(DataError, match=text):
        run(task_metric("cross_entropy"), rounded, label=labels)
