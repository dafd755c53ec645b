"""A picture of a weight's channels: the range of each, and the grid that has to hold it.

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QParams
from quantlab.debug.findings import Channels
from quantlab.errors import DataError, RangeError
from quantlab.plots.style import CLIPPED, IDLE, INK, USED, ZERO, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_APART = 160
"""Of more channels, bars would be thinner than a pixel and their order noise: they are sorted and joined."""

MARGIN = 0.06

Ends = tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]


def plot_channels(
    weights: npt.NDArray[Any] | Channels,
    *,
    axis: int | None = None,
    grid: QParams | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the range of each channel as a bar from its least to its largest value.

    Of a grid, the dashed lines are the first and the last real value that it has, for all channels or for each. Bars
    much shorter than the distance of the lines use few of the grid's levels; what is amber is clipped. More than 160
    channels are sorted by their largest magnitude, and grids of their own lie behind them as a grey surface.

    Args:
        weights: Array of two dimensions or more, or the channels that `quantlab.compare` found.
        axis: Channel axis of the array; 0 by default. Channels know their own.
        grid: A grid per tensor, or per channel of this axis.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; `plot_channels(...).figure` is the figure.

    Raises:
        DataError: The array has no such axis, is empty, or holds a value that is not finite.
        RangeError: The grid is of blocks, of another axis, or has another number of channels.
        QuantlabError: matplotlib is not installed.

    Example:
        >>> axes = plot_channels(np.array([[-1.0, 2.0], [0.5, 0.25], [-3.0, 0.0]]), axis=0)
        >>> axes.get_title()
        '3 channels of axis 0: largest magnitudes from 0.5 to 3'
    """
    channel_axis, (lo, hi) = _ends(weights, axis)
    span = None if grid is None else _span(grid, channel_axis, weights, lo.size)
    size = np.maximum(np.abs(lo), np.abs(hi))
    apart = lo.size <= MOST_APART
    order = np.arange(lo.size) if apart else np.argsort(-size, kind="stable")
    axes = axes_or_new(axes, (7.0, 3.0))
    _draw_bars(axes, (lo[order], hi[order]), apart)
    axes.axhline(0, color=ZERO, linewidth=1.0, zorder=3, label="_zero")
    least, most = min(float(lo.min()), 0.0), max(float(hi.max()), 0.0)
    if span is not None:
        span = span[0][order], span[1][order]
        _draw_span(axes, (lo[order], hi[order]), span, apart)
        least, most = min(least, float(span[0].min())), max(most, float(span[1].max()))
    room = MARGIN * (most - least or 1.0)
    axes.set_ylim(least - room, most + room)
    axes.set_xlim(-0.8, lo.size - 0.2)
    axes.set_xlabel(f"channel of axis {channel_axis}{'' if apart else ', largest magnitude first'}", fontsize=9)
    axes.set_ylabel("value", fontsize=9)
    axes.locator_params(axis="x", integer=True)
    words = f"largest magnitudes from {size.min():.3g} to {size.max():.3g}"
    title = f"{lo.size:,} channel{'s' * (lo.size > 1)} of axis {channel_axis}: {words}"
    axes.set_title(title if grid is None else f"{title}\n{_grid_words(grid)}", fontsize=10)
    return axes


def _ends(weights: npt.NDArray[Any] | Channels, axis: int | None) -> tuple[int, Ends]:
    """Return the channel axis, counted from the front, and the ends of all channels."""
    if isinstance(weights, Channels):
        if axis is not None and axis != weights.axis:
            raise DataError(f"these are channels of axis {weights.axis}, got axis={axis}: leave it out")
        return weights.axis, (np.asarray(weights.lo, np.float64), np.asarray(weights.hi, np.float64))
    values, place = np.asarray(weights), 0 if axis is None else axis
    if not values.size:
        raise DataError(f"an array of shape {values.shape} holds no value: there is no channel to draw")
    if not -values.ndim <= place < values.ndim:
        raise DataError(f"an array of shape {values.shape} has no axis {place}: give one of 0..{values.ndim - 1}")
    place %= values.ndim
    rows = np.moveaxis(values, place, 0).reshape(values.shape[place], -1)
    lo, hi = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(lo) & np.isfinite(hi)))
    if bad.size:
        raise DataError(f"channel {bad[0]} of axis {place} holds values that are not finite: it has no range to draw")
    return place, (lo, hi)


def _span(grid: QParams, axis: int, weights: npt.NDArray[Any] | Channels, channels: int) -> Ends:
    """Return the ends of the grid of every channel."""
    if grid.spec.block_size is not None:
        raise RangeError(f"channels are drawn with a grid per tensor or per channel, got {grid.spec}")
    if grid.spec.axis is not None:
        rank = np.ndim(weights) if not isinstance(weights, Channels) else axis + 1
        own = grid.spec.axis % rank if grid.spec.axis < 0 else grid.spec.axis
        if own != axis or grid.scale.size != channels:
            raise RangeError(
                f"{channels} channels of axis {axis} do not fit a grid of {grid.scale.size} scales along axis {own}: "
                "draw the grid's own axis"
            )
    span = grid.span()
    return np.broadcast_to(span.lo, channels), np.broadcast_to(span.hi, channels)


def _edges(channels: int) -> npt.NDArray[np.floating[Any]]:
    return np.arange(channels + 1) - 0.5


def _draw_bars(axes: Axes, ends: Ends, apart: bool) -> None:
    lo, hi = ends
    if apart:
        axes.bar(np.arange(lo.size), hi - lo, bottom=lo, width=0.72, color=USED, zorder=2, label="_channels")
    else:
        axes.stairs(hi, _edges(lo.size), baseline=lo, fill=True, color=USED, zorder=2, label="_channels")


def _draw_span(axes: Axes, ends: Ends, span: Ends, apart: bool) -> None:
    """Draw the ends of the grids, and shade what lies beyond."""
    edges, level = _edges(span[0].size), all((end == end[0]).all() for end in span)
    if not apart and not level:  # as many steps as channels: a surface is easier to read than their outline
        axes.stairs(span[1], edges, baseline=span[0], fill=True, color=IDLE, zorder=1, label="_grid")
    for beyond, end in ((np.minimum(ends[0], span[0]), span[0]), (np.maximum(ends[1], span[1]), span[1])):
        if level:
            axes.axhline(end[0], color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=4, label="_grid")
        elif apart:
            style: dict[str, Any] = {"linewidth": 1.0, "linestyle": (0, (4, 2)), "zorder": 4}
            axes.stairs(end, edges, baseline=None, color=INK, label="_grid", **style)
        if (beyond != end).any():
            axes.stairs(beyond, edges, baseline=end, fill=True, color=CLIPPED, zorder=3, label="_clipped")


def _grid_words(grid: QParams) -> str:
    lo, hi = float(grid.scale.min()), float(grid.scale.max())
    if not grid.spec.per_channel:
        return f"{grid.spec.dtype}, one scale: {lo:.4g}"
    return f"{grid.spec.dtype}, a scale for each channel, from {lo:.3g} to {hi:.3g}"
