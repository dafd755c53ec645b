"""What the two readers of text share: lines written on plain colours, and the decoding of what was read.

Decoding is that of connectionist temporal classification (Graves et al., 2006): equal neighbours are one character, and
class 0 is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from . import text_lines
from .case import Array, accuracy


def decoded(classes: Iterable[int], characters: Sequence[str]) -> str:
    """Return the text that a row of classes stands for.

    Args:
        classes: One class a time step.
        characters: What each class stands for; class 0 is none.

    Returns:
        The text.

    Example:
        >>> decoded([0, 1, 1, 0, 1, 2], ["", "a", "b"])
        'aab'
    """
    text, last = [], 0
    for number in map(int, classes):
        if number not in (0, last):
            text.append(characters[number])
        last = number
    return "".join(text)


def exact(read: Sequence[str], true: Sequence[str]) -> float:
    """Share of texts that are read without a mistake; spaces do not count."""
    same = [int(a.replace(" ", "") == b.replace(" ", "")) for a, b in zip(read, true, strict=True)]
    return accuracy(same, [1] * len(same))


def written(text: str, height: int, rng: np.random.Generator, *, widest: int | None = None) -> Array:
    """Write a line in a font and colours drawn at random, a little blurred and noisy.

    Args:
        text: What to write.
        height: Rows of the picture.
        rng: Source of chance.
        widest: Most columns; a longer line is squeezed.

    Returns:
        uint8 array of shape (3, height, columns), red first.
    """
    face = text_lines.any_font(40, rng)
    left, top, right, bottom = text_lines.extent(text, face)
    margin = rng.integers(3, 9, 4)
    size = right - left + int(margin[0] + margin[1]), bottom - top + int(margin[2] + margin[3])
    line = Image.new("RGB", size, tuple(int(c) for c in rng.integers(0, 256, 3)))
    ink = text_lines.contrasting(line, rng)
    text_lines.write(line, (int(margin[0]), int(margin[2])), text, face, ink)
    line = line.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.8))))
    columns = max(1, round(line.width * height / line.height))
    line = line.resize((min(columns, widest or columns), height), Image.Resampling.BILINEAR)
    noisy = np.asarray(line, np.float32) + rng.normal(0, 5, (height, line.width, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8).transpose(2, 0, 1)
