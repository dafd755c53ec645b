"""Gate runs: a gated model in many settings, sample by sample, and the noise powers at its outputs summed up.

Powers are relative to the signal of each output and averaged over the outputs, so that outputs of different units count
the same. A value that becomes NaN or infinite counts as 0. Only sums are kept: memory does not grow with the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from quantlab.backend import Array, Batch, Runner
from quantlab.debug.gates import Gated
from quantlab.debug.screening import random_pools, shares_of
from quantlab.errors import DataError, ModelError
from quantlab.progress import Track, known_total

Floats = npt.NDArray[np.float64]

SCREENED = 8
"""Batches that the screening looks at, each with pools of its own: together they tell sources apart."""

SEED = 0


@dataclass(frozen=True, kw_only=True)
class GateRuns:
    """A gated model, opened.

    Attributes:
        gated: The model and its gates.
        runner: Runs it.
        outputs: Names of its outputs.
    """

    gated: Gated
    runner: Runner
    outputs: tuple[str, ...]

    def exact(self, batch: Batch) -> list[Array]:
        """Run the model with all gates off and return its floating-point outputs.

        Raises:
            DataError: One of them is NaN or infinite.
            ModelError: There is none.
        """
        values = self.run(batch, self.gated.setting())
        if not values:
            listed = ", ".join(map(repr, self.outputs))
            raise ModelError(f"none of the outputs ({listed}) is floating-point: there is no error to attribute")
        if not all(np.isfinite(value).all() for value in values):
            listed = ", ".join(map(repr, self.outputs))
            raise DataError(f"an output ({listed}) of the float model is NaN or infinite: its error has no power")
        return values

    def run(self, batch: Batch, gates: npt.NDArray[np.float32]) -> list[Array]:
        """Run the model with a setting of its gates and return its floating-point outputs."""
        return self.floats(self.runner({**batch, self.gated.input: gates}))

    def floats(self, values: Mapping[str, Array]) -> list[Array]:
        """Return the floating-point ones of a run's outputs."""
        return [values[name] for name in self.outputs if np.issubdtype(values[name].dtype, np.floating)]

    def screened(self, batches: Iterable[Batch], runs: int, track: Track) -> Floats:
        """Estimate the relative power of every source, shape (sources,), on the first samples.

        Raises:
            DataError: There is no data.
        """
        rng, count = np.random.default_rng(SEED), len(self.gated.gates)
        pools, rows, signal = [], [], np.zeros(1)
        total = min(SCREENED, known_total(batches) or SCREENED)
        for batch in track(islice(batches, SCREENED), f"screening {count} sources of error", total):
            pools.append(random_pools(count, runs, rng))
            exact = self.exact(batch)
            rows += [_powers(self.run(batch, self.gated.setting(np.flatnonzero(pool))), exact) for pool in pools[-1]]
            signal = signal + np.array([_power(value) for value in exact])
        if not rows:
            raise DataError("there is no data to attribute error on: give at least one sample")
        # Each row is of one sample, and the signal that of all of them.
        return shares_of(np.concatenate(pools), _relative(np.array(rows), signal) * len(pools))

    def measured(
        self,
        batches: Iterable[Batch],
        switched: Sequence[Iterable[int]],
        track: Track,
        *,
        quantized: Runner | None = None,
    ) -> tuple[Floats, int]:
        """Measure relative noise powers.

        Args:
            batches: Input name to array, one mapping a sample.
            switched: For each setting, the places of the gates that are on.
            track: Shows progress.
            quantized: The quantized model, whose power comes first.

        Returns:
            One power a setting, and the number of batches.
        """
        settings = [self.gated.setting(sorted(on)) for on in switched]
        noise, signal, samples = np.zeros(()), np.zeros(1), 0
        what = f"measuring {len(settings)} settings of {len(self.gated.gates)} sources"
        for batch in track(batches, what, known_total(batches)):
            exact = self.exact(batch)
            rows = [] if quantized is None else [_powers(self.floats(quantized(batch)), exact)]
            rows += [_powers(self.run(batch, setting), exact) for setting in settings]
            noise = noise + np.array(rows)
            signal, samples = signal + np.array([_power(value) for value in exact]), samples + 1
        return _relative(noise, signal), samples


def _powers(values: Sequence[Array], exact: Sequence[Array]) -> list[float]:
    return [_power(_difference(value, reference)) for value, reference in zip(values, exact, strict=True)]


def _difference(value: Array, reference: Array) -> Floats:
    if value.shape != reference.shape:
        raise ModelError(
            f"an output has shape {value.shape} after quantization and {reference.shape} before: error can be "
            "attributed only where shapes do not depend on values"
        )
    wide = np.ravel(value).astype(np.float64)
    wide[~np.isfinite(wide)] = 0.0  # nothing is left of such a value: its noise is its signal
    return wide - np.ravel(reference).astype(np.float64)


def _power(values: Array) -> float:
    flat = np.ravel(values).astype(np.float64)
    return float(flat @ flat)


def _relative(noise: Floats, signal: Floats) -> Floats:
    """Return noise over signal, averaged over the outputs that have a signal; `noise` has shape (..., outputs)."""
    known = signal > 0
    found: Floats = (noise[..., known] / signal[known]).sum(axis=-1) / max(int(known.sum()), 1)
    return found
