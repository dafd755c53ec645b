"""What values of `extra_options` must be: one reader for each kind, which returns a typed value or refuses by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quantlab.errors import OptionError
from quantlab.plan import TensorOverride, parse_overrides
from quantlab.plan.overrides import Kind

Reader = Callable[[str, Any], Any]
"""From a place to name in errors, and a raw value, to a typed one."""


def _refusal(where: str, wanted: str, got: Any) -> OptionError:
    return OptionError(f"{where} must be {wanted}, got {got!r}")


def flag(where: str, value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise _refusal(where, "true or false", value)
    return value


def unless(where: str, value: Any) -> bool:
    """Read the opposite of a flag."""
    return not flag(where, value)


def maybe(read: Reader) -> Reader:
    """Return a reader that takes None too."""
    return lambda where, value: None if value is None else read(where, value)


def number(where: str, value: Any) -> float:
    """Read a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise _refusal(where, "a finite number of at least 0", value)
    return float(value)


def count(where: str, value: Any) -> int:
    """Read an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _refusal(where, "an integer of at least 1", value)
    return value


def block_size(where: str, value: Any) -> int | None:
    """Read a block size; 0 means none there."""
    return None if value is None or (value == 0 and not isinstance(value, bool)) else count(where, value)


def operator_types(where: str, value: Any) -> tuple[str, ...]:
    """Read a list of operator types."""
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if not listed or not all(isinstance(name, str) for name in value):
        raise _refusal(where, "a list of operator types", value)
    return tuple(value)


def matmul_axis(where: str, value: Any) -> int | None:
    """Read operator type to axis; only MatMul's counts, for the channels of the others lie where they lie."""
    if not isinstance(value, Mapping):
        raise _refusal(where, "a dict from operator type to axis", value)
    for op, axis in value.items():
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise _refusal(f"{where}[{op!r}]", "an integer", axis)
        if op != "MatMul" and axis not in _CHANNEL_AXES.get(op, ()):
            raise OptionError(
                f"{where}[{op!r}] is {axis}: only MatMul leaves a choice of axis (allowed besides: Conv 0, "
                "ConvTranspose 1, Gemm 0 or 1, where their channels lie anyway)"
            )
    axis = value.get("MatMul")
    return None if axis is None else int(axis)


_CHANNEL_AXES = {"Conv": (0,), "ConvTranspose": (1,), "Gemm": (0, 1)}


def weight_overrides(where: str, value: Any) -> dict[str, TensorOverride]:
    """Read overrides of constants."""
    return overrides(where, value, "weight")


def activation_overrides(where: str, value: Any) -> dict[str, TensorOverride]:
    """Read overrides of activations."""
    return overrides(where, value, "activation")


def overrides(where: str, value: Any, kind: Kind | None = None) -> dict[str, TensorOverride]:
    """Read tensor to override."""
    try:
        return parse_overrides(value, kind=kind)
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from error


def not_done(advice: str) -> Reader:
    """Return a reader of something that may be said to be off, and nothing else."""

    def read(where: str, value: Any) -> None:
        if value:
            raise OptionError(f"{where} is not there yet: {advice}")

    return read


def anything(where: str, value: Any) -> None:
    """Accept what changes nothing."""
