"""A picture of a tensor's values: how many there are of each size, and which of them a grid clips.

    clipped share below = count(x < span.lo) / count(x)           span: the real values from qmin to qmax

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QParams, Range
from quantlab.calibration import Histogram
from quantlab.errors import DataError, RangeError
from quantlab.plots.style import CLIPPED, CLIPPED_TEXT, INK, USED, ZERO, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 128
"""Most bars drawn; a histogram of more bins is made coarser, which splits no count."""

MARGIN = 0.04


def plot_histogram(
    data: Histogram | npt.NDArray[Any], *, grid: QParams | None = None, log: bool = False, axes: Axes | None = None
) -> Axes:
    """Draw how many values there are of each size.

    Of a grid, the dashed lines are the first and the last real value that it has; what lies beyond saturates, is
    shaded, and its share of all values stands there. Shares of a histogram are exact to within one of its bins, those
    of an array are exact. The red line is zero.

    Args:
        data: A histogram, or a float array of any shape.
        grid: A grid per tensor.
        log: Whether counts are on a logarithmic axis, which shows tails.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; `plot_histogram(...).figure` is the figure.

    Raises:
        DataError: There is no finite value, the array holds no floats, or the histogram counts absolute values and is
            to be drawn with a grid.
        RangeError: The grid is per channel.
        QuantlabError: matplotlib is not installed.

    Example:
        >>> axes = plot_histogram(np.linspace(-1, 3, 100))
        >>> axes.get_title()
        '100 values from -1 to 3'
    """
    seen = histogram_of(data)
    if grid is not None and (grid.scale.ndim or grid.spec.per_channel):
        raise RangeError(f"a histogram is drawn with one scale: got {grid.spec} and {grid.scale.size} scales")
    if grid is not None and seen.absolute:
        raise DataError(
            "a histogram of absolute values does not tell what lies below a grid and what above: "
            "collect one of signed values, or leave the grid out"
        )
    axes = axes_or_new(axes, (7.0, 3.0))
    draw_counts(axes, seen, USED, log=log)
    axes.set_title(f"{seen.count:,} values from {seen.lo:.4g} to {seen.hi:.4g}", fontsize=10)
    if grid is not None:
        span = grid.span()
        shares = _shares(data, seen, span)
        _draw_grid(axes, grid, span, shares)
    return axes


def histogram_of(data: Histogram | npt.NDArray[Any]) -> Histogram:
    """Return a histogram of what was given.

    Args:
        data: A histogram, or a float array.

    Returns:
        A histogram that has seen something.

    Raises:
        DataError: There is no finite value, or the array holds no floats.
    """
    seen = data if isinstance(data, Histogram) else Histogram().update(data)
    if not seen.count:
        raise DataError("there is no finite value to draw: give an array or a histogram that holds some")
    return seen


def draw_counts(axes: Axes, seen: Histogram, colour: str, *, log: bool) -> None:
    """Draw the bars, the axes' names and zero."""
    coarse = seen.coarsened(min(BARS, seen.max_bins))
    edges = coarse.edges()
    axes.stairs(coarse.counts, edges, baseline=0.5 if log else 0, fill=True, color=colour, label="_counts")
    lo, hi = float(edges[0]), float(edges[-1])
    room = MARGIN * (hi - lo)
    axes.set_xlim(lo - room, hi + room)
    axes.set_xlabel("absolute value" if seen.absolute else "value", fontsize=9)
    axes.set_ylabel("values per bar", fontsize=9)
    if log:
        axes.set_yscale("log")
        axes.set_ylim(0.5, float(coarse.counts.max()) * 2)
    else:
        axes.set_ylim(0, float(coarse.counts.max()) * 1.12)
    if lo - room <= 0 <= hi + room:
        axes.axvline(0, color=ZERO, linewidth=1.0, label="_zero")


def widen_to(axes: Axes, span: Range) -> None:
    """Make room for the ends of a grid."""
    left, right = axes.get_xlim()
    lo, hi = min(left, float(span.lo)), max(right, float(span.hi))
    room = MARGIN * (hi - lo)
    axes.set_xlim(lo if lo == left else lo - room, hi if hi == right else hi + room)


def _shares(data: Histogram | npt.NDArray[Any], seen: Histogram, span: Range) -> tuple[float, float]:
    """Return which share of the values lies below a span, and which above."""
    lo, hi = float(span.lo), float(span.hi)
    if not isinstance(data, Histogram):
        return float(np.count_nonzero(data < lo)) / seen.count, float(np.count_nonzero(data > hi)) / seen.count
    return _below(seen, lo), 1 - _below(seen, hi)


def _below(seen: Histogram, cut: float) -> float:
    """Return the share of values below a cut; within the bin that it cuts, values are taken as evenly spread."""
    if cut <= seen.lo:
        return 0.0
    if cut >= seen.hi:
        return 1.0
    edges = np.clip(seen.edges(), seen.lo, seen.hi)
    return float(np.interp(cut, edges, seen.cumulative())) / seen.count


def _draw_grid(axes: Axes, grid: QParams, span: Range, shares: tuple[float, float]) -> None:
    widen_to(axes, span)
    view = axes.get_xlim()
    for end, edge, share in zip((float(span.lo), float(span.hi)), view, shares, strict=True):
        axes.axvline(end, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), label="_grid")
        if share > 0:
            axes.axvspan(
                min(edge, end), max(edge, end), color=CLIPPED, alpha=0.6, linewidth=0, zorder=0, label="_clipped"
            )
            left = edge < end
            axes.annotate(
                f"{percent(share)} clipped",
                (edge, 1),
                (3 if left else -3, -3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="left" if left else "right",
                va="top",
                fontsize=8,
                color=CLIPPED_TEXT,
            )
    words = f"{grid.spec.dtype}: scale {float(grid.scale):.4g}, zero point {int(grid.zero_point)}"
    axes.set_title(f"{axes.get_title()}\n{words}", fontsize=10)


def percent(share: float) -> str:
    """Return a share in 0..1 as percent, with as many digits as make it differ from nothing."""
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g}%"
