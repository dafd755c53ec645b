"""A case: one real trained float32 model with real inputs, the labels known for them, and a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Sample: TypeAlias = dict[str, Array]
"""Input name -> array, batch axis included: what one call of a runtime gets."""
Metric: TypeAlias = Callable[[Sequence[Sequence[Array]]], float]
"""The outputs of every evaluation sample in order -> a score, higher is better."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One real model and everything needed to say how good it is.

    Calibration and evaluation samples are disjoint, and every call returns the same samples in the same order.

    Attributes:
        key: Short name, as the command line takes it.
        title: What the model does, in a few words.
        licence: Licence of the weights.
        source: Package, version and member the weights come from.
        labels: How the labels were made, in a sentence.
        metric_name: What `metric` computes; higher is better, 1 is best.
        build: Makes the serialized float32 ONNX model.
        calibration: Makes the calibration samples.
        evaluation: Makes the evaluation samples.
        metric: Takes, for each evaluation sample in order, the list of model outputs in graph order, and gives the
            score.
        others: Further scores by name, computed from the same outputs.
    """

    key: str
    title: str
    licence: str
    source: str
    labels: str
    metric_name: str
    build: Callable[[], bytes]
    calibration: Callable[[], list[Sample]]
    evaluation: Callable[[], list[Sample]]
    metric: Metric
    others: Mapping[str, Metric] = field(default_factory=lambda: MappingProxyType({}))


def accuracy(predicted: Sequence[int], true: Sequence[int]) -> float:
    """Share of predictions that equal the label.

    Args:
        predicted: One class index a sample.
        true: The labels, as many.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: The two differ in length, or are empty.

    Example:
        >>> accuracy([1, 2, 3, 4], [1, 2, 3, 0])
        0.75
    """
    if len(predicted) != len(true) or not true:
        raise ValueError(f"got {len(predicted)} predictions for {len(true)} labels: one of each is needed per sample")
    return float(np.mean(np.asarray(predicted) == np.asarray(true)))
