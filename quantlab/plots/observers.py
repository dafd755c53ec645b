"""A picture of what range rules choose: one tensor's values, and the ends of the grid that each rule comes to.

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import UINT8, QParams, QuantSpec, Range, qparams_from_range
from quantlab.calibration import RangeRule, TwoPassRule, calibrator
from quantlab.errors import OptionError
from quantlab.plots.histogram import draw_counts, histogram_of, widen_to
from quantlab.plots.style import DASHES, IDLE, SERIES, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RULES = ("minmax", "percentile", "entropy", "mse")
DEFAULT_SPEC = QuantSpec(dtype=UINT8)


def plot_observers(
    x: npt.NDArray[Any],
    rules: Sequence[str | RangeRule] = RULES,
    *,
    spec: QuantSpec = DEFAULT_SPEC,
    log: bool = True,
    axes: Axes | None = None,
) -> Axes:
    """Draw how many values there are of each size, and for each range rule the ends of the grid it leads to.

    Args:
        x: Float array of any shape.
        rules: Registered names, or rules that are ready; at most six can be told apart.
        spec: A grid per tensor.
        log: Whether counts are on a logarithmic axis; rules differ in the tails.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; `plot_observers(...).figure` is the figure.

    Raises:
        OptionError: There is no rule, there are more than six, one is unknown, or the grid is not per tensor.
        DataError: There is no finite value, or the array holds no floats.
        QuantlabError: matplotlib is not installed.

    Example:
        >>> axes = plot_observers(np.linspace(-1, 3, 100), ["minmax"])
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['minmax: scale 0.01569, zero point 64']
    """
    if not 1 <= len(rules) <= len(SERIES):
        raise OptionError(f"rules must be 1 to {len(SERIES)} range rules, got {len(rules)}")
    if spec.axis is not None:
        raise OptionError(f"observers are drawn for one scale, got {spec}; drop the axis")
    seen = histogram_of(x)
    grids = [_grid(x, calibrator(rule), spec) for rule in rules]
    axes = axes_or_new(axes, (7.0, 3.4))
    draw_counts(axes, seen, IDLE, log=log)
    for grid in grids:
        widen_to(axes, grid.span())
    for rule, grid, colour, dash in zip(rules, grids, SERIES, DASHES, strict=False):
        words = f"{_name(rule)}: scale {float(grid.scale):.4g}, zero point {int(grid.zero_point)}"
        for end, label in ((grid.span().lo, words), (grid.span().hi, "_upper end")):
            axes.axvline(float(end), color=colour, linestyle=dash, linewidth=1.4, label=label)
    axes.set_title(f"{seen.count:,} values, and the ends of the grids: {spec}", fontsize=10)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8, frameon=False)
    return axes


def _grid(x: npt.NDArray[Any], rule: RangeRule, spec: QuantSpec) -> QParams:
    """Return the grid that a rule leads to."""
    start = rule.second(rule.first().update(x)) if isinstance(rule, TwoPassRule) else rule.empty()
    values = rule.range(start.update(x), spec)
    return qparams_from_range(Range(values.lo.astype(np.float32), values.hi.astype(np.float32)), spec)


def _name(rule: str | RangeRule) -> str:
    return rule if isinstance(rule, str) else repr(rule)
