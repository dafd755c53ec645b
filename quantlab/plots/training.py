"""A picture of a training: a panel for each measure, a curve for each series.

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from quantlab.errors import DataError, OptionError
from quantlab.plots.figures import new_figure
from quantlab.plots.style import DASHES, FAINT, SERIES, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

History = Mapping[str, Mapping[str, Sequence[float]]]
"""Series, such as `"test after"`, to measure, such as `"loss"`, to one number an epoch."""


def plot_training(history: History, *, axes: Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """Draw measures over epochs, one panel each, side by side.

    A series of a single number, such as the accuracy before quantization, is a level line.

    Args:
        history: Series to measure to one number an epoch, the first epoch being 1. NaN interrupts a curve.
        axes: Where to draw, one for each measure; a new figure by default.

    Returns:
        The axes, one for each measure in the order in which they first appear.

    Raises:
        DataError: There is no number, or a measure of a series is empty.
        OptionError: The number of axes is not that of the measures, or there are more than six series.
        QuantlabError: matplotlib is not installed.

    Example:
        >>> history = {"train": {"loss": [0.9, 0.4], "accuracy": [0.7, 0.9]}, "test, float": {"accuracy": [0.93]}}
        >>> [panel.get_title() for panel in plot_training(history)]
        ['loss', 'accuracy']
    """
    measures = list(dict.fromkeys(measure for series in history.values() for measure in series))
    _check(history, measures)
    if axes is None:
        figure = new_figure((4.2 * len(measures), 3.0))
        axes = [figure.add_subplot(1, len(measures), place + 1) for place in range(len(measures))]
    if len(axes) != len(measures):
        raise OptionError(f"{len(measures)} measures ({', '.join(measures)}) need as many axes, got {len(axes)}")
    for panel, measure in zip(axes, measures, strict=True):
        _draw(axes_or_new(panel, (0, 0)), history, measure)
    return tuple(axes)


def _check(history: History, measures: Sequence[str]) -> None:
    if not measures:
        raise DataError("the history is empty: give series to measure to numbers, such as {'train': {'loss': [0.9]}}")
    if len(history) > len(SERIES):
        raise OptionError(f"{len(history)} series cannot be told apart in one picture: give at most {len(SERIES)}")
    for name, series in history.items():
        for measure, values in series.items():
            if not len(values):
                raise DataError(f"series {name!r} has no number for {measure!r}: give one an epoch, or leave it out")


def _draw(panel: Axes, history: History, measure: str) -> None:
    for (name, series), colour, dash in zip(history.items(), SERIES, DASHES, strict=False):
        values = series.get(measure, ())
        if len(values) == 1:
            panel.axhline(values[0], color=colour, linestyle=dash, linewidth=1.4, label=name)
        elif len(values):
            epochs = range(1, len(values) + 1)
            marker = "o" if len(values) <= 30 else ""
            panel.plot(epochs, values, color=colour, linestyle=dash, linewidth=1.4, marker=marker, ms=3, label=name)
    panel.set_title(measure, fontsize=10)
    panel.set_xlabel("epoch", fontsize=9)
    panel.locator_params(axis="x", integer=True)
    panel.grid(True, color=FAINT)
    panel.set_axisbelow(True)
    panel.legend(fontsize=8, framealpha=0.95, edgecolor=FAINT)
