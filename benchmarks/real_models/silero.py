"""The voice detector of Silero: is somebody speaking? Twelve If, an LSTM in a branch, and a state from call to call.

Each sample holds the state that the float model had there, so that samples can be run in any order and an error of one
does not reach the next.
"""

from __future__ import annotations

import functools
import io
import wave
from collections.abc import Sequence

import numpy as np

from .case import Array, Case, Sample, accuracy
from .fetch import member
from .packages import CODEC2_EXAMPLES, SILERO

_MEMBER = "silero_vad/data/silero_vad_16k_op15.onnx"
_SOUNDS = "usr/share/codec2/wav"
_RATE, _CONTEXT, _CHUNK = 16_000, 64, 512
_CALIBRATED_ON = ("hts1a", "hts2a", "big_dog", "f2400", "mmt1", "morig", "forig")
_EVALUATED_ON = {"vk5qi": 2, "ve9qrp": 12, "vk2tpm_004": 12}
"""Recordings, and how many chunks apart those are that evaluate; in the last one nobody speaks."""

_EACH = 12
"""Chunks of a recording that calibrate, spread over it."""


@functools.cache
def build() -> bytes:
    """Return the model as the package carries it."""
    return member(SILERO, _MEMBER)


def calibration() -> list[Sample]:
    """Give 12 chunks of each of seven short recordings."""
    return [sample for name in _CALIBRATED_ON for sample in _spread(_samples(name)[0], _EACH)]


def evaluation() -> list[Sample]:
    """Give chunks of three other recordings."""
    return [sample for name, step in _EVALUATED_ON.items() for sample in _samples(name)[0][::step]]


def agreeing(outputs: Sequence[Sequence[Array]]) -> float:
    """Share of chunks in which the decision "somebody speaks", a probability above 0.5, is that of the float model."""
    true = [spoken for name, step in _EVALUATED_ON.items() for spoken in _samples(name)[1][::step]]
    return accuracy([int(output[0].ravel()[0] > 0.5) for output in outputs], true)


@functools.cache
def _samples(name: str) -> tuple[list[Sample], list[int]]:
    """Return what the float model is given for a recording, chunk by chunk, and what it decides."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    run = onnxruntime.InferenceSession(build(), options, providers=["CPUExecutionProvider"]).run
    sound = np.concatenate([np.zeros(_CONTEXT, np.float32), _sound(name)])
    state, rate = np.zeros((2, 1, 128), np.float32), np.array(_RATE, np.int64)
    samples, decided = [], []
    for start in range(0, sound.size - _CONTEXT - _CHUNK + 1, _CHUNK):
        sample = {"input": sound[None, start : start + _CONTEXT + _CHUNK], "state": state, "sr": rate}
        likely, state = run(None, sample)
        samples.append(sample)
        decided.append(int(likely.ravel()[0] > 0.5))
    return samples, decided


def _sound(name: str) -> Array:
    """Read a recording of 16 bits as float32 in -1..1; one of 8 kHz gets middle values, so that it has 16 kHz."""
    with wave.open(io.BytesIO(member(CODEC2_EXAMPLES, f"{_SOUNDS}/{name}.wav"))) as file:
        read, rate = np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()
    sound = read.astype(np.float32) / np.float32(32768)
    if rate == _RATE:
        return sound
    places = np.arange(sound.size * _RATE // rate) * (rate / _RATE)
    return np.interp(places, np.arange(sound.size), sound).astype(np.float32)


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    return [samples[int(index)] for index in np.linspace(0, len(samples) - 1, count)]


CASE = Case(
    key="silero",
    title="Silero voice detector: is somebody speaking",
    licence=SILERO.licence,
    source=f"{SILERO.name}=={SILERO.version} {_MEMBER}",
    labels="the decisions of the float model itself, on recordings of speech and noise",
    metric_name="decisions as in float",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=agreeing,
)
