"""What onnxruntime.quantization has and quantlab has not yet: it can be imported, and says so once it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from quantlab.errors import QuantlabError

PEER = "onnxruntime.quantization"


def refuse(name: str, instead: str = "") -> NoReturn:
    """Refuse a call of something that is not built yet.

    Args:
        name: What was called.
        instead: What can be used meanwhile; that of the peer where there is nothing here.

    Raises:
        QuantlabError: Always.

    Example:
        >>> refuse("f")
        Traceback (most recent call last):
        quantlab.errors.QuantlabError: f is not built yet in quantlab: use that of onnxruntime.quantization
    """
    raise QuantlabError(f"{name} is not built yet in quantlab: {instead or f'use that of {PEER}'}")


def unbuilt(name: str, module: str, instead: str = "") -> Any:
    """Make something that stands for a class or function of the peer's, and refuses every call.

    Args:
        name: Its name.
        module: `__name__` of the module that it is in.
        instead: What can be used meanwhile.

    Returns:
        A class that cannot be instantiated; calling it is what calling the function would be.

    Example:
        >>> unbuilt("f", __name__, "use g")(1)
        Traceback (most recent call last):
        quantlab.errors.QuantlabError: f is not built yet in quantlab: use g
    """

    def new(cls: type, *args: Any, **options: Any) -> NoReturn:
        refuse(name, instead)

    doc = f"Not built yet: every use raises a QuantlabError, which says {instead or f'to use that of {PEER}'!r}."
    return type(name, (), {"__new__": new, "__doc__": doc, "__module__": module})


def refusing(name: str, instead: str = "") -> Callable[..., NoReturn]:
    """Make a function or method that refuses every call.

    Args:
        name: Its name.
        instead: What can be used meanwhile.
    """

    def call(*args: Any, **options: Any) -> NoReturn:
        refuse(name, instead)

    call.__name__ = name.rpartition(".")[2]
    call.__doc__ = f"Refuse: not built yet; {instead or f'use that of {PEER}'}."
    return call
