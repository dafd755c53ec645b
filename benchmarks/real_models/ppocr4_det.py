"""The text detector of PaddleOCR (DBNet): a map of where text lies, shown lines of text written on photos."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from . import photos, text_lines
from .case import Array, Case, Sample
from .fetch import member
from .packages import RAPIDOCR

_MEMBER = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"
_SIZE = 480
_THRESHOLD = 0.3  # what the package itself uses
_SHRINK = 0.4
_CALIBRATION, _EVALUATION = 16, 48
_CALIBRATION_SCENES = ("camera.png", "chelsea.png", "brick.png", "motorcycle_left.png")
_EVALUATION_SCENES = ("astronaut.png", "coffee.png", "rocket.jpg", "grass.png", "gravel.png")


def build() -> bytes:
    """Return the model as the package carries it."""
    return member(RAPIDOCR, _MEMBER)


def calibration() -> list[Sample]:
    """Give 16 photos with lines out of the first half of the corpus."""
    return [sample for sample, _ in _calibration_pictures()]


def evaluation() -> list[Sample]:
    """Give 48 other photos with lines out of the second half of the corpus."""
    return [sample for sample, _ in _evaluation_pictures()]


def mask_iou(outputs: Sequence[Sequence[Array]]) -> float:
    """Intersection over union of the found and the true text area, over all pictures together."""
    shared = union = 0
    for output, (_, truth) in zip(outputs, _evaluation_pictures(), strict=True):
        found = output[0][0, 0] > _THRESHOLD
        shared += int((found & truth).sum())
        union += int((found | truth).sum())
    return shared / max(1, union)


@functools.cache
def _calibration_pictures() -> tuple[tuple[Sample, Array], ...]:
    return _pictures(_CALIBRATION_SCENES, (0, 150), _CALIBRATION, seed=1)


@functools.cache
def _evaluation_pictures() -> tuple[tuple[Sample, Array], ...]:
    return _pictures(_EVALUATION_SCENES, (150, 300), _EVALUATION, seed=2)


def _pictures(
    scenes: Sequence[str], documents: tuple[int, int], count: int, seed: int
) -> tuple[tuple[Sample, Array], ...]:
    rng = np.random.default_rng(seed)
    backgrounds = [photos.scene(name) for name in scenes]
    made: list[tuple[Sample, Array]] = []
    for index in range(count):
        scene = photos.centre_crop(backgrounds[index % len(backgrounds)], _SIZE, float(rng.uniform(0.5, 1.0)))
        texts = text_lines.phrases(*documents, int(rng.integers(3, 7)), longest=22, rng=rng)
        image, truth = _written(scene, texts, rng)
        normal = (photos.pixels(image)[::-1] / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        made.append(({"x": normal[None].copy()}, truth))  # the package feeds blue first
    return tuple(made)


def _written(image: Image.Image, texts: Sequence[str], rng: np.random.Generator) -> tuple[Image.Image, Array]:
    """Write one line a row; return the picture and the true mask, the core of every line, `(480, 480)` bool."""
    truth = np.zeros((_SIZE, _SIZE), dtype=bool)
    row = _SIZE // len(texts)
    for index, text in enumerate(texts):
        face = text_lines.any_font(int(rng.integers(18, min(44, row - 16))), rng)
        left, top, right, bottom = text_lines.extent(text, face)
        width, height = right - left, bottom - top
        x = int(rng.integers(4, max(5, _SIZE - width - 4)))
        y = index * row + int(rng.integers(4, max(5, row - height - 4)))
        ink = text_lines.contrasting(image.crop((x, y, x + width, y + height)), rng)
        text_lines.write(image, (x, y), text, face, ink)
        truth[_core(x, y - top, min(width, _SIZE - x), sum(face.getmetrics()))] = True
    return image, truth


def _core(x: int, y: int, width: int, height: int) -> tuple[slice, slice]:
    """Return the rows and columns of a line's core.

    DBNet is trained to mark the outline of a line moved inwards by `area * (1 - r^2) / perimeter` with `r = 0.4` (Liao
    et al., "Real-time Scene Text Detection with Differentiable Binarization", 2020, eq. 10). The outline here is the
    line as high as its font, because people draw boxes wider than the ink.
    """
    inset = width * height * (1 - _SHRINK**2) / (2 * (width + height))
    low_y, high_y = (min(_SIZE, max(0, round(edge))) for edge in (y + inset, y + height - inset))
    low_x, high_x = round(x + inset), round(x + width - inset)
    return slice(low_y, high_y), slice(low_x, high_x)


CASE = Case(
    key="ppocr4_det",
    title="PaddleOCR v4 text detector: where text lies on a photo",
    licence=RAPIDOCR.licence,
    source=f"{RAPIDOCR.name}=={RAPIDOCR.version} {_MEMBER}",
    labels="known by construction: lines of the Lee corpus are written on photos; truth is the core of a line's box",
    metric_name="mask IoU",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=mask_iou,
)
