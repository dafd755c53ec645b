"""A picture of predicted points over an image: where each model puts them, and how far they moved.

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantlab.errors import DataError, OptionError
from quantlab.plots.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = ("o", "x", "+", "s", "^", "v")
COLOURS = ("#ffffff", "#ff5346", "#3fa9f5", "#ffc83d", "#5fd38a", "#c9a0ff")
"""Brighter than elsewhere, as they lie on pictures; white, with a dark edge, is what the others are compared with."""


def plot_landmarks(image: npt.NDArray[Any], points: Mapping[str, npt.ArrayLike], *, axes: Axes | None = None) -> Axes:
    """Draw an image and the points that several models found in it.

    The first label is what the others are measured against: a thin line joins each of its points with theirs, and the
    legend says how far they lie apart on average.

    Args:
        image: Array of shape (H, W), (H, W, C) or (C, H, W) with C = 1 or 3; bytes, or floats, whose least and largest
            are drawn black and white where they lie outside 0..1.
        points: Label to points of shape (K, 2), x before y, in pixels from the middle of the upper left pixel.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; `plot_landmarks(...).figure` is the figure.

    Raises:
        DataError: The image or the points have another shape, or labels have different numbers of points.
        OptionError: There is no label, or there are more than six.
        QuantlabError: matplotlib is not installed.

    Example:
        >>> found = {"float": [[2.0, 3.0], [5.0, 3.0]], "int8": [[2.0, 4.0], [5.0, 3.0]]}
        >>> axes = plot_landmarks(np.zeros((8, 8)), found)
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['float', 'int8: 0.50 pixels away on average']
    """
    if not 1 <= len(points) <= len(MARKERS):
        raise OptionError(f"points must be those of 1 to {len(MARKERS)} labels, got {len(points)}")
    pixels, places = _pixels(image), _places(points)
    if axes is None:
        height, width = pixels.shape[:2]
        axes = new_figure((5.0, max(2.0, min(10.0, 5.0 * height / width)) + 0.6)).add_subplot()
    axes.imshow(pixels, cmap="gray", interpolation="nearest")
    axes.set_autoscale_on(False)
    first = next(iter(places.values()))
    for number, (label, found) in enumerate(places.items()):
        _draw(axes, label, found, first if number else None, number)
    axes.axis("off")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), fontsize=8, frameon=False, labelcolor="black")
    return axes


def _draw(axes: Axes, label: str, found: npt.NDArray[Any], first: npt.NDArray[Any] | None, number: int) -> None:
    colour, words = COLOURS[number], label
    if first is not None:
        words = f"{label}: {np.linalg.norm(found - first, axis=1).mean():.2f} pixels away on average"
        for start, end in zip(first, found, strict=True):
            axes.plot([start[0], end[0]], [start[1], end[1]], color=colour, linewidth=0.8, label="_moved")
    filled = number == 0 or MARKERS[number] not in "x+"
    style: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.8} if filled else {"linewidths": 1.4}
    axes.scatter(found[:, 0], found[:, 1], s=26, marker=MARKERS[number], color=colour, zorder=3, label=words, **style)


def _pixels(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return pixels of shape (H, W) or (H, W, 3): bytes, or floats in 0..1."""
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[-1] not in (1, 3) and pixels.shape[0] in (1, 3):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim not in (2, 3) or not pixels.size or (pixels.ndim == 3 and pixels.shape[-1] not in (1, 3)):
        raise DataError(f"an image of shape {np.shape(image)} cannot be drawn: give (H, W), (H, W, 3) or (3, H, W)")
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    if pixels.dtype == np.uint8:
        return pixels
    pixels = pixels.astype(np.float64)
    lo, hi = min(float(pixels.min()), 0.0), max(float(pixels.max()), 1.0)
    return (pixels - lo) / (hi - lo)


def _places(points: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[np.float64]]:
    places = {label: np.asarray(found, np.float64) for label, found in points.items()}
    count = len(next(iter(places.values())))
    for label, found in places.items():
        if found.ndim != 2 or found.shape[1] != 2 or len(found) != count:
            raise DataError(
                f"points of {label!r} have shape {found.shape}: give ({count}, 2), x before y, as for the others"
            )
    return places
