"""What all pictures share: few colours, each with one meaning, and names that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantlab.plots.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

USED, IDLE, ZERO, CLIPPED, CLIPPED_TEXT = "#1f5fa8", "#b9c3cf", "#c0392b", "#f3d9a4", "#6b5212"
"""What a grid serves; what it does not; zero; what saturates, and words about that."""

INK, FAINT = "#2f3943", "#e9edf2"
"""Words and outlines; backgrounds."""

SERIES = (USED, "#d08a2e", "#2e8b74", "#7a5ba6", "#8a5a44", "#5c6b7a")
"""Things side by side that mean nothing more than to be told apart, in this order."""

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 3)), (0, (3, 1, 1, 1, 1, 1)))
"""Line styles in the same order, for lines that lie on one another."""


def shortened(name: str, length: int = 28) -> str:
    """Return a name with its middle left out where it is too long: what differs stands at the ends.

    Args:
        name: Any text.
        length: Most characters, at least 3.

    Returns:
        The text, of at most so many characters.

    Example:
        >>> shortened("/model/encoder/layers.0/self_attn/MatMul_output_0", 20)
        '/model/en…l_output_0'
    """
    return _cut(name, length, (length - 1) // 2)


def all_shortened(names: Sequence[str], length: int) -> list[str]:
    """Return names with a part left out where they are too long: the part that leaves most of them different.

    Args:
        names: Any texts.
        length: Most characters, at least 3.

    Returns:
        One text a name.

    Example:
        >>> all_shortened(["/encoder/layers.1/MatMul_output_0", "/encoder/layers.2/MatMul_output_0"], 24)
        ['/encod…1/MatMul_output_0', '/encod…2/MatMul_output_0']
    """
    middle = (length - 1) // 2
    fronts = sorted(range(1, length - 1), key=lambda front: abs(front - middle))
    return max(([_cut(name, length, front) for name in names] for front in fronts), key=lambda cut: len(set(cut)))


def _cut(name: str, length: int, front: int) -> str:
    if len(name) <= length:
        return name
    return f"{name[:front]}…{name[len(name) - (length - 1 - front) :]}"


def axes_or_new(axes: Axes | None, inches: tuple[float, float]) -> Axes:
    """Return the axes, or those of a new figure of so many inches, without a frame above and to the right."""
    if axes is None:
        axes = new_figure(inches).add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return axes
