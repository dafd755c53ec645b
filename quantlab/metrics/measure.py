"""A measure is additive: each batch gives some sums, and a number is made of their total.

So the result is the same however the data is cut into batches, and memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from quantlab.errors import DataError, nearest
from quantlab.registry import Registry

Array: TypeAlias = npt.NDArray[Any]
Outputs: TypeAlias = Mapping[str, Array]
Sums: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One batch, and what became of it.

    Attributes:
        exact: Outputs of the float model by name, in its order.
        rounded: Outputs of the model that is judged.
        batch: What both were fed, labels included.
        first_row: Rows that went before this batch.
    """

    exact: Outputs
    rounded: Outputs
    batch: Mapping[str, Array]
    first_row: int = 0

    @property
    def rows(self) -> int:
        """Rows of the batch: the size of axis 0 of the first output; 1 for a scalar."""
        first = next(iter(self.rounded.values()), np.zeros(()))
        return len(first) if np.ndim(first) else 1

    def pair(self, output: str | None) -> tuple[Array, Array]:
        """Return one output of the float model and of the other one; the first where none is named.

        Raises:
            DataError: No output has that name, or the two have different shapes.
        """
        exact, rounded = chosen(self.exact, output), chosen(self.rounded, output)
        if exact.shape != rounded.shape:
            raise DataError(
                f"output {_named(self.exact, output)!r} has shape {exact.shape} in one model and {rounded.shape} in "
                "the other: compare models of one task"
            )
        return exact, rounded


class Measure(Protocol):
    """What is measured, with its options; a frozen value."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger number is a better model."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays in a batch that it needs, such as labels."""

    @property
    def labelled(self) -> bool:
        """Whether it judges one model by labels; if not, it compares it with the float model."""

    def sums(self, seen: Seen) -> Sums:
        """Return what one batch adds, always of the same shape."""

    def value(self, total: Sums) -> float:
        """Return the measure, from the total of all batches."""


task_metrics = Registry[type[Measure]]("task metric", "quantlab.metrics.measures")
"""Every measure by name."""


def chosen(outputs: Outputs, output: str | None) -> Array:
    """Return the output of that name, or the first.

    Raises:
        DataError: There is none; the text gives the nearest name.
    """
    name = _named(outputs, output)
    if name not in outputs:
        allowed = ", ".join(map(repr, outputs)) or "none"
        raise DataError(f"{name!r} is not an output of the model{nearest(name, outputs)} (allowed: {allowed})")
    return np.asarray(outputs[name])


def _named(outputs: Outputs, output: str | None) -> str:
    return output if output is not None else next(iter(outputs), "")


def share(total: Sums) -> float:
    """Return the first sum by the second, such as hits by rows; NaN where there was nothing to count."""
    return float(total[0] / total[1]) if total[1] else float("nan")
