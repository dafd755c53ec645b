"""The choice between a definition and its twin: asked for by a `with` block or the environment, or by the array's size.

The twin of a definition is the function of its name in `quantlab_kernels.compiled`.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType, ModuleType
from typing import Literal, ParamSpec, TypeAlias, TypeVar, cast, get_args

from quantlab.errors import OptionError, nearest
from quantlab_kernels import reference

P = ParamSpec("P")
R = TypeVar("R")
Choice: TypeAlias = Literal["auto", "numpy", "numba"]

VARIABLE = "QUANTLAB_KERNELS"
"""The environment variable that chooses for a whole process."""

_CHOICES = get_args(Choice)
_asked: ContextVar[Choice | None] = ContextVar("quantlab_kernels", default=None)
_crossover: dict[str, int] = {}

CROSSOVER: Mapping[str, int] = MappingProxyType(_crossover)
"""Every kernel and the number of elements from which `auto` prefers its twin.

Below it the two take about the same few microseconds, and a program that only ever meets small arrays never pays for
importing Numba.
"""


def choice() -> Choice:
    """Return what is asked for here: "auto", "numpy" or "numba".

    Raises:
        OptionError: The environment variable holds something else.

    Example:
        >>> with using("numpy"):
        ...     choice()
        'numpy'
    """
    return _asked.get() or _of_process()


@contextmanager
def using(kernels: Choice) -> Iterator[None]:
    """Choose the kernels inside a `with` block, for this thread or task only.

    Args:
        kernels: "numpy" for the definitions, "numba" for the twins whatever the size, "auto" for whichever is faster.

    Raises:
        OptionError: The name is unknown, or "numba" is asked for and cannot be imported.

    Example:
        >>> with using("numpy"):
        ...     active().__name__
        'quantlab_kernels.reference'
    """
    parsed = _parse(kernels, "kernels")
    if parsed == "numba":
        _require_twins()
    token = _asked.set(parsed)
    try:
        yield
    finally:
        _asked.reset(token)


def active() -> ModuleType:
    """Return the module whose functions run on large arrays: `quantlab_kernels.reference` or `.compiled`.

    Raises:
        OptionError: The environment variable is wrong, or "numba" is asked for and cannot be imported.
    """
    asked = choice()
    if asked == "numba":
        return _require_twins()
    return reference if asked == "numpy" else (_twins() or reference)


def chosen(definition: Callable[P, R], *, large: int = 1_000) -> Callable[P, R]:
    """Make the kernel of a definition: the same function, except that its twin may run in its place.

    Args:
        definition: A function of `quantlab_kernels.reference`; the size of its first argument, an array, counts.
        large: How many elements make an array large, so that `auto` takes the twin; goes into `CROSSOVER`.

    Returns:
        A function with the signature, the types and the documentation of the definition.
    """
    name = definition.__name__
    first = next(iter(definition.__annotations__))
    _crossover[name] = large

    @functools.wraps(definition)
    def kernel(*args: P.args, **kwargs: P.kwargs) -> R:
        asked = _asked.get() or _of_process()  # choice(), without the call
        # What has no size is no array: the definition says so.
        if (asked == "auto" and getattr(args[0] if args else kwargs.get(first), "size", 0) < large) or asked == "numpy":
            return definition(*args, **kwargs)
        module = _require_twins() if asked == "numba" else _twins()
        run: Callable[P, R] = definition if module is None else getattr(module, name)
        return run(*args, **kwargs)

    kernel.__module__ = "quantlab.kernels"  # where pickle finds it again
    return kernel


def _of_process() -> Choice:
    try:
        name = os.environ[VARIABLE]  # `get` takes longer, and every call comes here
    except KeyError:
        return "auto"
    return _parse(name, VARIABLE) if name else "auto"


def _parse(name: str, what: str) -> Choice:
    if name not in _CHOICES:
        raise OptionError(f"{what}={name!r} is unknown{nearest(name, _CHOICES)} (allowed: {', '.join(_CHOICES)})")
    return cast(Choice, name)


@functools.cache
def _twins() -> ModuleType | None:
    """Import the twins; None where Numba is missing or does not work with the installed NumPy."""
    try:
        return importlib.import_module("quantlab_kernels.compiled")
    except ImportError:
        return None


def _require_twins() -> ModuleType:
    module = _twins()
    if module is None:
        raise OptionError(
            "the Numba kernels are asked for but Numba cannot be imported; install it with "
            f"pip install 'quantlab-onnx[numba]', or choose {VARIABLE}=auto or numpy"
        )
    return module
