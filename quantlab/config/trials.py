"""Trials as a file declares them: a list, in which an entry with `grid` stands for a product of options."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from quantlab.config.document import Entry
from quantlab.errors import OptionError, nearest
from quantlab.experiments.sampling import Sampling
from quantlab.experiments.trials import OPTIONS, Trial

OWN_KEYS = ("name", "quantize", "fuse", "calibration", "grid")
"""Keys of a trial that are no options."""

Read = Callable[[Entry], Sampling]


def trials_of(entry: Entry, defaults: Mapping[str, Any], sampling: Read) -> tuple[Trial, ...]:
    """Read the trials of a file.

    Args:
        entry: A list of trials, or one mapping with `grid`.
        defaults: Options of every trial that is quantized, unless it has its own.
        sampling: Reads the calibration data of a trial.

    Returns:
        The trials.

    Raises:
        OptionError: Something is unknown or impossible; the text names line and key.
    """
    items = [entry] if isinstance(entry.value, dict) else entry.items()
    found = [trial for item in items for trial in _trials(item, defaults, sampling)]
    if not found:
        entry.refuse("there is no trial: give at least one")
    return tuple(found)


def _trials(entry: Entry, defaults: Mapping[str, Any], sampling: Read) -> Iterator[Trial]:
    given = entry.mapping((*OWN_KEYS, *OPTIONS))
    options = {key: one.plain() for key, one in given.items() if key not in OWN_KEYS}
    if "grid" not in given:
        if "name" not in given:
            entry.refuse("a trial needs a name")
        yield _trial(entry, given["name"].of_kind(str, "a text"), options, defaults, sampling)
        return
    prefix = f"{given['name'].of_kind(str, 'a text')}, " if "name" in given else ""
    for point in _product(given["grid"]):
        name = prefix + ", ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in point.items())
        yield _trial(entry, name, merged(options, _nested(point)), defaults, sampling)


def _product(entry: Entry) -> Iterator[dict[str, Any]]:
    axes = {}
    for key, values in entry.mapping().items():
        outer = key.partition(".")[0]
        if outer not in OPTIONS:
            values.refuse(f"no option is called {outer!r}{nearest(outer, OPTIONS)}")
        axes[key] = [one.plain() for one in values.items()]
    for point in itertools.product(*axes.values()):
        yield dict(zip(axes, point, strict=True))


def _short(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nested(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of which some are named by a path, such as `extra_options.CalibMovingAverage`."""
    found: dict[str, Any] = {}
    for key, value in point.items():
        outer, dot, inner = key.partition(".")
        found = merged(found, {outer: {inner: value}} if dot else {outer: value})
    return found


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay options over others; mappings, such as `extra_options`, are merged key by key.

    Example:
        >>> merged({"a": 1, "extra_options": {"x": 1}}, {"a": 2, "extra_options": {"y": 2}})
        {'a': 2, 'extra_options': {'x': 1, 'y': 2}}
    """
    both = {key: {**below[key], **above[key]} for key in below if _mappings(below.get(key), above.get(key))}
    return {**below, **above, **both}


def _mappings(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _trial(entry: Entry, name: str, options: dict[str, Any], defaults: Mapping[str, Any], sampling: Read) -> Trial:
    given = entry.mapping()
    quantize = given["quantize"].of_kind(bool, "true or false") if "quantize" in given else True
    own = sampling(given["calibration"]) if "calibration" in given else None
    try:
        return Trial(
            name=name,
            options=merged(defaults, options) if quantize else options,
            quantize=quantize,
            fuse=_groups(given["fuse"]) if "fuse" in given else None,
            calibration=own,
        )
    except OptionError as error:
        _blamed(entry, str(error)).refuse(str(error))


def _blamed(entry: Entry, why: str) -> Entry:
    """Return the entry of the option that an error text names, as far as it can be told; else the whole trial."""
    given = entry.mapping()
    return next(
        (one for key, one in given.items() if key != "name" and re.search(rf"\b{re.escape(key)}\b", why)), entry
    )


def _groups(entry: Entry) -> Any:
    if isinstance(entry.value, str):
        return entry.value
    groups = [
        [name.of_kind(str, "the name of a node or operator type") for name in one.items()] for one in entry.items()
    ]
    return tuple(map(tuple, groups))
