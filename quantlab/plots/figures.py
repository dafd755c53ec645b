"""Figures: made without a window, and written so that the same figure always gives the same bytes.

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.errors import OptionError, QuantlabError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; the same figure always gives the same bytes.

    Args:
        figure: What `mapping_figure` returned.
        path: A file whose name ends in `.svg` or `.png`.

    Raises:
        OptionError: The name has another ending.
        QuantlabError: matplotlib is not installed.
    """
    check_picture(path)
    ending = Path(path).suffix
    metadata: dict[str, Any] = {"Date": None} if ending == ".svg" else {"Software": None}
    # Text stays text, and identifiers in the file are made from a fixed word instead of at random.
    with _matplotlib("").rc_context({"svg.hashsalt": "quantlab", "svg.fonttype": "none"}):
        figure.savefig(path, metadata=metadata, dpi=120, facecolor="white")


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse the name of a picture that would not be written.

    Args:
        path: The file that is wanted.

    Raises:
        OptionError: It ends in neither `.svg` nor `.png`.
    """
    if Path(path).suffix not in FORMATS:
        raise OptionError(f"picture {str(path)!r} must be named *{' or *'.join(FORMATS)}")


def _matplotlib(module: str) -> Any:
    try:
        return importlib.import_module(f"matplotlib{module}")
    except ImportError as error:
        raise QuantlabError("drawing needs matplotlib: pip install 'quantlab-onnx[plots]'") from error


def new_figure(inches: tuple[float, float]) -> Figure:
    """Make a figure of so many inches, width first; `figure.add_subplot()` gives its axes."""
    # Made without pyplot, which would choose a window system and keep the figure alive.
    figure: Figure = _matplotlib(".figure").Figure(figsize=inches, layout="tight")
    return figure
