"""Pictures of text: words of the Lee corpus of news, written in fonts that a plotting package carries."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .fetch import member
from .packages import GENSIM, MATPLOTLIB

Font: TypeAlias = ImageFont.FreeTypeFont

FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
)


@functools.cache
def documents() -> tuple[str, ...]:
    """Return the 300 news items of the Lee background corpus, one string each, in the corpus' order."""
    return tuple(member(GENSIM, "gensim/test/test_data/lee_background.cor").decode("utf-8").splitlines())


def phrases(first: int, last: int, count: int, longest: int, rng: np.random.Generator) -> list[str]:
    """Draw short pieces of text.

    Args:
        first: First document to draw from.
        last: One past the last document.
        count: How many pieces.
        longest: Most characters in a piece.
        rng: Source of chance.

    Returns:
        Pieces of whole words, at least 4 characters each.
    """
    pool = [re.findall(r"\S+", text) for text in documents()[first:last]]
    found: list[str] = []
    while len(found) < count:
        words = pool[int(rng.integers(len(pool)))]
        start = int(rng.integers(len(words)))
        piece = words[start]
        for word in words[start + 1 :]:
            if len(piece) + 1 + len(word) > longest:
                break
            piece = f"{piece} {word}"
        if 4 <= len(piece) <= longest and piece not in found:
            found.append(piece)
    return found


def font(name: str, size: int) -> Font:
    """Return one of `FONTS` at a size in pixels."""
    return ImageFont.truetype(io.BytesIO(_font_file(name)), size)


def any_font(size: int, rng: np.random.Generator) -> Font:
    """Return a font drawn at random from `FONTS`."""
    return font(FONTS[int(rng.integers(len(FONTS)))], size)


def extent(text: str, face: Font) -> tuple[int, int, int, int]:
    """Return the box `(left, top, right, bottom)` that ink covers when the text is written at `(0, 0)`."""
    left, top, right, bottom = face.getbbox(text)
    return int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom))


def contrasting(background: Image.Image, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw an ink colour that differs from the mean of a background by 80 or more of 255 in brightness."""
    mean = float(np.asarray(background.convert("L"), dtype=np.float32).mean())
    while True:
        colour = rng.integers(0, 256, 3)
        if abs(float(colour @ np.array([0.299, 0.587, 0.114])) - mean) >= 80:
            return int(colour[0]), int(colour[1]), int(colour[2])


def write(image: Image.Image, at: tuple[int, int], text: str, face: Font, ink: Sequence[int]) -> None:
    """Write text into a picture so that the ink's top left corner lies at `at`."""
    left, top, _, _ = extent(text, face)
    ImageDraw.Draw(image).text((at[0] - left, at[1] - top), text, font=face, fill=(ink[0], ink[1], ink[2]))


@functools.cache
def _font_file(name: str) -> bytes:
    return member(MATPLOTLIB, f"matplotlib/mpl-data/fonts/ttf/{name}")
