"""Overrides as people write them, in JSON or in Python, and read into values with every field checked.

{tensor: {...}}                      one dict: a grid per tensor, or with axis and lists one per channel
{tensor: [{...}]}                    the same in the layout of onnxruntime's TensorQuantOverrides
{tensor: [{..., "axis": 0}, ...]}    a dict for each channel, the layout for channels there
[[tensor, {...}], ...]               a list of pairs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from quantlab.arrays import DType, dtype
from quantlab.errors import OptionError, nearest
from quantlab.plan.overrides import OVERRIDE_TYPES, GridOverride, Kind, TensorOverride

_LISTS = ("rmin", "rmax", "scale", "zero_point")
_SHARED = ("quant_type", "symmetric", "reduce_range", "axis")
_GRID = (*_SHARED, *_LISTS)


def parse_overrides(given: Any, *, kind: Kind | None = None) -> dict[str, TensorOverride]:
    """Read overrides in any of the layouts above.

    Args:
        given: The overrides; None and empty containers hold none.
        kind: What all the tensors must be, or None for anything.

    Returns:
        Tensor to override.

    Raises:
        OptionError: An entry is wrong; the text names the tensor, what it got and what is allowed.

    Example:
        >>> parse_overrides({"w": {"quant_type": "Int16", "scale": 0.0025, "zero_point": -12}})["w"].grid.zero_point
        (-12,)
        >>> parse_overrides({"w": {"scael": 1.0}})
        Traceback (most recent call last):
        quantlab.errors.OptionError: override of tensor 'w': unknown field 'scael'; did you mean 'scale'? (allowed: \
quant_type, symmetric, reduce_range, axis, rmin, rmax, scale, zero_point, convert)
    """
    found: dict[str, TensorOverride] = {}
    for name, entry in _entries(given):
        if name in found:
            raise OptionError(f"tensor {name!r} has two overrides: keep one")
        try:
            override = _override(entry, kind)
        except (OptionError, TypeError) as error:
            raise OptionError(f"override of tensor {name!r}: {error}") from error
        if override is not None:
            found[name] = override
    return found


def _entries(given: Any) -> Iterator[tuple[str, Any]]:
    if given is None:
        return
    pairs = given.items() if isinstance(given, Mapping) else given
    if not isinstance(given, Mapping | Sequence) or isinstance(given, str | bytes):
        raise OptionError(f"overrides must be a dict from tensor to fields, or a list of pairs, got {given!r}")
    for index, pair in enumerate(pairs):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2 or not isinstance(pair[0], str):
            raise OptionError(f"override {index} must be a pair of a tensor's name and its fields, got {pair!r}")
        yield pair[0], pair[1]


def _override(entry: Any, kind: Kind | None) -> TensorOverride | None:
    if isinstance(entry, TensorOverride):
        return entry
    channels = [entry] if isinstance(entry, Mapping) else entry
    if not isinstance(channels, Sequence) or isinstance(channels, str | bytes):
        raise OptionError(f"it must be a dict of fields, or a list of such dicts, got {entry!r}")
    for index, fields in enumerate(channels):
        if not isinstance(fields, Mapping):
            raise OptionError(f"entry {index} must be a dict of fields, got {fields!r}")
        _known(fields, (*_GRID, "convert"))
    if not channels or not any(channels):
        return None
    first = channels[0]
    convert = first.get("convert")
    merged = first if len(channels) == 1 else _merged(channels)
    if convert is None:
        return TensorOverride(grid=_grid(merged), kind=kind)
    if not isinstance(convert, Mapping):
        raise OptionError(f"convert must be a dict of fields, got {convert!r}")
    _known(convert, (*_GRID, "recv_nodes"))
    readers = _nodes(convert["recv_nodes"]) if convert.get("recv_nodes") is not None else None
    return TensorOverride(grid=_grid(merged), convert=_grid(convert), readers=readers, kind=kind)


def _known(fields: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in fields:
        if name not in known:
            raise OptionError(f"unknown field {name!r}{nearest(str(name), known)} (allowed: {', '.join(known)})")


def _merged(channels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join a dict for each channel into one with lists."""
    first, merged = channels[0], {}
    if first.get("axis") is None:
        raise OptionError(f"there are {len(channels)} entries, one a channel, and the first has no axis: give it")
    for name in (*_SHARED, "convert"):
        for index, fields in enumerate(channels[1:], 1):
            if name in fields and (name == "convert" or fields[name] != first.get(name)):
                raise OptionError(f"{name} of channel {index} differs from that of channel 0, {first.get(name)!r}")
        if name in first:
            merged[name] = first[name]
    for name in _LISTS:
        having = [index for index, fields in enumerate(channels) if name in fields]
        if having and len(having) != len(channels):
            missing = next(index for index in range(len(channels)) if index not in having)
            raise OptionError(f"channel {missing} has no {name} and channel {having[0]} has: give all channels one")
        if having:
            merged[name] = [number for fields in channels for number in _one(name, fields[name])]
    return merged


def _one(name: str, value: Any) -> tuple[float, ...]:
    numbers = _integers(name, value) if name == "zero_point" else _floats(name, value)
    if len(numbers) != 1:
        raise OptionError(f"{name} of a channel must be one number, got {value!r}")
    return numbers


def _grid(fields: Mapping[str, Any]) -> GridOverride:
    readers: dict[str, Callable[[str, Any], Any]] = {
        "quant_type": _type, "symmetric": _flag, "reduce_range": _flag, "axis": _integer,
        "rmin": _floats, "rmax": _floats, "scale": _floats, "zero_point": _integers,
    }  # fmt: skip
    typed = {name: read(name, fields[name]) for name, read in readers.items() if fields.get(name) is not None}
    if "quant_type" in typed:
        typed["dtype"] = typed.pop("quant_type")
    return GridOverride(**typed)


def _type(name: str, value: Any) -> DType:
    word = value.name if isinstance(value, Enum) else value
    if not isinstance(word, str | DType):
        raise OptionError(f"{name} must be the name of a type (allowed: {', '.join(OVERRIDE_TYPES)}), got {value!r}")
    return dtype(word)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} must be true or false, got {value!r}")
    return bool(value)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise OptionError(f"{name} must be an integer, got {value!r}")
    return int(value)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return list(np.ravel(value).tolist())
    return list(value) if isinstance(value, list | tuple) else [value]


def _floats(name: str, value: Any) -> tuple[float, ...]:
    for one in (numbers := _listed(value)):
        if isinstance(one, bool) or not isinstance(one, int | float | np.integer | np.floating):
            raise OptionError(f"{name} must be a number or a list of numbers, got {value!r}")
    return tuple(float(one) for one in numbers)


def _integers(name: str, value: Any) -> tuple[int, ...]:
    for one in (numbers := _listed(value)):
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise OptionError(f"{name} must be an integer or a list of integers, got {value!r}")
    return tuple(int(one) for one in numbers)


def _nodes(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence | set | frozenset):
        raise OptionError(f"recv_nodes must be a list of node names, got {value!r}")
    if wrong := [name for name in value if not isinstance(name, str)]:
        raise OptionError(f"recv_nodes must be a list of node names, got {wrong[0]!r} in it")
    return tuple(sorted(value))


def overrides_to_json(overrides: Mapping[str, TensorOverride]) -> dict[str, Any]:
    """Return overrides as plain JSON values, one dict a tensor, which `parse_overrides` reads."""
    plain = {}
    for name, override in overrides.items():
        plain[name] = _grid_to_json(override.grid)
        if override.convert is not None:
            readers = {} if override.readers is None else {"recv_nodes": list(override.readers)}
            plain[name]["convert"] = _grid_to_json(override.convert) | readers
    return plain


def _grid_to_json(grid: GridOverride) -> dict[str, Any]:
    plain: dict[str, Any] = {} if grid.dtype is None else {"quant_type": grid.dtype.name}
    for name in (*_SHARED[1:], *_LISTS):
        if (value := getattr(grid, name)) is not None:
            plain[name] = list(value) if isinstance(value, tuple) else value
    return plain
