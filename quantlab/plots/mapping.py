"""A picture of a mapping: the real axis, the integer axis below it, and which real value each integer stands for.

    real value of level q = scale * (q - zero_point)          from qmin to qmax of the type

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QParams, QuantSpec, Range, qparams_from_range
from quantlab.errors import OptionError, RangeError
from quantlab.plots.figures import new_figure
from quantlab.plots.style import CLIPPED, CLIPPED_TEXT, IDLE, USED, ZERO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REAL, INTEGER = 1.0, 0.0
MOST_LINES = 16
MARGIN = 0.12


def plot_mapping(values: Range, spec: QuantSpec, *, axes: Axes | None = None) -> Axes:
    """Draw how a grid spans a range.

    The upper axis holds real values, the lower one integers. Blue lines join levels that lie in the range with their
    real values, grey ones are levels that the range never uses, the red line is zero. Shaded real values lie outside
    the grid and saturate. Of more than 17 levels some are drawn: both ends, zero, and every n-th from zero.

    Args:
        values: A range of shape ().
        spec: A grid per tensor.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; `plot_mapping(...).figure` is the figure.

    Raises:
        RangeError: The range or the grid is per channel.
        QuantlabError: matplotlib is not installed.

    Example:
        >>> from quantlab.arrays import INT4
        >>> axes = plot_mapping(Range(-1.0, 3.0), QuantSpec(dtype=INT4))
        >>> axes.get_title()
        'int4, asymmetric, per tensor: scale 0.266667, zero point -4'
    """
    if spec.per_channel or values.lo.ndim:
        raise RangeError(f"a mapping is drawn for one scale: got {spec} and a range of shape {values.lo.shape}")
    grid = qparams_from_range(values, spec)
    if axes is None:
        axes = new_figure((8.0, 2.4)).add_subplot()
    span = grid.span()
    lo, hi = min(float(span.lo), float(values.lo)), max(float(span.hi), float(values.hi))
    view = lo - MARGIN * (hi - lo), hi + MARGIN * (hi - lo)
    _draw_axes(axes, values, grid, view)
    _draw_levels(axes, values, grid, view)
    _draw_clipped(axes, span, grid, view)
    axes.set_title(f"{spec}: scale {float(grid.scale):.6g}, zero point {int(grid.zero_point)}", fontsize=10)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.42, 1.42)
    axes.axis("off")
    return axes


def mapping_figure(values: Range, specs: Sequence[QuantSpec]) -> Figure:
    """Draw the same range on several grids, one below the other.

    Args:
        values: A range of shape ().
        specs: At least one grid per tensor.

    Returns:
        A figure that is ready for `save_figure`.

    Raises:
        OptionError: There is no grid.
        RangeError: The range or a grid is per channel.
        QuantlabError: matplotlib is not installed.
    """
    if not specs:
        raise OptionError("specs is empty: give at least one grid to draw")
    figure = new_figure((8.0, 2.4 * len(specs)))
    for index, spec in enumerate(specs):
        plot_mapping(values, spec, axes=figure.add_subplot(len(specs), 1, index + 1))
    return figure


def _share(real: npt.ArrayLike, view: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Place real values on the picture, 0..1 from left to right."""
    return (np.asarray(real, np.float64) - view[0]) / (view[1] - view[0])


def _place(level: npt.ArrayLike, grid: QParams) -> npt.NDArray[np.float64]:
    """Place levels on the picture; the type's own limits take the whole width but for the margin."""
    limits = grid.spec.dtype
    share = (np.asarray(level, np.float64) - limits.qmin) / (limits.qmax - limits.qmin)
    return np.asarray(MARGIN + (1 - 2 * MARGIN) * share)


def _real(level: npt.ArrayLike, grid: QParams) -> npt.NDArray[np.float64]:
    return np.asarray((np.asarray(level, np.float64) - float(grid.zero_point)) * float(grid.scale))


def drawn_levels(grid: QParams) -> list[int]:
    """Return the levels that a picture of a grid shows: all of a few, else both ends, zero and every n-th from zero.

    Args:
        grid: A grid per tensor.

    Returns:
        Levels in ascending order.
    """
    limits, zero = grid.spec.dtype, int(grid.zero_point)
    step = -(-(limits.qmax - limits.qmin) // MOST_LINES)
    regular = range(limits.qmin + (zero - limits.qmin) % step, limits.qmax + 1, step)
    return sorted({limits.qmin, limits.qmax, *regular})


def _draw_axes(axes: Axes, values: Range, grid: QParams, view: tuple[float, float]) -> None:
    limits, zero = grid.spec.dtype, int(grid.zero_point)
    lo, hi = float(values.lo), float(values.hi)
    axes.plot([0, 1], [REAL, REAL], color="black", linewidth=0.8)
    axes.plot(_share([lo, hi], view), [REAL, REAL], color=USED, linewidth=4, solid_capstyle="butt")
    axes.plot(_place([limits.qmin, limits.qmax], grid), [INTEGER, INTEGER], color="black", linewidth=0.8)
    # Where the range ends at zero, the end's label says so and zero's own is left out.
    named = {lo: f"lo = {lo:g}", hi: f"hi = {hi:g}"} | ({} if 0.0 in (lo, hi) else {0.0: "0"})
    for real, text in named.items():
        axes.text(float(_share(real, view)), REAL + 0.12, text, ha="center", va="bottom", fontsize=9)
    for level in dict.fromkeys([limits.qmin, zero, limits.qmax]):
        colour = ZERO if level == zero else "black"
        axes.text(
            float(_place(level, grid)), INTEGER - 0.12, f"{level}", ha="center", va="top", fontsize=9, color=colour
        )
    axes.text(1.0, REAL + 0.12, "real", ha="right", va="bottom", fontsize=8, style="italic")
    axes.text(1.0, INTEGER, limits.name, ha="right", va="center", fontsize=8, style="italic")


def _draw_levels(axes: Axes, values: Range, grid: QParams, view: tuple[float, float]) -> None:
    half = float(grid.scale) / 2
    for level in drawn_levels(grid):
        real, is_zero = float(_real(level, grid)), level == int(grid.zero_point)
        inside = min(float(values.lo), 0.0) - half <= real <= max(float(values.hi), 0.0) + half
        colour = ZERO if is_zero else USED if inside else IDLE
        ends = [float(_share(real, view)), float(_place(level, grid))]
        axes.plot(ends, [REAL, INTEGER], color=colour, linewidth=1.8 if is_zero else 0.9, zorder=3 if is_zero else 2)
        axes.plot(ends[1], INTEGER, marker="o", markersize=3, color=colour, zorder=4)


def _draw_clipped(axes: Axes, span: Range, grid: QParams, view: tuple[float, float]) -> None:
    """Shade the real values beyond the grid: all of them become its first or last level."""
    limits = grid.spec.dtype
    for real, edge, level in ((float(span.lo), 0.0, limits.qmin), (float(span.hi), 1.0, limits.qmax)):
        corners = [edge, float(_share(real, view)), float(_place(level, grid))]
        axes.fill(corners, [REAL, REAL, INTEGER], color=CLIPPED, linewidth=0, zorder=1)
        middle = (corners[0] + corners[1]) / 2
        axes.text(middle, REAL - 0.06, f"→ {level}", ha="center", va="top", fontsize=8, color=CLIPPED_TEXT)
