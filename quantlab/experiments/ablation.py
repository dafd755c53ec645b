"""An ablation is a declared set of trials over one model, one data set and some metrics, and one table of results.

    float model -> [calibration, shared by trials] -> [trials, side by side] -> [times, one model at a time] -> table

Everything that is finished stands in a journal, so that an ablation that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from quantlab.backend import OrtBackend
from quantlab.backend.ort import provider_named
from quantlab.errors import OptionError
from quantlab.experiments.ablation_steps import calibrated, evaluated, timed
from quantlab.experiments.ablation_work import MODELS, ORIGINAL, Work, setup
from quantlab.experiments.results import AblationResult
from quantlab.experiments.sampling import Sampling
from quantlab.experiments.trials import Trial
from quantlab.metrics import MetricLike, task_metric
from quantlab.progress import Track, quiet
from quantlab.workflow.engine import Engine

CPU = "CPUExecutionProvider"


@dataclass(frozen=True, kw_only=True, eq=False)
class Ablation:
    """What is to be tried, on what, and how it is measured.

    Attributes:
        model: The float model: path, bytes or ModelProto.
        trials: The rows of the table; the float model as it is comes before them.
        evaluation: Data for loss, metrics and times; labels may stand beside the model's inputs.
        calibration: Data for ranges; it should be other data than that of the evaluation.
        metrics: Names, such as `"top1"` or `"accuracy:labels=label"`, or functions `(exact, rounded) -> float` of the
            outputs of both models by name; see `quantlab.metrics.task_metric`.
        loss: Likewise; `"mse"` to the float model's first output, `"cross_entropy:labels=label"`, or a function.
        threads: Threads of onnxruntime within one operator; 0 means all cores.
        device: Execution provider, by its full or its short name.
        repeats: How often the time over the evaluation data is taken; 0 for not at all.

    Raises:
        OptionError: Two trials have one name, a metric or provider is unknown, or a number is out of its limits.
    """

    model: str | os.PathLike[str] | bytes | onnx.ModelProto
    trials: tuple[Trial, ...]
    evaluation: Sampling
    calibration: Sampling
    metrics: tuple[MetricLike, ...] = ("top1",)
    loss: MetricLike = "mse"
    threads: int = 1
    device: str = "cpu"
    repeats: int = 3

    def __post_init__(self) -> None:
        names = Counter([ORIGINAL, *(trial.name for trial in self.trials)])
        if twice := [name for name, count in names.items() if count > 1]:
            why = "stands for the float model" if twice[0] == ORIGINAL else "is the name of two trials"
            raise OptionError(f"{twice[0]!r} {why}: give each trial a name of its own")
        for name in ("threads", "repeats"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise OptionError(f"{name} must be an integer of at least 0, got {value!r}")
        if self.evaluation.is_dummy:
            raise OptionError("evaluation needs real data: dummy data is for calibration")
        for metric in (self.loss, *self.metrics):
            task_metric(metric)  # refuses what does not exist

    @property
    def labels(self) -> tuple[str, ...]:
        """Arrays of the data that are no inputs of the model."""
        return tuple(dict.fromkeys(name for one in (self.loss, *self.metrics) for name in task_metric(one).reads))

    @property
    def headings(self) -> dict[str, MetricLike]:
        """Metrics by their headings: the bare name where no two share it."""
        bare = Counter(map(heading, self.metrics))
        return {heading(one) if bare[heading(one)] == 1 else str(one): one for one in self.metrics}

    @property
    def backend(self) -> OrtBackend:
        """What the models run on."""
        provider = provider_named(self.device)
        return OrtBackend(threads=self.threads, providers=tuple(dict.fromkeys((provider, CPU))))


def heading(metric: MetricLike) -> str:
    """Return the name of a metric without its options.

    Example:
        >>> heading("accuracy:labels=label")
        'accuracy'
    """
    return metric.partition(":")[0].strip() if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))


def ablate(
    ablation: Ablation,
    *,
    folder: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    engine: Engine | None = None,
    track: Track = quiet,
) -> AblationResult:
    """Try every configuration of an ablation and measure size, time, loss, metrics and output SQNR of each.

    Args:
        ablation: What is to be tried.
        folder: Where the models, the journal and the tables are kept; a second call with the same folder goes on where
            the first one was interrupted. None keeps nothing but the result.
        executor: Runs the trials side by side, in threads, processes or on a cluster that sees `folder` under the same
            path; it is not shut down. None runs them one after the other. Times are taken in this process either way,
            one model at a time, when everything else is done.
        engine: How calibration is carried out; onnxruntime on all cores of this machine by default.
        track: Shows progress.

    Returns:
        The rows, in the order of the trials, and tables of them.

    Raises:
        OptionError: An option does not fit the model, or a provider is not there.
        DataError: The data cannot be used.
        ModelError: The model cannot be used.

    Example:
        >>> from quantlab.demo import digits, float_model
        >>> data = digits()
        >>> found = ablate(
        ...     Ablation(
        ...         model=float_model(),
        ...         trials=(Trial(name="per channel", options={"per_channel": True}),),
        ...         calibration=Sampling(data={"image": data.train_images[:20]}),
        ...         evaluation=Sampling(data={"image": data.test_images[:20]}, batch=10),
        ...         repeats=1,
        ...     )
        ... )
        >>> [row.trial for row in found.rows], found.calibration_passes
        (['original', 'per channel'], 1)
    """
    with _room(folder) as room:
        engine = engine or Engine(backend=replace(ablation.backend, threads=1))
        work = Work(ablation=ablation, room=room, engine=engine)
        work.check_provider()
        rows = work.finished()
        missing = {key: trial for trial, key in zip(work.trials, work.keys, strict=True) if key not in rows}
        resumed = sum(key in rows for key in work.keys)
        ranges, passes = calibrated(work, missing, track) if missing else ({}, 0)
        for row in evaluated(work, missing, ranges, executor, track):
            work.journal.add({"row": row.to_json()})
            rows[row.key] = row
        named = [replace(rows[key], trial=trial.name) for trial, key in zip(work.trials, work.keys, strict=True)]
        result = AblationResult(
            rows=tuple(timed(work, named, track)), setup=setup(work), calibration_passes=passes, resumed=resumed
        )
        if folder is not None:
            result.save(room)
        return result


@contextmanager
def _room(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    if folder is not None:
        try:
            (Path(folder) / MODELS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"folder {str(folder)!r} cannot be made ({error.strerror}): give another one") from None
        yield Path(folder).absolute()
        return
    with tempfile.TemporaryDirectory(prefix="quantlab-") as room:
        (Path(room) / MODELS).mkdir()
        yield Path(room)
