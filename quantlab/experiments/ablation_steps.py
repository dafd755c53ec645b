"""The steps of an ablation: calibration, the trials, the times; each goes on from what the journal has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantlab.calibration import RangeTable
from quantlab.errors import QuantlabWarning
from quantlab.experiments.ablation_work import Work, digest
from quantlab.experiments.dataset_times import in_turns
from quantlab.experiments.environment import Environment
from quantlab.experiments.results import Row
from quantlab.experiments.shared_calibration import Wanted, passes
from quantlab.experiments.trial_run import Task, run
from quantlab.experiments.trials import Trial, blamed
from quantlab.plan import Recipe
from quantlab.progress import Track
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import Prepared, decide, needed_opset, prepare_for


def calibrated(work: Work, missing: Mapping[str, Trial], track: Track) -> tuple[dict[str, RangeTable], int]:
    """Measure the ranges of the trials that are to be run, in as few passes over the data as serve them.

    Who shares a pass is decided over all trials, finished or not: the numbers do not depend on where an ablation was
    interrupted.

    Args:
        work: The ablation.
        missing: Key to trial, of those that are to be run.
        track: Shows progress.

    Returns:
        Key to ranges, and how often data was read.
    """
    trials = dict(zip(work.keys, work.trials, strict=True))
    kept: dict[object, Prepared] = {}
    asked = [_wanted(work, key, trial, kept) for key, trial in trials.items()]
    found: dict[str, RangeTable] = {}
    count = 0
    for one in passes([wanted for wanted in asked if wanted is not None]):
        keys = [member.name for member in one.members]
        if not any(key in missing for key in keys):
            continue
        trial = trials[keys[0]]
        counted = in_samples(track, work.sampling(trial).batch or 1)
        found |= one.collect(work.samples(trial), engine=_resumable(work, keys), track=counted)
        count += one.reads
    return found, count


def _resumable(work: Work, keys: list[str]) -> Engine:
    """Return the engine with a checkpoint in the folder, so that a long calibration goes on too."""
    engine = work.engine
    if engine.executor is not None or engine.checkpoint is not None:
        return engine
    return replace(engine, checkpoint=work.room / f"calibration-{digest(keys)[:8]}.npz")


def _wanted(work: Work, key: str, trial: Trial, kept: dict[object, Prepared]) -> Wanted | None:
    """Return what a trial wants to know; None where it measures by itself, as bodies of control flow have to."""
    if trial.recipe is None:
        return None
    with blamed(trial.name), warnings.catch_warnings():
        # Running the trial says the same again.
        warnings.simplefilter("ignore", QuantlabWarning)
        prepared = _prepared(work, trial, trial.recipe, kept)
        decided = decide(prepared, trial.recipe)
    if decided.bodies:
        return None
    return Wanted(name=key, prepared=prepared, plan=decided, recipe=trial.recipe, data=work.data_of(trial))


def _prepared(work: Work, trial: Trial, recipe: Recipe, kept: dict[object, Prepared]) -> Prepared:
    """Prepare a trial's model, once for all trials that ask for the same: there may be many, and the model large."""
    # All that preparing a model takes from a recipe.
    wanted = (repr(trial.fuse), needed_opset(work.model, recipe), recipe.optimize, recipe.subgraphs)
    if wanted not in kept:
        kept[wanted] = prepare_for(trial.source(work.model), recipe)
    return kept[wanted]


def evaluated(
    work: Work, missing: Mapping[str, Trial], ranges: Mapping[str, RangeTable], executor: Executor | None, track: Track
) -> Iterator[Row]:
    """Run trials, and yield their rows as they are finished.

    Args:
        work: The ablation.
        missing: Key to trial.
        ranges: Key to ranges; a trial without measures by itself.
        executor: Runs them side by side; None one after the other.
        track: Shows progress.
    """
    tasks = [_task(work, key, trial, ranges.get(key)) for key, trial in missing.items()]
    what, counted = f"evaluating {len(tasks)} models", in_samples(track, work.evaluated_samples)
    if executor is None or not tasks:
        yield from counted(map(run, tasks), what, len(tasks))
        return
    futures: list[Future[Row]] = [executor.submit(run, task) for task in tasks]
    try:
        for done in counted(as_completed(futures), what, len(tasks)):
            yield done.result()
    finally:
        for future in futures:
            future.cancel()


def _task(work: Work, key: str, trial: Trial, ranges: RangeTable | None) -> Task:
    one = work.ablation
    return Task(
        trial=trial,
        key=key,
        reference=work.reference,
        out=work.file(trial, key),
        ranges=ranges,
        calibration=work.sampling(trial),
        evaluation=one.evaluation,
        metrics=one.headings,
        loss=one.loss,
        labels=one.labels,
        backend=one.backend,
        # An executor cannot be sent to its own workers.
        engine=replace(work.engine, executor=None, shards=1, checkpoint=None),
    )


def timed(work: Work, rows: list[Row], track: Track) -> list[Row]:
    """Take the times that are not in the journal yet, one model at a time, and return the rows with theirs.

    Args:
        work: The ablation.
        rows: All rows.
        track: Shows progress.

    Returns:
        The rows; without times where none are wanted.
    """
    one = work.ablation
    if not one.repeats:
        return rows
    here = Environment.of(one.backend)
    seconds = _kept_times(work, rows, here)
    done = {index: len(times) for index, times in seconds.items()}
    missing = sum(max(0, one.repeats - count) for count in done.values())
    files = {index: Path(row.model) for index, row in enumerate(rows)}
    times = in_turns(files, work.evaluation(), one.backend, rounds=one.repeats, done=done)
    for time in in_samples(track, work.evaluated_samples)(times, f"timing {len(rows)} models", missing):
        row = rows[time.row]
        line = {"trial": row.trial, "key": row.key, "seconds": time.seconds, "on": here.to_json()}
        work.journal.add({"time": line})
        seconds[time.row].append(time.seconds)
    kept = {index: tuple(times[: one.repeats]) for index, times in seconds.items()}
    return [replace(row, seconds=kept[index], timed_on=here) for index, row in enumerate(rows)]


def _kept_times(work: Work, rows: list[Row], here: Environment) -> dict[int, list[float]]:
    """Return the times that were taken before in the same environment; those of another one say nothing here."""
    lines = [line["time"] for line in work.journal.lines() if "time" in line]
    usable = [line for line in lines if line["on"] == here.to_json()]
    return {
        index: [line["seconds"] for line in usable if (line["trial"], line["key"]) == (row.trial, row.key)]
        for index, row in enumerate(rows)
    }


def in_samples(track: Track, size: int) -> Track:
    """Return a track that counts samples where items of some samples each are worked on.

    Args:
        track: Counts items.
        size: Samples in an item.

    Returns:
        The track.
    """

    def tracked(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
        def ticks() -> Iterator[tuple[Any, ...]]:
            for item in items:
                yield (item,)
                yield from ((),) * (size - 1)

        for tick in track(ticks(), what, None if total is None else total * size):
            yield from tick

    return tracked
