"""An ablation at work: its model read, its trials told apart, and what is known of them from before."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from quantlab import __version__
from quantlab.backend import signature
from quantlab.data import Batches, Signature
from quantlab.errors import OptionError
from quantlab.experiments.journal import Journal
from quantlab.experiments.results import Row
from quantlab.experiments.sampling import Sampling
from quantlab.experiments.trial_run import plain
from quantlab.experiments.trials import Trial
from quantlab.graph.files import load, save
from quantlab.workflow.checkpoint import model_hash
from quantlab.workflow.engine import Engine

if TYPE_CHECKING:
    from quantlab.experiments.ablation import Ablation

ORIGINAL = "original"
"""Name of the first row, the float model as it was given."""

JOURNAL, MODELS = "journal.jsonl", "models"


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """An ablation with its model read and its trials told apart.

    Attributes:
        ablation: What is to be tried.
        room: Folder for models and journal.
        engine: How calibration is carried out.
    """

    ablation: Ablation
    room: Path
    engine: Engine
    _hashes: dict[int, str] = field(default_factory=dict)

    @property
    def journal(self) -> Journal:
        """What is finished."""
        return Journal(path=self.room / JOURNAL)

    @cached_property
    def reference(self) -> Path:
        """File of the float model; one that was given in memory is written beside the others."""
        given = self.ablation.model
        if isinstance(given, str | os.PathLike):
            return Path(given).absolute()
        path = self.room / MODELS / f"{ORIGINAL}.onnx"
        save(load(given), path)
        return path

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The float model."""
        return load(self.reference)

    @cached_property
    def signature(self) -> Signature:
        """What the model wants to be fed."""
        return signature(self.model)

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """The trials, the float model as it is before them."""
        return (Trial(name=ORIGINAL, quantize=False), *self.ablation.trials)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """What each trial's result depends on, as a hash: equal for trials that differ in their names alone."""
        one = self.ablation
        shared = {
            "quantlab": __version__,
            "model": model_hash(self.model),
            "evaluation": one.evaluation.identity(self.signature, labels=one.labels),
            "metrics": [metric if isinstance(metric, str) else named(metric) for metric in (one.loss, *one.metrics)],
            "backend": repr(one.backend),
            "engine": [repr(self.engine.backend), dict(self.engine.state)],
        }
        return tuple(self._key(trial, shared) for trial in self.trials)

    def _key(self, trial: Trial, shared: Mapping[str, Any]) -> str:
        recipe = None if trial.recipe is None else plain(trial.recipe.to_json())
        data = None if recipe is None else self.data_of(trial)
        return digest(shared, trial.fuse, recipe, data)

    def sampling(self, trial: Trial) -> Sampling:
        """Return a trial's calibration data."""
        return trial.calibration or self.ablation.calibration

    def samples(self, trial: Trial) -> Batches:
        """Open a trial's calibration data."""
        sampling = self.sampling(trial)
        labels = sampling.having(self.ablation.labels, self.signature)
        return sampling.open(self.signature, labels=labels, like=self.ablation.evaluation)

    def data_of(self, trial: Trial) -> str:
        """Return the hash of a trial's calibration data; data that several share is looked at once."""
        sampling = self.sampling(trial)
        if id(sampling) not in self._hashes:
            labels = sampling.having(self.ablation.labels, self.signature)
            found = sampling.identity(self.signature, labels=labels, like=self.ablation.evaluation)
            self._hashes[id(sampling)] = found
        return self._hashes[id(sampling)]

    def evaluation(self) -> Batches:
        """Open the evaluation data."""
        return self.ablation.evaluation.open(self.signature, labels=self.ablation.labels)

    @cached_property
    def evaluated_samples(self) -> int:
        """How many samples the evaluation data has: batches times the size of a batch, for progress."""
        return (self.evaluation().count or 1) * (self.ablation.evaluation.batch or self.signature.batch_size or 1)

    def file(self, trial: Trial, key: str) -> Path | None:
        """Return the file for a trial's model; None for the original, which is there already."""
        if trial.name == ORIGINAL:
            return None
        slug = re.sub(r"[^\w.-]+", "-", trial.name).strip("-.")[:60] or "trial"
        return self.room / MODELS / f"{slug}-{key[:8]}.onnx"

    def finished(self) -> dict[str, Row]:
        """Return the rows of the journal by key; those whose models are gone do not count."""
        rows = [Row.from_json(line["row"]) for line in self.journal.lines() if "row" in line]
        return {row.key: row for row in rows if Path(row.model).is_file()}

    def check_provider(self) -> None:
        """Refuse a provider that onnxruntime passes over in silence: the times would be those of another one.

        Raises:
            OptionError: It does.
        """
        asked = self.ablation.backend.providers[0]
        found = self.ablation.backend.session(self.model).get_providers()
        if asked not in found:
            raise OptionError(
                f"execution provider {asked!r} does not run this model: onnxruntime takes {', '.join(found)} in its "
                "place; choose another device"
            )


def digest(*values: Any) -> str:
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def named(function: Any) -> str:
    """Return what a function is called; its address would be another one in every process."""
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def setup(work: Work) -> dict[str, Any]:
    """Return what all rows share, as plain values."""
    one = work.ablation
    return {
        "model": str(one.model) if isinstance(one.model, str | os.PathLike) else "in memory",
        "model_hash": model_hash(work.model),
        "calibration": one.calibration.to_json(),
        "evaluation": one.evaluation.to_json() | {"batches": work.evaluation().count},
        "metrics": list(one.headings),
        "loss": one.loss if isinstance(one.loss, str) else named(one.loss),
        "threads": one.threads,
        "device": one.device,
        "repeats": one.repeats,
    }
