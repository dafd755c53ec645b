"""Two engines, one model: onnxruntime beside onnx's reference evaluator, and by how much their outputs differ.

An output on a grid is compared in steps of the grid: with integers both engines may differ by one step, where the
operators of one round once and those of the other more often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.backend import Backend, Batch, OrtBackend
from quantlab.backend.reference import ReferenceBackend
from quantlab.errors import DataError
from quantlab.graph import GraphView
from quantlab.graph.quantized import rounded_tensors
from quantlab.progress import Track, known_total, quiet

MOST_STEPS = 255
"""Differences of more steps than this are counted as this many: an 8-bit tensor has no larger ones."""


@dataclass(frozen=True, kw_only=True)
class OutputDifference:
    """How far one output differs between two engines.

    Attributes:
        name: Its name.
        dtype: Its type.
        largest: Largest absolute difference, in the output's unit.
        differing: Elements that differ.
        count: Elements that were compared.
        step: Size of one step of its grid: 1 for integers, the scale behind a DequantizeLinear; None off the grid.
        steps: Difference in steps (onnxruntime minus reference) to how many elements have it; empty off the grid.
    """

    name: str
    dtype: str
    largest: float
    differing: int
    count: int
    step: float | None
    steps: dict[int, int]


def compare_engines(
    model: onnx.ModelProto,
    batches: Iterable[Batch],
    *,
    engine: Backend | None = None,
    reference: Backend | None = None,
    track: Track = quiet,
) -> tuple[OutputDifference, ...]:
    """Run a model in two engines on the same data.

    Args:
        model: Any model that both engines know the operators of.
        batches: Input name to array, one mapping a sample.
        engine: Runs the model; onnxruntime on one thread by default.
        reference: Says what should come out; onnx's reference evaluator by default.
        track: Shows progress.

    Returns:
        One difference an output, in the model's order.

    Raises:
        ModelError: One of the engines cannot run the model; its own words follow.
        DataError: There is no data, or an output has another shape or type in one engine.
    """
    run = (engine or OrtBackend(threads=1)).open(model)
    expect = (reference or ReferenceBackend()).open(model)
    steps = _steps(model)
    sums: dict[str, _Running] = {}
    for batch in track(batches, "comparing engines", known_total(batches)):
        got, wanted = run(batch), expect(batch)
        for name, array in got.items():
            sums.setdefault(name, _Running(array.dtype, steps.get(name))).update(name, array, wanted[name])
    if not sums:
        raise DataError("no data: give at least one sample to run")
    return tuple(each.difference(name) for name, each in sums.items())


def _steps(model: onnx.ModelProto) -> dict[str, float]:
    """Return the step of each output that a DequantizeLinear with one scale makes."""
    found = rounded_tensors(GraphView.of(model))
    return {each.after: float(each.grid.scale) for each in found if each.after and np.ndim(each.grid.scale) == 0}


@dataclass
class _Running:
    dtype: np.dtype[Any]
    step: float | None
    largest: float = 0.0
    differing: int = 0
    count: int = 0
    steps: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.step = 1.0 if self.dtype.kind in "iu" else self.step

    def update(self, name: str, got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise DataError(
                f"output {name!r} is {got.dtype.name} {got.shape} in onnxruntime and {wanted.dtype.name} "
                f"{wanted.shape} in the reference: the engines disagree on more than numbers"
            )
        self.count += got.size
        if got.dtype.kind not in "iufV":  # booleans and strings are equal or not
            unequal = int((got != wanted).sum())
            self.differing, self.largest = self.differing + unequal, max(self.largest, float(unequal > 0))
            return
        with np.errstate(invalid="ignore"):
            gap = got.astype(np.float64) - wanted.astype(np.float64)
        gap[(got == wanted) | (_nan(got) & _nan(wanted))] = 0.0  # equal infinities have no difference
        gap[np.isnan(gap)] = np.inf  # a number on one side only
        self.differing += int((gap != 0).sum())
        self.largest = max(self.largest, float(np.abs(gap).max(initial=0.0)))
        if self.step:
            inside = np.clip(np.rint(gap / self.step), -MOST_STEPS, MOST_STEPS).astype(np.int64)
            self.steps.update(
                dict(zip(*(part.tolist() for part in np.unique(inside, return_counts=True)), strict=True))
            )

    def difference(self, name: str) -> OutputDifference:
        return OutputDifference(
            name=name,
            dtype=self.dtype.name,
            largest=self.largest,
            differing=self.differing,
            count=self.count,
            step=self.step,
            steps=dict(sorted(self.steps.items())),
        )


def _nan(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(array.astype(np.float64) != array.astype(np.float64))
