"""A ranged reader is one that can be set to a part of its samples, as onnxruntime's strided calibration does it.

    set_range(start, end)     get_next() begins with sample `start` and returns None after sample `end - 1`
    len(reader)               how many samples there are

Source: `CalibrationDataReader` of onnxruntime.quantization 1.31.1, calibrate.py, and its use for `CalibStridedMinMax`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from quantlab.data.signature import Array, Signature
from quantlab.data.sources import Item, arrays_of
from quantlab.errors import DataError


class Ranged:
    """A source out of a reader with `get_next`, `set_range` and a length.

    Invariants:
        * Samples that are not picked are not pulled.
        * Picks with gaps may be read by several threads; each sample is then fetched at once.

    Args:
        reader: The reader.
        count: Its length.
        signature: Names the arrays of tuples.
        name: What it is, for error texts.
    """

    repeatable = concurrent = True

    def __init__(self, reader: Any, count: int, signature: Signature, name: str) -> None:
        self.name, self.count = name, count
        self._reader, self._signature = reader, signature
        self._alone = threading.Lock()

    def __reduce__(self) -> tuple[type[Ranged], tuple[Any, int, Signature, str]]:
        return Ranged, (self._reader, self.count, self._signature, self.name)

    def read(self, pick: range) -> Iterator[Item]:
        """Yield the picked samples.

        A pass over everything ends where the reader ends: one whose `get_next` hands out several samples at a time does
        so before its length.

        Raises:
            DataError: The reader gives nothing, or not the part that it is set to.
        """
        if pick.step == 1 and pick.start == 0 and pick.stop >= self.count:
            yield from self._everything()
            return
        pick = range(pick.start, min(pick.stop, self.count), pick.step)
        values = self._run(pick) if pick.step == 1 else (self._one(index) for index in pick)
        for index, value in zip(pick, values, strict=False):
            yield Item(index=index, arrays=self._arrays(value, index))

    def _everything(self) -> Iterator[Item]:
        self._reader.set_range(0, self.count)
        index = -1
        for index, value in enumerate(iter(self._reader.get_next, None)):
            yield Item(index=index, arrays=self._arrays(value, index))
        if index < 0:
            raise DataError(
                f"no data: {self.name} gave nothing after set_range(0, {self.count}); give some samples, and let "
                "set_range begin anew each time"
            )

    def _run(self, pick: range) -> Iterator[object]:
        self._reader.set_range(pick.start, pick.stop)
        for _ in pick:
            yield self._reader.get_next()

    def _one(self, index: int) -> object:
        with self._alone:
            self._reader.set_range(index, index + 1)
            return self._reader.get_next()

    def _arrays(self, value: object, index: int) -> Mapping[str, Array]:
        if value is None:
            raise DataError(
                f"{self.name} ends before sample {index}, although its length is {self.count}: after "
                "set_range(start, end), get_next() has to return the samples start to end - 1, one at a time"
            )
        return arrays_of(value, self._signature, f"sample {index}")


def has_ranges(reader: Any, count: int | None) -> bool:
    """Tell whether a reader can be set to a part of its samples.

    Args:
        reader: Anything with `get_next`.
        count: Its length, None where it has none.

    Returns:
        Whether it has a `set_range` of its own: that of onnxruntime's base class for readers raises
        `NotImplementedError`, which only a call shows. The reader is left set to all its samples.
    """
    if not count or not callable(getattr(reader, "set_range", None)):
        return False
    try:
        reader.set_range(0, count)
    except NotImplementedError:
        return False
    return True
