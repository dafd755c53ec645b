"""What comparing has seen so far: sums a tensor, votes, measures and histograms, and the rows that they come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.backend import Array, Batch
from quantlab.calibration import Histogram
from quantlab.calibration.gather import Gatherer
from quantlab.debug.findings import TensorError, Unmatched
from quantlab.debug.matching import Match
from quantlab.debug.sums import NO_SUMS, added, numbers
from quantlab.kernels import ErrorSums


class Metric(Protocol):
    """A measure of the outputs that is fed sample by sample, such as `quantlab.metrics.task_metric` makes."""

    def update(self, exact: Mapping[str, Array], rounded: Mapping[str, Array], batch: Batch, /) -> None:
        """Take in one more sample: the outputs of the float and of the quantized model, and what both were fed."""

    def result(self) -> float:
        """Return the measure of all samples."""


NO_METRICS: Mapping[str, Metric] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is compared.

    Attributes:
        exact: The float model.
        rounded: The quantized model.
        matches: Rounded tensors that are computed, with their partners.
        outputs: The models' outputs.
    """

    exact: onnx.ModelProto
    rounded: onnx.ModelProto
    matches: tuple[Match, ...]
    outputs: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The float partners, each once."""
        return list(dict.fromkeys(str(each.name) for each in self.matches))


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What one sample showed.

    Attributes:
        tensors: The sums of each match, or the two shapes where they differ.
        outputs: The sums of each output.
        exact: Outputs of the float model.
        rounded: Outputs of the quantized model.
    """

    tensors: Sequence[ErrorSums | str]
    outputs: Sequence[ErrorSums]
    exact: Mapping[str, Array]
    rounded: Mapping[str, Array]


@dataclass(kw_only=True)
class Seen:
    """What all samples so far have shown, and the histograms that are collected meanwhile."""

    task: Task
    metrics: Mapping[str, Metric]
    samples: int = 0
    agreeing: int = 0
    votes: int = 0
    tensors: list[ErrorSums] = field(default_factory=list)
    outputs: list[ErrorSums] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)
    odd: dict[int, str] = field(default_factory=dict)
    gathered: list[dict[str, Gatherer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tensors = [NO_SUMS] * len(self.task.matches)
        self.outputs = [NO_SUMS] * len(self.task.outputs)

    def add(self, batch: Batch, sample: Shown) -> None:
        """Add one more sample."""
        self.samples += 1
        self.dtypes = {name: value.dtype.name for name, value in sample.exact.items()}
        for index, sums in enumerate(sample.tensors):
            if isinstance(sums, str):
                self.odd.setdefault(index, sums)
            else:
                self.tensors[index] = added(self.tensors[index], sums)
        self.outputs = [added(sums, more) for sums, more in zip(self.outputs, sample.outputs, strict=True)]
        votes = _votes(sample.exact[self.task.outputs[0]], sample.rounded[self.task.outputs[0]])
        self.agreeing, self.votes = self.agreeing + int(votes.sum()), self.votes + votes.size
        for metric in self.metrics.values():
            metric.update(sample.exact, sample.rounded, batch)

    @property
    def agreement(self) -> float | None:
        """Share of rows on which the first outputs prefer the same class."""
        return self.agreeing / self.votes if self.votes else None

    def rows(self) -> list[TensorError]:
        """Return one row a rounded tensor."""
        counted = self._histograms()
        return [
            TensorError(
                name=str(each.name),
                kind="activation",
                node=each.step.node.name if each.step is not None else "",
                op_type=each.step.node.op_type if each.step is not None else "",
                dtype=each.rounded.grid.spec.dtype.name,
                grid=each.rounded.grid,
                histogram=counted.get(str(each.name)),
                **numbers(sums),
            )
            for index, (each, sums) in enumerate(zip(self.task.matches, self.tensors, strict=True))
            if index not in self.odd
        ]

    def output_rows(self) -> tuple[TensorError, ...]:
        """Return one row an output."""
        makers = {name: node for node in self.task.exact.graph.node for name in node.output}
        empty = onnx.NodeProto()
        return tuple(
            TensorError(
                name=name,
                kind="output",
                node=makers.get(name, empty).name,
                op_type=makers.get(name, empty).op_type,
                dtype=self.dtypes[name],
                grid=None,
                **numbers(sums),
            )
            for name, sums in zip(self.task.outputs, self.outputs, strict=True)
        )

    def misfits(self) -> Iterator[Unmatched]:
        """Yield the tensors whose partner turned out to have another shape."""
        for index, reason in self.odd.items():
            rounded = self.task.matches[index].rounded
            yield Unmatched(name=rounded.after or rounded.integers, reason=reason)

    def _histograms(self) -> dict[str, Histogram]:
        found: dict[str, Histogram] = {}
        for worker in self.gathered:
            for name, gathered in worker.items():
                seen = gathered.result()
                assert isinstance(seen, Histogram)
                found[name] = found[name].merge(seen) if name in found else seen
        return found


def _votes(exact: Array, rounded: Array) -> npt.NDArray[np.bool_]:
    """Say for each row of class scores (..., classes) whether both networks prefer the same class."""
    if exact.ndim < 2 or exact.shape[-1] < 2:
        return np.zeros(0, bool)
    same: npt.NDArray[np.bool_] = exact.argmax(axis=-1) == rounded.argmax(axis=-1)
    return same
