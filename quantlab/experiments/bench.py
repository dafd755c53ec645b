"""Benchmark: how long models take on the same inputs, in turns, with everything recorded that the times depend on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import onnx

from quantlab.backend import Batch, OrtBackend, signature
from quantlab.backend.ort import provider_named
from quantlab.data import Signature, batches
from quantlab.data.made import made_batch
from quantlab.debug.tables import Table
from quantlab.errors import OptionError
from quantlab.experiments.environment import Environment
from quantlab.experiments.timing import Ratio, Seconds, interleaved, ratios
from quantlab.graph.files import load, model_size
from quantlab.graph.sizes import parameter_count
from quantlab.progress import Track, known_total, quiet

ModelLike: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto"


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """How models are timed.

    Attributes:
        runs: Timed runs of each model in a round.
        rounds: Rounds; in each, every model has its turn.
        warm_up: Runs of each model before the timed ones, in every round.
        threads: Threads within one operator; 0 lets onnxruntime take all cores.
        provider: Execution provider for all models, by its full or its short name.
        batch_size: Size of axis 0 where the models leave it open; 1 where it is None.
        shapes: Symbolic size to its size, or input to its whole shape.
        fill: What inputs hold: `"random"` or `"zeros"`.
        seed: Of the random numbers.
        max_samples: Samples of the data that are used at most.
    """

    runs: int = 10
    rounds: int = 10
    warm_up: int = 3
    threads: int = 1
    provider: str = "cpu"
    batch_size: int | None = None
    shapes: Mapping[str, int | Sequence[int]] = field(default_factory=dict)
    fill: str = "random"
    seed: int = 0
    max_samples: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("runs", 1), ("rounds", 1), ("warm_up", 0), ("threads", 0), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(f"{name}={value!r} is not allowed; give a whole number of {least} or more")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long one model takes.

    Attributes:
        name: Its name.
        megabytes: Its size in MB (1,000,000 bytes), data files included.
        parameters: How many numbers it stores.
        inputs: Shape of each input in the timed runs.
        milliseconds: Every timed run, in order.
        ratio: How many times as fast it is as the first model.
        samples_per_second: Samples of the data a second of running, loading left out; None without data.
    """

    name: str
    megabytes: float
    parameters: int
    inputs: dict[str, tuple[int, ...]]
    milliseconds: tuple[float, ...]
    ratio: Ratio
    samples_per_second: float | None

    @property
    def mean(self) -> float:
        """Mean, in milliseconds a run."""
        return float(np.mean(self.milliseconds))

    @property
    def median(self) -> float:
        """Median, in milliseconds a run."""
        return float(np.median(self.milliseconds))

    @property
    def p95(self) -> float:
        """The time that 95 of 100 runs stay within, in milliseconds."""
        return float(np.percentile(self.milliseconds, 95))

    @property
    def std(self) -> float:
        """Standard deviation of the runs, in milliseconds."""
        return float(np.std(self.milliseconds))

    def lines(self) -> Iterator[str]:
        """Yield one line a run, and their average."""
        for index, each in enumerate(self.milliseconds):
            yield f"run {index + 1}: {each:.3f} ms"
        yield f"Avg: {self.mean:.3f} ms"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        derived = {name: getattr(self, name) for name in ("mean", "median", "p95", "std")}
        return asdict(self) | {f"{name}_ms": value for name, value in derived.items()}


HEADINGS = (
    "model",
    "MB",
    "parameters",
    "mean ms",
    "median ms",
    "p95 ms",
    "std ms",
    "times as fast",
    "quartiles",
    "samples/s",
)


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Models side by side.

    Attributes:
        settings: How they were timed; the provider by its full name.
        environment: On what.
        data: Samples that throughput was measured on; None without data.
        models: One timing a model, in the order given.
    """

    settings: BenchSettings
    environment: Environment
    data: int | None
    models: tuple[Timing, ...]

    def table(self) -> Table:
        """Return one row a model."""
        return Table(
            HEADINGS,
            tuple(
                (
                    one.name,
                    one.megabytes,
                    one.parameters,
                    *(round(value, 4) for value in (one.mean, one.median, one.p95, one.std)),
                    round(one.ratio.median, 3),
                    f"{one.ratio.low:.3f} to {one.ratio.high:.3f}",
                    None if one.samples_per_second is None else round(one.samples_per_second, 1),
                )
                for one in self.models
            ),
        )

    def words(self) -> list[str]:
        """Say in two lines how and on what the models were timed."""
        how = self.settings
        made = f"{how.fill} inputs" + (f", seed {how.seed}" if how.fill == "random" else "")
        inputs = made if self.data is None else f"{self.data:,} samples"
        turns = f"rounds: {how.rounds}, of {how.runs} runs after {how.warm_up} to warm up, in turns; {inputs}"
        return [turns, f"{self.environment}, {self.environment.system}"]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "settings": asdict(self.settings),
            "environment": self.environment.to_json(),
            "data": self.data,
            "models": [one.to_json() for one in self.models],
        }


def benchmark(
    models: ModelLike | Sequence[ModelLike] | Mapping[str, ModelLike],
    settings: BenchSettings = BenchSettings(),
    *,
    data: object = None,
    images: Any = None,
    track: Track = quiet,
) -> BenchReport:
    """Time models side by side.

    Every round gives each model its turn, so that what disturbs the machine meets all of them. Times are those of
    `session.run` alone. With data, the first batch of it is what the models are timed on; without, inputs are made from
    the models' signatures.

    Args:
        models: One or more models, the first of which the others are compared with: paths, bytes or ModelProtos; or
            name to model.
        settings: How to time them.
        data: Samples to measure throughput on, in any form that `batches` takes.
        images: How pictures become inputs, an `ImageOptions`.
        track: Shows progress.

    Returns:
        Times, sizes and throughput of every model, and what they were measured on.

    Raises:
        OptionError: No model, an impossible setting, or a provider that this onnxruntime does not have.
        ModelError: A model cannot be read or loaded.
        DataError: The data does not fit a model.
    """
    named = _named(models)
    backend = OrtBackend(threads=settings.threads, providers=(provider_named(settings.provider),))
    loaded = [load(model) for model in named.values()]
    sessions = [backend.session(model) for model in loaded]
    signatures = [signature(model) for model in loaded]
    source = None if data is None else _streams(data, signatures, settings, images)
    feeds = [_feed(wanted, settings) for wanted in signatures] if source is None else [next(iter(s)) for s in source]
    seconds = interleaved(
        sessions,
        feeds,
        rounds=track(range(settings.rounds), f"timing {len(named)} models", settings.rounds),
        runs=settings.runs,
        warm_up=settings.warm_up,
    )
    samples, spent = (None, None) if source is None else _throughput(sessions, source, track)
    return BenchReport(
        settings=BenchSettings(**{**vars(settings), "provider": backend.providers[0]}),
        environment=Environment.of(backend),
        data=samples,
        models=tuple(_timings(named, loaded, feeds, seconds, samples, spent)),
    )


def _named(models: ModelLike | Sequence[ModelLike] | Mapping[str, ModelLike]) -> dict[str, ModelLike]:
    if isinstance(models, Mapping):
        named = {str(name): model for name, model in models.items()}
    else:
        several = [models] if isinstance(models, str | os.PathLike | bytes | onnx.ModelProto) else list(models)
        named = {}
        for index, model in enumerate(several):
            name = str(model) if isinstance(model, str | os.PathLike) else f"model {index + 1}"
            named[f"{name} ({index + 1})" if name in named else name] = model
    if not named:
        raise OptionError("there is no model to time: give one or more")
    return named


def _feed(wanted: Signature, settings: BenchSettings) -> Batch:
    return made_batch(
        wanted, batch_size=settings.batch_size, shapes=settings.shapes, fill=settings.fill, seed=settings.seed
    )


def _streams(data: object, signatures: Sequence[Signature], settings: BenchSettings, images: Any) -> list[Any]:
    """Open the data once for each model: their inputs may differ in type and fixed sizes."""
    if settings.shapes:
        raise OptionError("shapes go with inputs that are made up: leave them out, the data has its own")
    limit, size = settings.max_samples, settings.batch_size
    return [batches(data, wanted, images=images, max_samples=limit, batch_size=size) for wanted in signatures]


def _throughput(sessions: Sequence[Any], streams: Sequence[Any], track: Track) -> tuple[int, list[float]]:
    """Run all the data through every model, in turns; only the runs themselves are timed."""
    spent, samples = [0.0] * len(sessions), 0
    together = zip(*streams, strict=True)
    for batch_of_each in track(together, "running the data", known_total(streams[0])):
        samples += streams[0].signature.samples_in(batch_of_each[0])
        for index, (session, batch) in enumerate(zip(sessions, batch_of_each, strict=True)):
            feed = dict(batch)
            start = perf_counter()
            session.run(None, feed)
            spent[index] += perf_counter() - start
    return samples, spent


def _timings(
    named: Mapping[str, ModelLike],
    loaded: Sequence[onnx.ModelProto],
    feeds: Sequence[Batch],
    seconds: Seconds,
    samples: int | None,
    spent: Sequence[float] | None,
) -> Iterator[Timing]:
    for index, ((name, model), ratio) in enumerate(zip(named.items(), ratios(seconds), strict=True)):
        yield Timing(
            name=name,
            megabytes=_bytes(model) / 1e6,
            parameters=parameter_count(loaded[index]),
            inputs={key: array.shape for key, array in feeds[index].items()},
            milliseconds=tuple((seconds[:, index] * 1e3).ravel().tolist()),
            ratio=ratio,
            samples_per_second=None if samples is None or spent is None else samples / spent[index],
        )


def _bytes(model: ModelLike) -> int:
    if isinstance(model, bytes):
        return len(model)
    return int(model.ByteSize()) if isinstance(model, onnx.ModelProto) else model_size(Path(model))
