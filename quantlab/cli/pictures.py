"""The options that say how a folder of images becomes samples, and what they are turned into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantlab.cli.options import allowed_word
from quantlab.errors import OptionError

if TYPE_CHECKING:
    from quantlab.data import ImageOptions


def _option(metavar: str, what: str, default: str) -> Any:
    """Return an option whose default is shown in words: what is left out is read from the model, or does nothing."""
    return typer.Option(metavar=metavar, help=what, show_default=default, rich_help_panel="Folders of images")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What was given for folders of images; None is what was left out."""

    layout: Annotated[str | None, _option("NCHW|NHWC", "Order of the axes.", "the model's")] = None
    size: Annotated[str | None, _option("N|HxW", "Height and width in pixels, 224 or 224x320.", "the model's")] = None
    mean: Annotated[str | None, _option("M[,M,M]", "Subtracted after scaling; one number, or one a channel.", "0")] = (
        None
    )
    std: Annotated[str | None, _option("S[,S,S]", "Divides after that; one number, or one a channel.", "1")] = None
    scale: Annotated[str | None, _option("X", "Factor on the pixels 0..255.", "1/255")] = None
    channels: Annotated[str | None, _option("RGB|BGR|L", "Order of the channels; L is grey.", "RGB or L")] = None
    resize: Annotated[
        str | None, _option("stretch|crop", "Change the aspect ratio, or cut out the centre.", "stretch")
    ] = None
    crop_fraction: Annotated[
        float | None, _option("F", "For --resize crop: share of the sides to keep; 0.875 is the usual 256 to 224.", "1")
    ] = None

    def options(self) -> ImageOptions | None:
        """Build the image options, or None where none was given.

        Raises:
            OptionError: A value cannot be read or is not allowed.
        """
        from quantlab.data import ImageOptions

        given: dict[str, Any] = {
            "layout": allowed_word(self.layout, ("NCHW", "NHWC", "auto")),
            "size": None if self.size is None else _size(self.size),
            "mean": None if self.mean is None else _floats("--mean", self.mean),
            "std": None if self.std is None else _floats("--std", self.std),
            "scale": None if self.scale is None else _ratio("--scale", self.scale),
            "channels": allowed_word(self.channels, ("RGB", "BGR", "L", "auto")),
            "resize": allowed_word(self.resize, ("stretch", "crop")),
            "crop_fraction": self.crop_fraction,
        }
        if all(value is None for value in given.values()):
            return None
        return ImageOptions(**{name: value for name, value in given.items() if value is not None})


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise OptionError(f"--size {text!r} is no size: give 224, or height x width such as 224x320")
    height, width = (int(part) for part in (parts * 2)[:2])
    return height, width


def _floats(option: str, text: str) -> tuple[float, ...]:
    return tuple(_ratio(option, part) for part in text.split(","))


def _ratio(option: str, text: str) -> float:
    """Read a number, or a fraction such as 1/255."""
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or "1")
    except (ValueError, ZeroDivisionError):
        raise OptionError(
            f"{option} {text!r} is no number: give numbers such as 0.485, or fractions such as 1/255"
        ) from None
