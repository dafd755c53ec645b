"""What comparing and attributing find, as plain values: one row a tensor, one row a source of error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QParams
from quantlab.calibration import Histogram
from quantlab.debug.tables import Table

Floats = npt.NDArray[np.floating[Any]]

PICTURE_BINS = 64
"""Bins of a histogram in JSON: as many as a small picture shows."""


@dataclass(frozen=True, kw_only=True)
class Channels:
    """The channels of a constant with a scale, or without: how unlike each other they are.

    Attributes:
        axis: The axis of output channels.
        lo: Least value of each channel, shape (channels,).
        hi: Largest value of each channel, shape (channels,).
        sqnr_db: SQNR of each channel in dB, shape (channels,).
    """

    axis: int
    lo: Floats
    hi: Floats
    sqnr_db: Floats


@dataclass(frozen=True, kw_only=True)
class TensorError:
    """How far one tensor moved, and by what.

    The local error is that of the tensor's own grid, met with the float network's values. The accumulated error is that
    between the two networks, everything in front of the tensor included.

    Attributes:
        name: Name in the float model.
        kind: `"activation"`, `"weight"`, `"bias"` or `"output"`.
        node: Name of the node that makes the tensor, or reads it first if it is a constant or an input.
        op_type: Operator of that node; empty where there is none.
        dtype: Type of the stored values, or `"float32"` for an output that is not rounded.
        grid: Scale, zero point and axis; None for an output that is not rounded.
        lo: Least value in the float network, in the tensor's unit.
        hi: Largest value there.
        below: Share of values below the grid, in 0..1; those are clipped.
        above: Share of values above the grid, in 0..1.
        rounding: Share of the local noise power that comes from values inside the grid, in 0..1.
        clipping_below: Share of the local noise power that comes from values below the grid.
        clipping_above: Share of the local noise power that comes from values above it.
        local_db: Local signal-to-quantization-noise ratio in dB; higher is better, inf where nothing changed.
        sqnr_db: Accumulated signal-to-quantization-noise ratio in dB.
        cosine: Cosine between the float and the quantized network's values.
        mse: Mean squared accumulated error, in the square of the tensor's unit.
        max_error: Largest absolute accumulated error, in the tensor's unit.
        count: Values looked at.
        histogram: Values in the float network, where they were asked for.
        channels: The channels of a constant weight.
    """

    name: str
    kind: str
    node: str
    op_type: str
    dtype: str
    grid: QParams | None
    lo: float
    hi: float
    below: float
    above: float
    rounding: float
    clipping_below: float
    clipping_above: float
    local_db: float
    sqnr_db: float
    cosine: float
    mse: float
    max_error: float
    count: int
    histogram: Histogram | None = None
    channels: Channels | None = None

    @property
    def clipped(self) -> float:
        """Share of values outside the grid, in 0..1."""
        return self.below + self.above

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values; decibels that are not finite become None, grids become their ends."""
        plain = {key: value for key, value in vars(self).items() if key not in ("grid", "histogram", "channels")}
        row = {key: _plain(value) for key, value in plain.items()}
        row["grid"] = None if self.grid is None else _grid(self.grid)
        if self.histogram is not None and self.histogram.count:
            seen = self.histogram.coarsened(min(PICTURE_BINS, self.histogram.max_bins))
            row["histogram"] = {"counts": seen.counts.tolist(), "edges": seen.edges().tolist()}
        if self.channels is not None:
            lists = {key: [_plain(float(x)) for x in getattr(self.channels, key)] for key in ("lo", "hi", "sqnr_db")}
            row["channels"] = {"axis": self.channels.axis, **lists}
        return row


@dataclass(frozen=True, kw_only=True)
class Unmatched:
    """A rounded tensor without a partner in the float model.

    Attributes:
        name: Its name in the quantized model.
        reason: Why there is none, and what would help.
    """

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of `quantlab.compare`.

    Attributes:
        tensors: Rounded tensors, worst accumulated SQNR first.
        outputs: The models' outputs in their order.
        agreement: Share of rows on which the arg-max of the first output agrees, in 0..1; None where it has no classes.
        metrics: Other measures that were asked for, by name.
        samples: How many batches were run.
        unmatched: Rounded tensors that have no partner in the float model.
        attribution: What the outputs' error comes from, where it was asked for.
    """

    tensors: tuple[TensorError, ...]
    outputs: tuple[TensorError, ...]
    agreement: float | None
    metrics: dict[str, float]
    samples: int
    unmatched: tuple[Unmatched, ...]
    attribution: Attribution | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values; decibels that are not finite become None."""
        return {
            "tensors": [row.to_json() for row in self.tensors],
            "outputs": [row.to_json() for row in self.outputs],
            "agreement": self.agreement,
            "metrics": {name: _plain(value) for name, value in self.metrics.items()},
            "samples": self.samples,
            "unmatched": [{"name": row.name, "reason": row.reason} for row in self.unmatched],
            "attribution": None if self.attribution is None else self.attribution.to_json(),
        }

    def table(self) -> Table:
        """Return one row a tensor and output, in their order."""
        return Table(tuple(_COLUMNS), tuple(_cells(row) for row in (*self.tensors, *self.outputs)))

    def to_csv(self) -> str:
        """Return the rows as comma-separated values."""
        return self.table().to_csv()

    def to_markdown(self) -> str:
        """Return the rows as a Markdown table."""
        return self.table().to_markdown()

    def _repr_html_(self) -> str:
        """Return the rows as notebooks show them."""
        return self.table().to_html()


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of error, and what it does to the outputs.

    Shares are of the measured noise power at the outputs; they do not add up to one, because errors of different
    sources may reinforce or cancel each other.

    Attributes:
        tensor: The tensor it sits at, by its name in the float model.
        part: `"rounding"`, `"clipping below"`, `"clipping above"`, `"weight"` or `"bias"`.
        node: Name of the node that makes the tensor, or reads it if it is a constant.
        estimate: Estimate of its share, from a screening.
        alone: Its share where it is the only source that is turned on; None where that was not run.
        relieved: By what share the noise falls where it alone is turned off; None where that was not run. Negative
            where it cancels error of others.
        advice: One sentence: what it does, and what to try.
        nodes: Nodes that have to stay in float so that nobody rounds the tensor.
        left: Share of the simulated noise that is left when these nodes, and those of all larger sources, stay in
            float; None where that was not run.
    """

    tensor: str
    part: str
    node: str
    estimate: float
    alone: float | None
    relieved: float | None
    advice: str
    nodes: tuple[str, ...] = ()
    left: float | None = None


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """The error at the outputs, split among its sources.

        measured noise = sum of the sources alone + interaction + requantization

    Attributes:
        sqnr_db: Measured SQNR of the outputs, quantized against float network, in dB.
        simulated_db: SQNR with all sources turned on in float arithmetic.
        sources: Largest share first.
        alone: Sum of the shares of sources that were run alone.
        interaction: Share that comes from sources acting together, and from those that were not run.
        requantization: Share that the simulation lacks: the runtime's integer arithmetic between grids.
        samples: How many batches were run.
    """

    sqnr_db: float
    simulated_db: float
    sources: tuple[Source, ...]
    alone: float
    interaction: float
    requantization: float
    samples: int

    def to_json(self) -> dict[str, Any]:
        """Return the attribution as plain JSON values; decibels that are not finite become None."""
        plain = {key: _plain(value) for key, value in vars(self).items() if key != "sources"}
        return plain | {"sources": [{key: _plain(x) for key, x in vars(row).items()} for row in self.sources]}


_COLUMNS = {
    "tensor": "name",
    "kind": "kind",
    "node": "node",
    "operator": "op_type",
    "type": "dtype",
    "lo": "lo",
    "hi": "hi",
    "clipped": "clipped",
    "local SQNR dB": "local_db",
    "SQNR dB": "sqnr_db",
    "cosine": "cosine",
    "MSE": "mse",
    "largest error": "max_error",
}
"""Heading of a table to the field of a row."""


def _cells(row: TensorError) -> tuple[Any, ...]:
    return tuple(getattr(row, key) for key in _COLUMNS.values())


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _grid(grid: QParams) -> dict[str, Any]:
    scale, zero = np.asarray(grid.scale), np.asarray(grid.zero_point)
    return {
        "spec": str(grid.spec),
        "axis": grid.spec.axis,
        "scales": int(scale.size),
        "scale": [float(scale.min()), float(scale.max())],
        "zero_point": [int(zero.min()), int(zero.max())],
        "span": [float(np.min(grid.span().lo)), float(np.max(grid.span().hi))],
    }
