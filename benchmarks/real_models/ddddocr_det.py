"""The character detector of ddddocr (YOLOX-like, one class), shown characters scattered over photos."""

from __future__ import annotations

import functools
import string
from collections.abc import Sequence

import numpy as np
from PIL import Image

from . import boxes, photos, text_lines
from .boxes import Boxes
from .case import Array, Case, Sample
from .fetch import member
from .packages import DDDDOCR

_MEMBER = "ddddocr/common_det.onnx"
_SIZE = 416
_STRIDES = (8, 16, 32)
_LEAST_SCORE, _MOST_OVERLAP = 0.1, 0.45  # what the package itself uses
_CALIBRATION, _EVALUATION = 16, 64

# No scene is shared: the detector sees new backgrounds and new characters in the evaluation.
_CALIBRATION_SCENES = ("camera.png", "chelsea.png", "brick.png", "motorcycle_left.png")
_EVALUATION_SCENES = ("astronaut.png", "coffee.png", "rocket.jpg", "grass.png", "gravel.png")


def build() -> bytes:
    """Return the model as the package carries it."""
    return member(DDDDOCR, _MEMBER)


def calibration() -> list[Sample]:
    """Give 16 pictures of characters on photos."""
    return [sample for sample, _ in _pictures(_CALIBRATION_SCENES, _CALIBRATION, seed=1)]


def evaluation() -> list[Sample]:
    """Give 64 pictures of characters on other photos."""
    return [sample for sample, _ in _pictures(_EVALUATION_SCENES, _EVALUATION, seed=2)]


def box_f1(outputs: Sequence[Sequence[Array]]) -> float:
    """F1 of the found boxes against the true ones, at an overlap of 0.5."""
    true = [truth for _, truth in _pictures(_EVALUATION_SCENES, _EVALUATION, seed=2)]
    return boxes.f1([decode(output[0][0]) for output in outputs], true)


def decode(prediction: Array) -> Boxes:
    """Turn raw predictions into boxes.

    Args:
        prediction: `(3549, 6)`: centre relative to its cell in cells, logarithm of the size in cells, probability of
            an object, probability of the class; the cells of strides 8, 16 and 32 follow one another, row by row.

    Returns:
        `(N, 4)` boxes in pixels of the 416x416 input, best first.
    """
    cells, strides = _cells()
    centre = (prediction[:, :2].astype(np.float64) + cells) * strides
    size = np.exp(prediction[:, 2:4].astype(np.float64)) * strides
    scores = prediction[:, 4].astype(np.float64) * prediction[:, 5]
    kept = np.flatnonzero(scores > _LEAST_SCORE)
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)[kept]
    found: Boxes = np.clip(corners, 0, _SIZE)[boxes.suppress(corners, scores[kept], _MOST_OVERLAP)]
    return found


def _cells() -> tuple[Boxes, Boxes]:
    cells, strides = [], []
    for stride in _STRIDES:
        side = _SIZE // stride
        rows, columns = np.divmod(np.arange(side * side), side)
        cells.append(np.stack([columns, rows], axis=1))
        strides.append(np.full((side * side, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64)


@functools.cache
def _pictures(scenes: tuple[str, ...], count: int, seed: int) -> tuple[tuple[Sample, Boxes], ...]:
    rng = np.random.default_rng(seed)
    backgrounds = [photos.scene(name) for name in scenes]
    made: list[tuple[Sample, Boxes]] = []
    for index in range(count):
        scene = backgrounds[index % len(backgrounds)]
        share = float(rng.uniform(0.5, 1.0))
        image, truth = _scatter(photos.centre_crop(scene, _SIZE, share), rng)
        made.append(({"images": photos.pixels(image)[::-1][None].copy()}, truth))  # the package feeds blue first
    return tuple(made)


def _scatter(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, Boxes]:
    """Write 3 to 6 characters into a 3x3 pattern of places, each turned a little; return where their ink lies."""
    truth: list[tuple[int, int, int, int]] = []
    for place in rng.permutation(9)[: int(rng.integers(3, 7))]:
        character = string.ascii_uppercase[int(rng.integers(26))]
        face = text_lines.any_font(int(rng.integers(40, 68)), rng)  # the size captchas have
        glyph = _glyph(character, face, float(rng.uniform(-30, 30)))
        row, column = divmod(int(place), 3)
        cell = _SIZE // 3
        x = column * cell + int(rng.integers(0, max(1, cell - glyph.width)))
        y = row * cell + int(rng.integers(0, max(1, cell - glyph.height)))
        patch = image.crop((x, y, x + glyph.width, y + glyph.height))
        image.paste(text_lines.contrasting(patch, rng), (x, y), glyph)
        truth.append((x, y, min(_SIZE, x + glyph.width), min(_SIZE, y + glyph.height)))
    return image, np.array(truth, dtype=np.float64)


def _glyph(character: str, face: text_lines.Font, angle: float) -> Image.Image:
    """Draw one character as an opacity mask, turned, cut to its ink."""
    left, top, right, bottom = text_lines.extent(character, face)
    canvas = Image.new("RGB", (right - left + 4, bottom - top + 4), "black")
    text_lines.write(canvas, (2, 2), character, face, (255, 255, 255))
    turned = canvas.convert("L").rotate(angle, Image.Resampling.BICUBIC, expand=True)
    ink = turned.point(lambda value: 255 if value > 64 else 0).getbbox()
    return turned.crop(ink) if ink else turned


CASE = Case(
    key="ddddocr_det",
    title="ddddocr character detector: boxes around characters on photos",
    licence=DDDDOCR.licence,
    source=f"{DDDDOCR.name}=={DDDDOCR.version} {_MEMBER}",
    labels="known by construction: turned capital letters are pasted on photos of scikit-image; a box is their ink",
    metric_name="box F1 at IoU 0.5",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=box_f1,
)
