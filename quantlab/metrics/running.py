"""A task metric on its way through the data: made fresh for each model, fed batch by batch, asked at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np

from quantlab.errors import DataError, OptionError, nearest
from quantlab.metrics.measure import Array, Measure, Outputs, Seen, Sums, share, task_metrics

Compare: TypeAlias = Callable[[Outputs, Outputs], float]
MetricLike: TypeAlias = "str | Compare"


class TaskMetric:
    """The running total of a measure.

    What `labelled` measures judge is the second mapping, and they need no first one: to judge a model alone, hand its
    outputs over as both.

    Attributes:
        measure: What is measured.
    """

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self._total: Sums | None = None
        self._rows = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays in a batch that it needs; `batches(labels=...)` lets them through."""
        return self.measure.reads

    @property
    def labelled(self) -> bool:
        """Whether it judges one model by labels; if not, it compares it with the float model."""
        return self.measure.labelled

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger number is a better model."""
        return self.measure.higher_is_better

    def update(self, exact: Mapping[str, Array], rounded: Mapping[str, Array], batch: Mapping[str, Array]) -> None:
        """Take in one batch.

        Args:
            exact: Outputs of the float model by name.
            rounded: Outputs of the model that is judged, by the same names.
            batch: What both were fed, labels included.

        Raises:
            DataError: An output or the labels are missing, or have an impossible shape.
        """
        seen = Seen(exact=exact, rounded=rounded, batch=batch, first_row=self._rows)
        added = self.measure.sums(seen)
        if self._total is not None and self._total.shape != added.shape:
            raise DataError("the number of classes changes from batch to batch: there is no total over the data")
        self._total = added if self._total is None else self._total + added
        self._rows += seen.rows

    def result(self) -> float:
        """Return the measure over all that was taken in.

        Raises:
            DataError: There was nothing.
        """
        if self._total is None:
            raise DataError("no data: a task metric was asked for its result before it saw a batch")
        return self.measure.value(self._total)


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """What a function of the outputs of both models says, averaged over batches by their rows.

    Attributes:
        function: From the outputs of the float model and of the other one, by name, to a number.
    """

    function: Compare
    higher_is_better: ClassVar[bool] = True
    labelled: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def sums(self, seen: Seen) -> Sums:
        """Return the number times rows, and rows."""
        return np.array([float(self.function(seen.exact, seen.rounded)) * seen.rows, seen.rows], np.float64)

    def value(self, total: Sums) -> float:
        """Return the mean."""
        return share(total)


def task_metric(metric: MetricLike, **options: Any) -> TaskMetric:
    """Make a fresh task metric.

    Args:
        metric: A registered name, such as `"top1"`; a name with options as on the command line, such as
            `"top_k:k=5,labels=label"`; or a function `(exact, rounded) -> float` of the outputs by name, which is
            averaged over the batches by their rows.
        options: Of the measure; they win over those in the text.

    Returns:
        What takes in batches.

    Raises:
        OptionError: No metric or option has that name, or the option has an impossible value.

    Example:
        >>> metric = task_metric("top1")
        >>> x = {"y": np.array([[0.1, 0.9], [0.8, 0.2]])}
        >>> metric.update(x, {"y": np.array([[0.2, 0.7], [0.3, 0.4]])}, {})
        >>> metric.result()
        0.5
    """
    if not isinstance(metric, str):
        if not callable(metric):
            raise OptionError(f"a task metric is a name or a function (exact, rounded) -> float, got {metric!r}")
        if options:
            raise OptionError(
                f"a function takes no options, got {', '.join(options)}: bind them with functools.partial"
            )
        return TaskMetric(Averaged(function=metric))
    name, given = parse_metric(metric)
    kind = task_metrics[name]
    given |= options
    allowed = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # every measure is a dataclass
    for option in given:
        if option not in allowed:
            raise OptionError(
                f"task metric {name!r} has no option {option!r}{nearest(option, allowed)} "
                f"(allowed: {', '.join(allowed)})"
            )
    return TaskMetric(kind(**given))


def parse_metric(text: str) -> tuple[str, dict[str, Any]]:
    """Read a metric with its options as they are written on the command line.

    Args:
        text: `NAME` or `NAME:OPTION=VALUE,OPTION=VALUE`; whole numbers joined by `+` are a list.

    Returns:
        The name, and the options with numbers as numbers.

    Raises:
        OptionError: A part is no pair, or an option stands there twice.

    Example:
        >>> parse_metric("nme:norm=pupil,left=36+37+38,right=42")
        ('nme', {'norm': 'pupil', 'left': (36, 37, 38), 'right': 42})
    """
    name, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not (option and equals and value):
            raise OptionError(f"metric {text!r}: {part!r} is no option; write NAME:OPTION=VALUE, as in top_k:k=5")
        if option in options:
            raise OptionError(f"metric {text!r} gives the option {option!r} twice: keep one")
        options[option] = _value(value)
    return name.strip(), options


def _value(text: str) -> Any:
    pieces = text.split("+")
    if all(piece.isdecimal() for piece in pieces):
        return tuple(map(int, pieces)) if len(pieces) > 1 else int(text)
    try:
        return float(text)
    except ValueError:
        return text
