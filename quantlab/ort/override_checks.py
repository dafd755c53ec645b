"""What can be wrong with the overrides of a tensor, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx

_GRID = ("scale", "zero_point")
_INSTEAD = ("symmetric", "reduce_range", "rmin", "rmax")
_ALIKE = ("quant_type", "axis", "symmetric", "reduce_range")
"""Settings that all channels of a tensor share, so that the first has to have them."""


def complaint(name: str, listed: Any, constant: onnx.TensorProto | None, default_type: Any) -> str | None:
    """Return what is wrong with the overrides of a tensor, or None.

    Args:
        name: The tensor.
        listed: Its list of dicts.
        constant: The tensor, where it is a constant.
        default_type: Type of an activation without an override.
    """
    if not isinstance(listed, list):
        return f"they must be a list of dicts, got a {type(listed).__name__}"
    for place, entry in enumerate(listed):
        if not isinstance(entry, dict):
            return f"entry {place} must be a dict, got a {type(entry).__name__}"
    if not listed or not listed[0]:
        return None
    if len(listed) > 1 or "axis" in listed[0]:
        return next(_of_channels(name, listed, constant), None)
    return next(_of_tensor(listed[0], constant, default_type), None)


def _of_grid(entry: Mapping[str, Any]) -> Iterator[str]:
    given = [key for key in _GRID if key in entry]
    if len(given) == 1:
        yield f"{given[0]!r} is given alone: give both 'scale' and 'zero_point'"
    if given and (extra := [key for key in _INSTEAD if key in entry]):
        yield f"'scale' and 'zero_point' leave no room for {', '.join(map(repr, extra))}"


def _of_tensor(entry: Mapping[str, Any], constant: onnx.TensorProto | None, default_type: Any) -> Iterator[str]:
    yield from _of_grid(entry)
    if constant is None and "reduce_range" in entry:
        yield "'reduce_range' is for constants"
    if "convert" not in entry:
        return
    converted = entry["convert"]
    if constant is not None:
        yield "'convert' is for activations, and this is a constant"
    if "quant_type" not in converted:
        yield "'convert' lacks its 'quant_type'"
    if "reduce_range" in converted:
        yield "'reduce_range' in 'convert' is for constants"
    if converted.get("quant_type") == entry.get("quant_type", default_type):
        yield f"'convert' is to {converted.get('quant_type')}, which is the type that the tensor has"
    yield from _of_grid(converted)


def _of_channels(name: str, listed: Sequence[Mapping[str, Any]], constant: onnx.TensorProto | None) -> Iterator[str]:
    first = listed[0]
    if constant is None:
        yield "only constants have channels, and this is an activation"
        return
    if "axis" not in first:
        yield f"there are {len(listed)} entries, so that the first needs an 'axis'"
        return
    shape, axis = tuple(constant.dims), first["axis"]
    if not -len(shape) <= axis < len(shape):
        yield f"axis {axis} is out of range for the shape {shape}"
        return
    if len(listed) not in (1, shape[axis]):
        yield f"axis {axis} of the shape {shape} has {shape[axis]} channels, and there are {len(listed)} entries"
    if ("rmin" in first) != ("rmax" in first):
        yield "give both 'rmin' and 'rmax'"
    for place, entry in enumerate(listed):
        if "convert" in entry:
            yield "'convert' is for activations, and this is a constant"
        yield from (f"{text} (entry {place})" for text in _of_grid(entry))
        yield from _unlike(first, entry, place, len(shape))


def _unlike(first: Mapping[str, Any], entry: Mapping[str, Any], place: int, rank: int) -> Iterator[str]:
    for key in _ALIKE:
        same = key == "axis" and "axis" in entry and (entry[key] - first[key]) % rank == 0
        if key in entry and entry[key] != first.get(key) and not same:
            yield f"{key!r} is {entry[key]} in entry {place} and {first.get(key)} in the first: it has to be the same"
    for pair in (_GRID, ("rmin", "rmax")):
        if set(pair) <= set(first) and not set(pair) <= set(entry):
            yield f"entry {place} lacks {pair[0]!r} and {pair[1]!r}, which the first has"
