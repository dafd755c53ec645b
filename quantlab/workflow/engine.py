"""An Engine says how calibration is carried out: by what, on how many cores and machines, in how much memory.

Workers, checkpoints and shards do not change a bit of what comes out. The backend may; and so may the budget in the
last bits, where onnxruntime optimizes the graph: which operators it fuses depends on which tensors it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from quantlab.backend import Backend, Batch, OrtBackend
from quantlab.calibration import Statistic
from quantlab.data import Batches
from quantlab.errors import OptionError
from quantlab.plan import NonFinite
from quantlab.progress import Track, known_total, quiet
from quantlab.workflow.checkpoint import EVERY, Checkpoint, model_hash
from quantlab.workflow.measure import BUDGET, Statistics, measure
from quantlab.workflow.recurrence import State, check_state
from quantlab.workflow.shards import measure_in_shards

SECOND = ".second"
"""What the name of a checkpoint ends with that belongs to a second pass over the data."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How to calibrate.

    Attributes:
        backend: Runs the model; onnxruntime with one thread a sample by default.
        budget: Bytes of observed activations that may be held at a time. Where one sample has more, its tensors are
            computed in several runs.
        workers: Samples worked on at once; None for as many as there are cores and budget for.
        checkpoint: File in which to save how far the work has come, and from which to go on; None for none. A range
            rule that reads the data twice keeps its second pass beside it, in a file that ends with `.second`.
        every: Seconds between two savings.
        executor: Runs shards of the work in other processes or on other machines; None for this process alone.
        shards: How many shards the samples are divided into.
        state: Outputs that are fed back: output to the input that it becomes with the next sample, as in
            `{"hn": "h0", "cn": "c0"}` for an LSTM. The samples are then steps of one sequence and are worked on one by
            one. The first step starts from zeros, or from what the sample brings; a sample that brings a state input
            restarts it.

    Raises:
        OptionError: A number is out of its limits, or options exclude each other.
    """

    backend: Backend = field(default_factory=lambda: OrtBackend(threads=1))
    budget: int = BUDGET
    workers: int | None = None
    checkpoint: str | os.PathLike[str] | None = None
    every: float = EVERY
    executor: Executor | None = None
    shards: int = 1
    state: State = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("budget", 1), ("shards", 1)):
            if getattr(self, name) < least:
                raise OptionError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"workers must be at least 1, got {self.workers}")
        if self.every < 0:
            raise OptionError(f"every must be a number of seconds of at least 0, got {self.every:g}")
        if self.executor is None and self.shards != 1:
            raise OptionError(f"{self.shards} shards need an executor to run them")
        if self.executor is not None and self.checkpoint is not None:
            raise OptionError("a checkpoint is for a single process: leave out the executor or the checkpoint")
        if self.executor is not None and self.state:
            raise OptionError(
                "a model whose outputs are fed back takes its samples one after the other, so they cannot be shared "
                "out: leave out the executor or the state"
            )
        check_state(self.state)

    @classmethod
    def like_onnxruntime(cls) -> Engine:
        """Return the engine that runs the model as the calibrators of onnxruntime.quantization run it.

        The graph is not optimized, and each operator takes all cores. Activations then have the bits they have there,
        at several times the cost. `dataclasses.replace` changes the rest.

        Example:
            >>> Engine.like_onnxruntime().backend
            OrtBackend(threads=0, optimize=False, providers=('CPUExecutionProvider',))
        """
        return cls(backend=OrtBackend(optimize=False))

    def second_pass(self) -> Engine:
        """Return the engine for a second pass over the same data: its checkpoint is another file beside the first."""
        return self if self.checkpoint is None else replace(self, checkpoint=f"{os.fspath(self.checkpoint)}{SECOND}")

    def measure(
        self,
        model: onnx.ModelProto,
        empty: Mapping[str, Statistic],
        batches: Iterable[Batch],
        *,
        options: object = None,
        nonfinite: NonFinite = "refuse-nan",
        track: Track = quiet,
    ) -> Statistics:
        """Update the statistic of each tensor with every batch.

        Args:
            model: The prepared float model.
            empty: Tensor to the statistic to start from.
            batches: Input name to array, one mapping a sample; with an executor, `quantlab.data.Batches`.
            options: What else the result depends on, plain JSON values; a checkpoint is good for these only.
            nonfinite: What becomes of NaN and infinities, see `Recipe`.
            track: Shows progress.

        Returns:
            Tensor to statistic, in the order of `empty`.

        Raises:
            DataError: There was no batch, some tensor became NaN or infinite where that is refused, or the data cannot
                be divided.
            ModelError: The model does not load or fails on a sample.
            OptionError: The statistics cannot be shared out, or the model has no such state.
        """
        if self.executor is not None:
            if not isinstance(batches, Batches):
                raise OptionError("an executor needs data made by quantlab.batches, so that each shard reads its part")
            return measure_in_shards(
                self.executor,
                self.shards,
                self.backend,
                model,
                empty,
                batches,
                budget=self.budget,
                workers=self.workers,
                nonfinite=nonfinite,
                track=track,
            )
        return measure(
            self.backend,
            model,
            empty,
            batches,
            budget=self.budget,
            workers=self.workers,
            checkpoint=self._checkpoint(model, empty, [options, nonfinite]),
            nonfinite=nonfinite,
            state=self.state,
            track=track,
            total=known_total(batches),
        )

    def _checkpoint(self, model: onnx.ModelProto, empty: Mapping[str, Statistic], options: object) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        tensors = {name: [statistic.kind, repr(statistic)] for name, statistic in empty.items()}
        text = json.dumps([options, tensors, self.budget, dict(self.state)], sort_keys=True)
        identity = {"model": model_hash(model), "options": hashlib.sha256(text.encode()).hexdigest()}
        return Checkpoint(path=Path(self.checkpoint), identity=identity, every=self.every)
