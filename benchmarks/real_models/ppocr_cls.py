"""The text direction classifier of PaddleOCR: is a line of text upright, or turned by 180 degrees?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from . import photos, text_lines
from .case import Array, Case, Sample, accuracy
from .fetch import member
from .packages import RAPIDOCR

_MEMBER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
_HEIGHT, _WIDTH = 48, 192
_CALIBRATION, _EVALUATION = 32, 200


def build() -> bytes:
    """Return the model as the package carries it."""
    return member(RAPIDOCR, _MEMBER)


def calibration() -> list[Sample]:
    """Give 32 lines out of the first half of the corpus, every other one turned."""
    return _lines(0, 150, _CALIBRATION, seed=1)


def evaluation() -> list[Sample]:
    """Give 200 lines out of the second half of the corpus, every other one turned."""
    return _lines(150, 300, _EVALUATION, seed=2)


def right(outputs: Sequence[Sequence[Array]]) -> float:
    """Share of lines whose direction is told right; class 0 is upright, 1 is turned."""
    return accuracy([int(output[0][0].argmax()) for output in outputs], [i % 2 for i in range(_EVALUATION)])


def _lines(first: int, last: int, count: int, seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    scenes = [photos.scene(name) for name in photos.SCENES]
    made: list[Sample] = []
    for index, text in enumerate(text_lines.phrases(first, last, count, longest=24, rng=rng)):
        line = _line(text, scenes[int(rng.integers(len(scenes)))], rng)
        made.append({"x": _prepared(line.rotate(180) if index % 2 else line)})
    return made


def _line(text: str, scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Write a line on a patch of a photo or on plain colour, then soften it and add noise, as a camera does."""
    face = text_lines.any_font(40, rng)
    left, top, right_, bottom = text_lines.extent(text, face)
    margin = rng.integers(2, 10, 4)
    width = right_ - left + int(margin[0] + margin[1])
    height = bottom - top + int(margin[2] + margin[3])
    if rng.random() < 0.5:
        line = Image.new("RGB", (width, height), tuple(int(c) for c in rng.integers(0, 256, 3)))
    else:
        x, y = (int(rng.integers(side // 2)) for side in scene.size)
        patch = scene.crop((x, y, x + scene.width // 3, y + scene.height // 8))
        line = patch.resize((width, height), Image.Resampling.BILINEAR)
    ink = text_lines.contrasting(line, rng)
    text_lines.write(line, (int(margin[0]), int(margin[2])), text, face, ink)
    line = line.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2))))
    noisy = np.asarray(line, dtype=np.float32) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def _prepared(line: Image.Image) -> Array:
    """Scale to 48 rows and at most 192 columns, map 0..255 to -1..1, fill up with 0; blue comes first."""
    width = min(_WIDTH, math.ceil(_HEIGHT * line.width / line.height))
    small = photos.pixels(line.resize((width, _HEIGHT), Image.Resampling.BILINEAR))[::-1]
    filled = np.zeros((1, 3, _HEIGHT, _WIDTH), np.float32)
    filled[0, :, :, :width] = (small / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return filled


CASE = Case(
    key="ppocr_cls",
    title="PaddleOCR text direction: upright, or turned by 180 degrees",
    licence=RAPIDOCR.licence,
    source=f"{RAPIDOCR.name}=={RAPIDOCR.version} {_MEMBER}",
    labels="known by construction: lines of the Lee corpus are rendered on photos and plain colours, half are turned",
    metric_name="accuracy",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=right,
)
