"""The result of an ablation: one row a trial, each with everything it depends on, and tables of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from quantlab.debug.tables import Table
from quantlab.errors import OptionError, nearest
from quantlab.experiments.environment import Environment
from quantlab.graph.files import atomic_write

MEGABYTE = 1e6
"""Bytes in a MB."""

FILES = ("results.md", "results.csv", "results.json")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one trial came to.

    Attributes:
        trial: Its name.
        key: Hash of all that its numbers depend on: options, model, data, metrics. Equal for equal trials.
        options: Its options as they were given.
        fuse: What was fused first.
        recipe: The recipe that the options came down to; None for a float model.
        calibration: What it was calibrated on; None for a float model.
        model: File of the model.
        size_bytes: Size of that file, external data included.
        nodes: Nodes in the model's main graph.
        left_float: Nodes of the prepared graph that were left in float, and why.
        notes: What planning had to say, such as a pattern that matches nothing.
        loss: The loss.
        metrics: Metric to value.
        sqnr_db: Output to its signal-to-quantization-noise ratio in dB; inf where nothing changed.
        environment: Where the model was made and its quality measured.
        seconds: Time in the model over the whole evaluation data, one entry a pass; empty where no times were taken.
        timed_on: Where the times were measured; None where there are none.
    """

    trial: str
    key: str
    options: Mapping[str, Any]
    fuse: Any
    recipe: Mapping[str, Any] | None
    calibration: Mapping[str, Any] | None
    model: str
    size_bytes: int
    nodes: int
    left_float: Mapping[str, str]
    notes: tuple[str, ...]
    loss: float
    metrics: Mapping[str, float]
    sqnr_db: Mapping[str, float]
    environment: Environment
    seconds: tuple[float, ...] = ()
    timed_on: Environment | None = field(default=None)

    @property
    def megabytes(self) -> float:
        """Size of the model in MB, a million bytes each."""
        return self.size_bytes / MEGABYTE

    @property
    def time(self) -> float | None:
        """Median of the passes, in seconds."""
        return median(self.seconds) if self.seconds else None

    @property
    def spread(self) -> float | None:
        """Longest less shortest pass, in seconds."""
        return max(self.seconds) - min(self.seconds) if self.seconds else None

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values; infinite decibels become the text `"inf"`."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        plain |= {"notes": list(self.notes), "seconds": list(self.seconds), "environment": self.environment.to_json()}
        plain["timed_on"] = None if self.timed_on is None else self.timed_on.to_json()
        return dict(_plain(plain))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Row:
        """Read what `to_json` wrote."""
        values = dict(plain)
        values |= {name: tuple(values[name]) for name in ("notes", "seconds")}
        values["environment"] = Environment.from_json(values["environment"])
        values["timed_on"] = None if values["timed_on"] is None else Environment.from_json(values["timed_on"])
        for name in ("metrics", "sqnr_db"):
            values[name] = {key: float(value) for key, value in values[name].items()}
        return cls(**values | {"loss": float(values["loss"])})


def _plain(value: Any) -> Any:
    """Return plain JSON values: numbers that JSON does not know become texts that `float` reads."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True)
class AblationResult:
    """The result of `ablate`.

    Attributes:
        rows: One a trial, in their order; the first is the float model as it was given.
        setup: What all rows share: model, calibration, evaluation, metrics, loss, and how often times were taken.
        calibration_passes: How often calibration data was run through a float model: less than once a trial, because
            trials share statistics. Rows that were read from a journal did not count.
        resumed: How many rows were read from a journal.
    """

    rows: tuple[Row, ...]
    setup: Mapping[str, Any]
    calibration_passes: int
    resumed: int

    @property
    def original(self) -> Row:
        """The row that the others are compared with."""
        return self.rows[0]

    def row(self, trial: str) -> Row:
        """Return the row of a trial.

        Raises:
            OptionError: There is none of that name; the text gives the nearest.
        """
        names = [one.trial for one in self.rows]
        if trial not in names:
            raise OptionError(f"no trial is called {trial!r}{nearest(trial, names)}")
        return self.rows[names.index(trial)]

    def speed_up(self, row: Row) -> float | None:
        """Return how many times faster than the original a row is: the median over passes, taken in turns."""
        pairs = list(zip(self.original.seconds, row.seconds, strict=False))
        return median(one / other for one, other in pairs) if pairs else None

    @property
    def table(self) -> Table:
        """One line a trial.

        Times smaller, speed-up and metric ratios are relative to the original: above 1 a model is smaller, faster, or
        has the larger metric.
        """
        metrics = list(self.original.metrics)
        columns = ["trial", "size MB", "times smaller", "time s", "spread s", "speed-up", "loss"]
        columns += [heading for name in metrics for heading in (name, f"{name} ratio")]
        columns += [f"SQNR dB of {name}" for name in self.original.sqnr_db]
        return Table(tuple(columns), tuple(self._line(row, metrics) for row in self.rows))

    def _line(self, row: Row, metrics: list[str]) -> tuple[Any, ...]:
        first = self.original
        line = [row.trial, row.megabytes, first.size_bytes / row.size_bytes]
        line += [row.time, row.spread, self.speed_up(row), row.loss]
        for name in metrics:
            line += [row.metrics[name], _ratio(row.metrics[name], first.metrics[name])]
        return (*line, *row.sqnr_db.values())

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values: the set-up, the table, and the rows with their environments."""
        return {
            "setup": dict(_plain(self.setup)),
            "calibration_passes": self.calibration_passes,
            "resumed": self.resumed,
            "table": self.table.to_json(),
            "rows": [row.to_json() for row in self.rows],
        }

    def to_csv(self) -> str:
        """Return the table as comma-separated values with all digits."""
        return self.table.to_csv()

    def to_markdown(self) -> str:
        """Return the table in Markdown, and below it where it was measured."""
        places = {str(place): None for row in self.rows for place in (row.timed_on or row.environment,)}
        return f"{self.table.to_markdown()}\nMeasured on {'; '.join(places)}.\n"

    def _repr_html_(self) -> str:
        return self.table.to_html()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `results.md`, `results.csv` and `results.json`.

        Args:
            folder: Where; made if it is missing.

        Raises:
            ModelError: The folder cannot be written to.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        texts = (self.to_markdown(), self.to_csv(), json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n")
        for name, text in zip(FILES, texts, strict=True):
            with atomic_write(Path(folder) / name) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _ratio(value: float, first: float) -> float | None:
    return value / first if first and math.isfinite(value) and math.isfinite(first) else None
