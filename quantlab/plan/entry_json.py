"""Entries of a plan as JSON values that a person can edit: written plainly, and read back with every field checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from math import inf, isfinite
from typing import Any, TypeVar, cast, get_args

import numpy as np

from quantlab.arrays import QParams, QuantSpec, Range
from quantlab.errors import OptionError, nearest
from quantlab.plan.entries import Conversion, NodePlan, Status, TensorPlan
from quantlab.plan.recipe import Format
from quantlab.plan.wishes import Role

T = TypeVar("T")


def read_entry(kind: str, name: str, value: Any, reader: Callable[[Any], T]) -> T:
    """Read one entry and put its name into what goes wrong.

    Args:
        kind: `"tensor"`, `"node"` or `"field"`.
        name: Name of the entry.
        value: Its JSON value.
        reader: Reads such values.

    Returns:
        What the reader returned.

    Raises:
        OptionError: The value is not what the reader wants.
    """
    try:
        return reader(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(f"{kind} {name!r} in the plan cannot be read: {error}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any, each: Callable[[Any], bool], size: int | None = None) -> bool:
    return isinstance(value, list) and (size is None or len(value) == size) and all(map(each, value))


_PLAIN = ("role", "dtype", "reason", "like", "factor", "absorbs", "range_of", "on_converted", "source")
_PAIRS = ("product", "within", "fixed", "readers", "ends")
_DEFAULTS = {entry.name: entry.default for entry in fields(TensorPlan)}
_SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "role": (lambda value: value in get_args(Role), f"one of {', '.join(get_args(Role))}"),
    "dtype": (lambda value: value in ("float16", "float32", "float64"), "float16, float32 or float64"),
    "spec": (lambda value: isinstance(value, dict), "an object"),
    "factor": (_is_number, "a number"),
    "product": (lambda value: _is_list(value, _is_text, 2), "two names"),
    "readers": (lambda value: _is_list(value, _is_text), "a list of names"),
    "fixed": (lambda value: _is_list(value, _is_number, 2), "two numbers"),
    "within": (lambda value: _is_list(value, lambda end: end is None or _is_number(end), 2), "two numbers or nulls"),
    "ends": (lambda value: _is_list(value, lambda end: end is None or _is_number(end), 2), "two numbers or nulls"),
    "on_converted": (lambda value: isinstance(value, bool), "true or false"),
    "convert": (lambda value: isinstance(value, dict), "an object"),
    "range": (lambda value: isinstance(value, list) and len(value) == 2, "two ends, lower first"),
    "status": (lambda value: value in get_args(Status), f"one of {', '.join(get_args(Status))}"),
} | dict.fromkeys(("reason", "like", "absorbs", "range_of", "source", "op"), (_is_text, "a text"))
"""What a field of an entry must look like, and how to say so."""


def _check_fields(plain: Any, known: Iterable[str], needed: Iterable[str]) -> None:
    """Refuse an entry with a field that is unknown, missing or of the wrong form."""
    if not isinstance(plain, dict):
        raise ValueError(f"it must be an object, got {plain!r}")
    known = sorted(known)
    for name, value in plain.items():
        if name not in known:
            raise ValueError(f"unknown field {name!r}{nearest(name, known)} (allowed: {', '.join(known)})")
        check, words = _SHAPES.get(name, (lambda _: True, ""))
        if not check(value):
            raise ValueError(f"{name} must be {words}, got {value!r}")
    if missing := [name for name in needed if name not in plain]:
        raise ValueError(f"field {missing[0]!r} is missing")


def node_from_json(plain: Any) -> NodePlan:
    """Read a node's entry."""
    fields = ("op", "status", "reason")
    _check_fields(plain, fields, fields)
    return NodePlan(**plain)


def least_from_json(plain: Any) -> float | None:
    """Read the least width of ranges."""
    if plain is not None and not (_is_number(plain) and plain >= 0):
        raise ValueError(f"it must be a number of at least 0, or null, got {plain!r}")
    return cast("float | None", plain)


def format_from_json(plain: Any) -> Format:
    """Read the format that the model is written in."""
    if plain not in get_args(Format):
        raise ValueError(f"it must be one of {', '.join(get_args(Format))}, got {plain!r}")
    return cast("Format", plain)


def notes_from_json(plain: Any) -> tuple[str, ...]:
    """Read the plan's notes."""
    if not _is_list(plain, _is_text):
        raise ValueError(f"it must be a list of texts, got {plain!r}")
    return tuple(plain)


def tensor_to_json(tensor: TensorPlan, *, numbers: bool = True) -> dict[str, Any]:
    """Return a tensor's entry as plain JSON values; fields that keep their default are left out, numbers if asked."""
    plain: dict[str, Any] = {"role": tensor.role, "spec": tensor.spec.to_json()}
    for name in (*_PLAIN, *_PAIRS):
        if (value := getattr(tensor, name)) != _DEFAULTS[name]:
            plain[name] = value
    if tensor.within is not None:
        # JSON knows no infinity; an open end is null.
        plain["within"] = [end if isfinite(end) else None for end in tensor.within]
    if tensor.convert is not None:
        plain["convert"] = _conversion_to_json(tensor.convert)
    return plain | _numbers_to_json(tensor) if numbers else plain


def _numbers_to_json(entry: TensorPlan | Conversion) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if entry.values is not None:
        plain["range"] = [entry.values.lo.tolist(), entry.values.hi.tolist()]
    if entry.qparams is not None:
        plain["scale"] = entry.qparams.scale.tolist()
        plain["zero_point"] = entry.qparams.zero_point.tolist()
    return plain


def _conversion_to_json(second: Conversion) -> dict[str, Any]:
    plain: dict[str, Any] = {"spec": second.spec.to_json()}
    for name in ("readers", "ends"):
        if (value := getattr(second, name)) is not None:
            plain[name] = list(value)
    return plain | _numbers_to_json(second)


def _conversion_from_json(plain: Any, kind: np.dtype[Any]) -> Conversion:
    _check_fields(plain, ("spec", "readers", "ends", "range", "scale", "zero_point"), ("spec",))
    spec = QuantSpec.from_json(plain["spec"])
    values, qparams = _numbers_from_json(plain, spec, kind)
    pairs = {name: tuple(plain[name]) for name in ("readers", "ends") if name in plain}
    return Conversion(spec=spec, values=values, qparams=qparams, **cast(Any, pairs))


def _numbers_from_json(plain: Any, spec: QuantSpec, kind: np.dtype[Any]) -> tuple[Range | None, QParams | None]:
    ends = [np.asarray(end, kind) for end in plain.get("range", ())]
    qparams = None
    if ("scale" in plain) != ("zero_point" in plain):
        raise ValueError("scale and zero_point come together: give both or neither")
    if "scale" in plain:
        scale = np.asarray(plain["scale"], kind)
        qparams = QParams(scale=scale, zero_point=np.asarray(plain["zero_point"], np.int64), spec=spec)
    return Range(*ends) if ends else None, qparams


def tensor_from_json(plain: Any) -> TensorPlan:
    """Read what `tensor_to_json` wrote, edited or not; a ValueError says what is wrong."""
    _check_fields(plain, ("spec", "convert", "range", "scale", "zero_point", *_PLAIN, *_PAIRS), ("role", "spec"))
    spec = QuantSpec.from_json(plain["spec"])
    values = {name: plain[name] for name in _PLAIN if name in plain}
    pairs = {name: tuple(plain[name]) for name in _PAIRS if name in plain}
    if "within" in pairs:
        lowest, highest = pairs["within"]
        pairs["within"] = (-inf if lowest is None else lowest, inf if highest is None else highest)
    kind = np.dtype(plain.get("dtype", "float32"))
    ends, qparams = _numbers_from_json(plain, spec, kind)
    if "convert" in plain:
        values["convert"] = _conversion_from_json(plain["convert"], kind)
    return TensorPlan(spec=spec, values=ends, qparams=qparams, **cast(Any, values | pairs))
