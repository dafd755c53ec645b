"""The file of an ablation: what to try, on what, how it is measured, and on how many cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from quantlab.backend.ort import provider_named
from quantlab.config.document import Entry, read
from quantlab.config.trials import trials_of
from quantlab.data import ImageOptions
from quantlab.errors import OptionError, nearest
from quantlab.experiments.ablation import Ablation
from quantlab.experiments.sampling import DUMMY, Sampling
from quantlab.experiments.trials import OPTIONS
from quantlab.metrics import task_metric

KEYS = (
    "model",
    "data",
    "images",
    "calibration",
    "evaluation",
    "device",
    "threads",
    "metrics",
    "loss",
    "repeats",
    "defaults",
    "trials",
    "resources",
)
SAMPLING_KEYS = ("data", "batch", "iterations", "samples")
RESOURCE_KEYS = ("executor", "workers")
EXECUTORS = ("none", "threads", "processes")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the trials of a file run on.

    Attributes:
        executor: `"none"`, one after the other; `"threads"` or `"processes"`, side by side.
        workers: How many of them.
    """

    executor: str = "none"
    workers: int = 2

    @contextmanager
    def opened(self) -> Iterator[Executor | None]:
        """Hand out an executor, and shut it down at the end.

        Yields:
            The executor; None for one after the other.
        """
        if self.executor == "none":
            yield None
            return
        # A process that is forked while other threads hold locks may hang: new ones begin from nothing.
        pool = (
            ThreadPoolExecutor(self.workers)
            if self.executor == "threads"
            else ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"))
        )
        with pool:
            yield pool


@dataclass(frozen=True, kw_only=True)
class AblationFile:
    """What a file says.

    Attributes:
        ablation: What is to be tried.
        resources: What the trials run on.
    """

    ablation: Ablation
    resources: Resources


def read_ablation(path: str | Path) -> AblationFile:
    """Read the YAML file of an ablation.

    Args:
        path: The file; paths in it are relative to its folder.

    Returns:
        What it says.

    Raises:
        OptionError: Something in it is unknown or impossible; the text names line and key, and what is near.
        QuantlabError: PyYAML is not installed.
    """
    path = Path(path)
    document = read(path)
    given = document.mapping(KEYS)
    for key in ("model", "trials"):
        if key not in given:
            document.refuse(f"the key {key!r} is missing")
    images = _images(given["images"]) if "images" in given else None
    reader = _Reader(folder=path.parent, data=given.get("data"), images=images)
    defaults = given["defaults"].mapping(OPTIONS) if "defaults" in given else {}
    options = {key: one.plain() for key, one in defaults.items()}
    values: dict[str, Any] = {
        "model": reader.path(given["model"]),
        "calibration": reader.sampling(given.get("calibration", document), "calibration"),
        "evaluation": reader.sampling(given.get("evaluation", document), "evaluation"),
        "trials": trials_of(given["trials"], options, lambda entry: reader.sampling(entry, "calibration")),
    }
    if "metrics" in given:
        values["metrics"] = tuple(_word(one, task_metric) for one in given["metrics"].items())
    for key, check in (("loss", task_metric), ("device", provider_named)):
        if key in given:
            values[key] = _word(given[key], check)
    for key in ("threads", "repeats"):
        if key in given:
            values[key] = _count(given[key], 0)
    resources = _resources(given.get("resources"))
    try:
        return AblationFile(ablation=Ablation(**values), resources=resources)
    except OptionError as error:  # what is left to refuse are the names of trials
        given["trials"].refuse(str(error))


def _word(entry: Entry, check: Callable[[str], object]) -> str:
    word = entry.of_kind(str, "a name")
    try:
        check(word)
    except OptionError as error:
        entry.refuse(str(error))
    return word


def _count(entry: Entry, least: int) -> int:
    number = entry.of_kind(int, "an integer")
    if number < least:
        entry.refuse(f"this must be at least {least}, got {number}")
    return number


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads paths and samplings of one file."""

    folder: Path
    data: Entry | None
    images: ImageOptions | None

    def path(self, entry: Entry) -> Path:
        found = self.folder / entry.of_kind(str, "a path")
        if not found.exists():
            entry.refuse(f"{str(found)!r} does not exist")
        return found

    def sampling(self, entry: Entry, role: str) -> Sampling:
        # An entry without a path is the whole document: the key itself is missing.
        given = entry.mapping(SAMPLING_KEYS) if entry.path else {}
        source = given.get("data", self.data)
        if source is None:
            entry.refuse(f"there is no data for {role}: give {role}.data, or data for all")
        numbers: dict[str, Any] = {key: _count(one, 1) for key, one in given.items() if key != "data"}
        batch = numbers.get("batch", 1)
        if (samples := numbers.pop("samples", None)) is not None:
            if "iterations" in numbers:
                given["samples"].refuse("iterations and samples say the same: keep one of them")
            if samples % batch:
                given["samples"].refuse(f"{samples} samples do not fill batches of {batch}: give a multiple of it")
            numbers["iterations"] = samples // batch
        if source.value == DUMMY:
            if role != "calibration":
                source.refuse("dummy data is for calibration: evaluation needs real data")
            return Sampling(data=DUMMY, **numbers)
        return Sampling(data=self.path(source), images=self.images, **numbers)


def _images(entry: Entry) -> ImageOptions:
    given = entry.mapping([one.name for one in fields(ImageOptions)])
    values = {key: one.plain() for key, one in given.items()}
    for key in ("mean", "std"):
        if key in given:
            values[key] = _numbers(given[key])
    if "size" in given:
        size = _numbers(given["size"])
        values["size"] = tuple(map(int, size * 2 if len(size) == 1 else size))
    for key in ("scale", "crop_fraction"):
        if key in given:
            values[key] = _number(given[key])
    try:
        return ImageOptions(**values)
    except OptionError as error:
        named = next((key for key in given if str(error).startswith(key)), None)
        (entry if named is None else given[named]).refuse(str(error))


def _numbers(entry: Entry) -> tuple[float, ...]:
    return tuple(map(_number, entry.value)) if isinstance(entry.value, list) else (_number(entry),)


def _number(entry: Entry) -> float:
    if isinstance(entry.value, bool) or not isinstance(entry.value, int | float):
        entry.refuse(f"this must be a number, got {entry.plain()!r}")
    return entry.value


def example() -> str:
    """Return the text of an example, for the embedded demonstration model.

    Example:
        >>> "CalibMovingAverage" in example()
        True
    """
    return files("quantlab.config").joinpath("example.yaml").read_text(encoding="utf-8")


def _resources(entry: Entry | None) -> Resources:
    if entry is None:
        return Resources()
    given = entry.mapping(RESOURCE_KEYS)
    values: dict[str, Any] = {}
    if "executor" in given:
        word = given["executor"].of_kind(str, "a name")
        if word not in EXECUTORS:
            allowed = ", ".join(EXECUTORS)
            given["executor"].refuse(f"unknown executor {word!r}{nearest(word, EXECUTORS)} (allowed: {allowed})")
        values["executor"] = word
    if "workers" in given:
        values["workers"] = _count(given["workers"], 1)
    return Resources(**values)
