"""The text reader of ddddocr, made for pictures of a few letters and digits: convolutions, an LSTM and CTC."""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence

import numpy as np

from .case import Array, Case, Sample
from .ctc import decoded, exact, written
from .fetch import member
from .packages import DDDDOCR

_MEMBER, _CHARACTERS = "ddddocr/common.onnx", "ddddocr/charsets.py"
_HEIGHT = 64
_CALIBRATION, _EVALUATION = 32, 150
_GLYPHS = "23456789ABCDEFGHJKLMNPRSTUVWXYZ"
"""Letters and digits that no font makes look like another."""


def build() -> bytes:
    """Return the model as the package carries it."""
    return member(DDDDOCR, _MEMBER)


def calibration() -> list[Sample]:
    """Give 32 pictures."""
    return [_sample(text, index, seed=1) for index, text in enumerate(_texts(_CALIBRATION, seed=1))]


def evaluation() -> list[Sample]:
    """Give 150 other pictures."""
    return [_sample(text, index, seed=2) for index, text in enumerate(_texts(_EVALUATION, seed=2))]


def read_right(outputs: Sequence[Sequence[Array]]) -> float:
    """Share of pictures that are read without a mistake; whether a letter is large does not count."""
    read = [decoded(_classes(output[0]), _characters()).upper() for output in outputs]
    return exact(read, _texts(_EVALUATION, seed=2))


def _classes(scores: Array) -> Array:
    """Take the likeliest class of each step out of scores of shape (steps, 1, classes)."""
    return scores[:, 0, :].argmax(-1)


@functools.cache
def _characters() -> tuple[str, ...]:
    """Return what each class stands for, read out of the package's source without running it."""
    tree = ast.parse(member(DDDDOCR, _CHARACTERS).decode())
    lists = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    return tuple(ast.literal_eval(lists["CHARSET_BETA"]))


def _texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    found: list[str] = []
    while len(found) < count:
        text = "".join(rng.choice(list(_GLYPHS), int(rng.integers(4, 7))))
        if text not in found:
            found.append(text)
    return found


def _sample(text: str, index: int, seed: int) -> Sample:
    line = written(text, _HEIGHT, np.random.default_rng((seed, index))).astype(np.float32)
    grey = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), line, axes=1) / np.float32(255)
    return {"input1": grey[None, None].astype(np.float32)}


CASE = Case(
    key="ddddocr_rec",
    title="ddddocr reader: the letters and digits on a picture",
    licence=DDDDOCR.licence,
    source=f"{DDDDOCR.name}=={DDDDOCR.version} {_MEMBER}",
    labels="known by construction: four to six capital letters and digits are written in ten fonts on plain colours",
    metric_name="pictures without a mistake",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=read_right,
)
