"""The models that are put through both tools, and the samples they get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.real_models import KEYS, Sample, case
from benchmarks.real_models.bare import BARE

CASE_SAMPLES, BARE_SAMPLES = 8, 4
"""How many calibration samples a case gives, and how many random ones a model without data gets."""

FLOAT = (*(key for key in KEYS if key != "silero"), *(entry.key for entry in BARE if not entry.quantized))
"""Models that come through; silero's is among those whose states are fed back, as silero_vad_16k_op15."""

QUANTIZED = tuple(entry.key for entry in BARE if entry.quantized)
"""Models that are quantized already, and have to be refused."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model and its samples come from.

    Attributes:
        build: Makes the float model.
        draw: Makes its samples.
        state: Outputs that are fed back, each with the input that it becomes with the next sample.
    """

    build: Callable[[], bytes]
    draw: Callable[[], list[Sample]]
    state: Mapping[str, str] = field(default_factory=dict)

    def steps(self) -> list[Sample]:
        """Return the samples as steps of one sequence: only the first brings a state."""
        first, *others = self.draw()
        fed = set(self.state.values())
        return [first, *({name: value for name, value in sample.items() if name not in fed} for sample in others)]


def source(key: str) -> Source:
    """Return the source of a model that is known by its key."""
    bare = {entry.key: entry for entry in BARE}
    if key in bare:
        entry = bare[key]
        return Source(build=entry.build, draw=lambda: entry.samples(BARE_SAMPLES), state=dict(entry.state))
    known = case(key)
    return Source(build=known.build, draw=lambda: known.calibration()[:CASE_SAMPLES])
