"""A picture of which tensors quantization moved most: one bar a tensor, worst on top.

    SQNR = 10 log10(sum x^2 / sum (x - y)^2) dB           higher is less error

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quantlab.debug.findings import Comparison
from quantlab.errors import DataError, OptionError
from quantlab.plots.style import FAINT, IDLE, INK, SERIES, USED, all_shortened, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = {"weight": USED, "bias": "#8fb3dc", "activation": SERIES[1], "output": INK}
"""Kind of a tensor to its colour."""

WORST = 40


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One tensor: its name, its kind (empty if unknown), its decibels, and those of its own grid alone."""

    name: str
    kind: str
    decibels: float
    local: float | None


def plot_sqnr(found: Comparison | Mapping[str, float], *, worst: int = WORST, axes: Axes | None = None) -> Axes:
    """Draw the tensors that moved most, one bar each, least SQNR on top.

    Of a comparison, a bar is as long as the accumulated SQNR, in the colour of the tensor's kind, and the white mark
    with a dark edge stands at the local SQNR, which counts the tensor's own grid alone: far right of the bar's end, the
    error comes from tensors in front. A bar that reaches the right edge with the sign ∞ has no error.

    Args:
        found: What `quantlab.compare` returned, or name to SQNR in dB.
        worst: Most bars drawn, at least 1.
        axes: Where to draw; a new figure by default, as tall as the bars need.

    Returns:
        The axes; `plot_sqnr(...).figure` is the figure.

    Raises:
        DataError: There is nothing to draw.
        OptionError: `worst` is below 1.
        QuantlabError: matplotlib is not installed.

    Example:
        >>> axes = plot_sqnr({"conv": 31.5, "gemm": 24.0, "pool": float("inf")}, worst=2)
        >>> [label.get_text() for label in axes.get_yticklabels()], axes.get_title()
        (['gemm', 'conv'], 'the worst 2 of 3 tensors')
    """
    if worst < 1:
        raise OptionError(f"worst must be at least 1, got {worst}")
    rows = sorted(_bars(found), key=lambda bar: bar.decibels)
    if not rows:
        raise DataError("there is no tensor to draw: the comparison or mapping is empty")
    shown = rows[:worst]
    axes = axes_or_new(axes, (7.0, 1.4 + 0.2 * len(shown)))
    limits = _limits(shown)
    _draw(axes, shown, limits)
    _legend(axes, shown)
    axes.set_yticks(range(len(shown)), all_shortened([bar.name for bar in shown], 36), fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(*limits)
    axes.xaxis.grid(True, color=FAINT, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("SQNR in dB: higher is less error, 6 dB more is half of it", fontsize=9)
    count = f"the worst {len(shown)} of {len(rows)}" if len(shown) < len(rows) else f"all {len(rows)}"
    axes.set_title(f"{count} tensor{'s' * (len(rows) > 1)}", fontsize=10, pad=24 if axes.get_legend() else 6)
    return axes


def _bars(found: Comparison | Mapping[str, float]) -> Iterable[Bar]:
    if isinstance(found, Mapping):
        rows = [Bar(name=name, kind="", decibels=float(value), local=None) for name, value in found.items()]
    else:
        errors = (*found.tensors, *found.outputs)
        rows = [Bar(name=row.name, kind=row.kind, decibels=row.sqnr_db, local=row.local_db) for row in errors]
    return [row for row in rows if not math.isnan(row.decibels)]


def _limits(shown: list[Bar]) -> tuple[float, float]:
    """Return the ends of the axis: zero, and what every finite number fits into."""
    values = [value for bar in shown for value in (bar.decibels, bar.local) if value is not None]
    finite = [value for value in values if math.isfinite(value)]
    least, most = min(finite, default=0.0), max(finite, default=0.0)
    return (0.0 if least >= 0 else least * 1.08), (most * 1.08 if most > 0 else 1.0)


def _draw(axes: Axes, shown: list[Bar], limits: tuple[float, float]) -> None:
    lengths = [min(max(bar.decibels, limits[0]), limits[1]) for bar in shown]
    colours = [KINDS.get(bar.kind, IDLE if bar.kind else USED) for bar in shown]
    axes.barh(range(len(shown)), lengths, height=0.72, color=colours, zorder=2)
    for place, bar in enumerate(shown):
        if bar.decibels == math.inf:
            axes.text(limits[1], place, " ∞", ha="left", va="center", fontsize=8, color=INK)
    marks = [
        (bar.local, place) for place, bar in enumerate(shown) if bar.local is not None and math.isfinite(bar.local)
    ]
    if marks:
        style: dict[str, Any] = {"marker": "D", "s": 16, "facecolor": "white", "edgecolor": INK, "linewidth": 0.9}
        axes.scatter(*zip(*marks, strict=True), zorder=3, label="_local", **style)


def _legend(axes: Axes, shown: list[Bar]) -> None:
    """Name the kinds that are there, and the marks."""
    for kind in dict.fromkeys([*KINDS, *sorted({bar.kind for bar in shown})]):
        if kind and any(bar.kind == kind for bar in shown):
            axes.barh([0], [0], color=KINDS.get(kind, IDLE), label=kind)
    if any(bar.local is not None for bar in shown):
        axes.scatter([], [], marker="D", s=16, facecolor="white", edgecolor=INK, linewidth=0.9, label="own grid alone")
    if axes.get_legend_handles_labels()[1]:
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.2}
        axes.legend(ncols=5, fontsize=8, frameon=False, **place)
