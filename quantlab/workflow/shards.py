"""Calibration shared out over processes or machines: each works on every k-th sample, and what they saw is merged.

Any `concurrent.futures.Executor` will do: a process pool, Dask's (`client.get_executor()`), MPI's
(`mpi4py.futures.MPIPoolExecutor`). Statistics merge exactly, so the result has the bytes of a single process. A shard
depends on nothing but its arguments, so that an executor may start it again elsewhere when a worker dies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed

import onnx

from quantlab.backend import Backend
from quantlab.calibration import Statistic
from quantlab.data import Batches
from quantlab.errors import DataError, OptionError
from quantlab.plan import NonFinite
from quantlab.progress import Track, quiet
from quantlab.workflow.measure import BUDGET, Numbering, Statistics, measure, merged


def measure_in_shards(
    executor: Executor,
    shards: int,
    backend: Backend,
    model: onnx.ModelProto,
    empty: Mapping[str, Statistic],
    batches: Batches,
    *,
    budget: int = BUDGET,
    workers: int | None = None,
    nonfinite: NonFinite = "refuse-nan",
    track: Track = quiet,
) -> Statistics:
    """Update the statistic of each tensor with every batch, in several processes.

    Args:
        executor: Runs functions elsewhere; it is not shut down.
        shards: How many parts the samples are divided into, usually one a process.
        backend: Runs the model.
        model: The prepared float model; it is sent once a shard.
        empty: Tensor to the statistic to start from.
        batches: Samples that can be read by number: arrays, files, folders. Every shard reads its own part.
        budget: Bytes of activations that may be held at a time, in each shard.
        workers: Samples worked on at once in each shard.
        nonfinite: What becomes of NaN and infinities, see `Recipe`.
        track: Shows progress, by shards.

    Returns:
        Tensor to statistic, in the order of `empty`.

    Raises:
        OptionError: A statistic depends on the order of the samples, or there is less than one shard.
        DataError: The data can be read only once, or by one at a time, so that it cannot be divided; or as for
            `measure`.
        ModelError: As for `measure`.
    """
    if shards < 1:
        raise OptionError(f"shards must be at least 1, got {shards}")
    if ordered := [name for name, statistic in empty.items() if statistic.ordered]:
        raise OptionError(
            f"the statistic of {ordered[0]!r} depends on the order of the samples, so they cannot be shared out: "
            "leave out the executor, or choose another range rule"
        )
    if not batches.repeatable:
        raise DataError(
            "data that can be read only once cannot be shared out over processes: "
            "give arrays, files or a folder, or leave out the executor"
        )
    if not batches.concurrent:
        raise DataError(
            "a reader that is rewound cannot be shared out, because each shard would rewind it for the others: "
            "give it a length and set_range(start, end), or leave out the executor"
        )
    count = batches.count
    shards = shards if count is None else max(1, min(shards, count))
    content = model.SerializeToString()
    tasks: list[Future[Statistics]] = [
        executor.submit(_shard, index, shards, backend, content, dict(empty), batches, budget, workers, nonfinite)
        for index in range(shards)
    ]
    try:
        done: Iterator[Future[Statistics]] = track(
            as_completed(tasks), f"calibrating {len(empty)} tensors in {shards} shards", shards
        )
        seen = merged([dict(empty), *(task.result() for task in done)])
    finally:
        for task in tasks:
            task.cancel()
    return {name: seen[name] for name in empty}


def _shard(
    index: int,
    shards: int,
    backend: Backend,
    content: bytes,
    empty: Statistics,
    batches: Batches,
    budget: int,
    workers: int | None,
    nonfinite: NonFinite,
) -> Statistics:
    model = onnx.load_from_string(content)
    part = batches.strided(index, None, shards)
    numbers = Numbering(first=index, step=shards)
    return measure(backend, model, empty, part, budget=budget, workers=workers, numbers=numbers, nonfinite=nonfinite)
