"""Measure: stream batches through a model and keep one statistic a tensor, whose memory does not grow with the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from quantlab.backend import Backend, Batch
from quantlab.calibration import RangeRule, Statistic
from quantlab.errors import DataError
from quantlab.plan import Calibrated, QuantPlan
from quantlab.progress import Track, quiet


def measure(
    backend: Backend,
    model: onnx.ModelProto,
    empty: Mapping[str, Statistic],
    batches: Iterable[Batch],
    *,
    track: Track = quiet,
    total: int | None = None,
) -> dict[str, Statistic]:
    """Update the statistic of each tensor with every batch.

    Args:
        backend: Runs the model.
        model: The prepared float model.
        empty: Tensor to the statistic to start from; only these tensors are computed and looked at.
        batches: Input name to array, one mapping a sample.
        track: Shows progress.
        total: How many batches there are, if known.

    Returns:
        Tensor to statistic.

    Raises:
        DataError: There was no batch, or some tensor became NaN; the text names it and the sample.
    """
    seen = dict(empty)
    samples = track(backend.stream(model, batches, list(empty)), f"calibrating {len(empty)} tensors", total)
    index = -1
    for index, values in enumerate(samples):
        for name, value in values.items():
            seen[name] = seen[name].update(value)
            if seen[name].nan_count:
                raise DataError(
                    f"tensor {name!r} contains NaN in sample {index} although the model's inputs do not: "
                    "run the float model on that sample, or exclude the node that makes it"
                )
    if index < 0:
        raise DataError("there is no calibration data: give at least one sample")
    return seen


def calibrated(plan: QuantPlan, rule: RangeRule, seen: Mapping[str, Statistic]) -> dict[str, Calibrated]:
    """Turn statistics into ranges by one rule.

    Args:
        plan: The refined plan; it says which grid each range is for.
        rule: The range rule.
        seen: Tensor to statistic.

    Returns:
        Tensor to range, with the words that say where it came from.

    Raises:
        DataError: A tensor had no finite value; the text names it.
    """
    specs = {tensor.range_of or name: tensor.spec for name, tensor in plan.tensors.items()}
    ranges = {}
    for name, statistic in seen.items():
        try:
            values = rule.range(statistic, specs[name])
        except DataError as error:
            raise DataError(f"tensor {name!r}: {error}") from error
        ranges[name] = Calibrated(values=values, source=rule.explain(statistic, specs[name]))
    return ranges
