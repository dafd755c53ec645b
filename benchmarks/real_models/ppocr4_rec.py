"""The text recognizer of PaddleOCR v4: what does a line of text say?"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx

from . import text_lines
from .case import Case, Sample
from .ctc import decoded, exact, written
from .fetch import member
from .packages import RAPIDOCR

_MEMBER = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
_HEIGHT, _WIDTH = 48, 320
_CALIBRATION, _EVALUATION = 32, 120


@functools.cache
def build() -> bytes:
    """Return the model as the package carries it."""
    return member(RAPIDOCR, _MEMBER)


def calibration() -> list[Sample]:
    """Give 32 lines out of the first half of the corpus."""
    return [_sample(text, index, seed=1) for index, text in enumerate(_texts(0, 150, _CALIBRATION, seed=1))]


def evaluation() -> list[Sample]:
    """Give 120 lines out of the second half of the corpus."""
    return [_sample(text, index, seed=2) for index, text in enumerate(_truth())]


def read_right(outputs: Sequence[Sequence[np.ndarray]]) -> float:
    """Share of lines that are read without a mistake; spaces do not count."""
    read = [decoded(output[0][0].argmax(-1), _characters()) for output in outputs]
    return exact(read, _truth())


@functools.cache
def _characters() -> tuple[str, ...]:
    """Return what each class stands for: nothing, the characters that the model itself lists, a space."""
    properties = {entry.key: entry.value for entry in onnx.load_from_string(build()).metadata_props}
    return ("", *properties["character"].split("\n"), " ")


def _truth() -> list[str]:
    return _texts(150, 300, _EVALUATION, seed=2)


def _texts(first: int, last: int, count: int, seed: int) -> list[str]:
    return text_lines.phrases(first, last, count, longest=28, rng=np.random.default_rng(seed))


def _sample(text: str, index: int, seed: int) -> Sample:
    """Scale a line to 48 rows, map 0..255 to -1..1 and fill up with 0 to 320 columns."""
    line = written(text, _HEIGHT, np.random.default_rng((seed, index)), widest=_WIDTH)
    pixels = (line.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    filled = np.zeros((1, 3, _HEIGHT, _WIDTH), np.float32)
    filled[0, :, :, : pixels.shape[2]] = pixels
    return {"x": filled}


CASE = Case(
    key="ppocr4_rec",
    title="PaddleOCR v4 text recognizer: what a line of text says",
    licence=RAPIDOCR.licence,
    source=f"{RAPIDOCR.name}=={RAPIDOCR.version} {_MEMBER}",
    labels="known by construction: lines of the Lee corpus are written in ten fonts on plain colours",
    metric_name="lines without a mistake",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=read_right,
)
