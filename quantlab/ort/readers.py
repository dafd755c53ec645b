"""The class that readers of calibration data are made of."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Self


class CalibrationDataReader(metaclass=abc.ABCMeta):
    """A source of samples, one call at a time; anything with a method `get_next` counts as one.

    A reader may have `__len__` and `set_range` too, for samples by number, and `rewind`, which begins anew.

    Example:
        >>> class Ones(CalibrationDataReader):
        ...     def __init__(self):
        ...         self.left = 2
        ...
        ...     def get_next(self):
        ...         self.left -= 1
        ...         return {"x": 1.0} if self.left >= 0 else None
        >>> [sample for sample in Ones()]
        [{'x': 1.0}, {'x': 1.0}]
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        return callable(getattr(subclass, "get_next", None)) or NotImplemented

    @abc.abstractmethod
    def get_next(self) -> Mapping[str, Any] | None:
        """Return the next sample, input name to array, or None at the end."""
        raise NotImplementedError

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Mapping[str, Any]:
        sample = self.get_next()
        if sample is None:
            raise StopIteration
        return sample

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not say how many samples it has")

    def set_range(self, start_index: int, end_index: int) -> None:
        """Let `get_next` return the samples from `start_index` to `end_index - 1`; readers may have it or not."""
        raise NotImplementedError(f"{type(self).__name__} does not know how to begin at a sample")
