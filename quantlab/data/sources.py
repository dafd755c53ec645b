"""A source yields numbered items, each one batch of arrays not yet checked: streamed, by number, or out of stacks."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from quantlab.data.checks import as_array
from quantlab.data.signature import Array, Signature
from quantlab.errors import DataError, QuantlabWarning


@dataclass(frozen=True, kw_only=True)
class Item:
    """One batch on its way from a source.

    Attributes:
        index: Position in the source, from 0.
        arrays: Arrays by input name.
        label: Where it comes from, such as a file; empty when the position says enough.
    """

    index: int
    arrays: Mapping[str, Array]
    label: str = ""

    def where(self, signature: Signature) -> str:
        """Say which item this is, for an error text."""
        return self.label or f"{'batch' if signature.samples_in(self.arrays) > 1 else 'sample'} {self.index}"


class Source(Protocol):
    """Where items come from."""

    @property
    def name(self) -> str:
        """What it is, for an error text."""

    @property
    def repeatable(self) -> bool:
        """Whether it may be read more than once."""

    @property
    def concurrent(self) -> bool:
        """Whether several passes may go on at once, in threads or processes."""

    @property
    def count(self) -> int | None:
        """Number of items, None when the source does not know."""

    def read(self, pick: range) -> Iterator[Item]:
        """Yield the items whose positions stand in `pick`, pulling nothing behind the last of them."""


def arrays_of(value: object, signature: Signature, where: str) -> dict[str, Array]:
    """Give names to what a source handed over: a dict as it is, a tuple or list in the model's order, or one array.

    Args:
        value: A mapping; a tuple or list at least as long as the inputs that must be there, or as all of them; or one
            array when one input must be there.
        signature: What the model wants.
        where: Opening words of an error text.

    Returns:
        Arrays by name, not yet checked against the signature.

    Raises:
        DataError: The value is none of these, or its length does not fit.
    """
    if isinstance(value, Mapping):
        return {str(name): as_array(array, f"input {name!r}, {where}") for name, array in value.items()}
    required = tuple(spec.name for spec in signature.required)
    if not isinstance(value, tuple | list):
        if len(required) > 1:
            raise DataError(
                f"{where}: got one {type(value).__name__}, but the model has {len(required)} inputs; "
                f"give dicts with the keys {signature.listed}"
            )
        value = (value,)
    inputs = signature.names if len(value) == len(signature) + len(signature.labels) else required
    names = (*inputs, *signature.labels)
    if len(value) < len(names):
        raise DataError(
            f"{where}: got {len(value)} arrays for the {len(inputs)} inputs {signature.listed}"
            f"{_and_labels(signature)}; give one array an input, in this order, or a dict"
        )
    if len(value) > len(names):
        warnings.warn(
            f"the data gives {len(value)} arrays at a time and the model has {len(names)} inputs: the "
            f"first are used as {signature.listed}, the others (labels?) are ignored; give dicts to say which is which",
            QuantlabWarning,
            stacklevel=2,
        )
    return {name: as_array(array, f"input {name!r}, {where}") for name, array in zip(names, value, strict=False)}


def _and_labels(signature: Signature) -> str:
    return f" and the labels {', '.join(map(repr, signature.labels))}" if signature.labels else ""


def _unlabelled(_: int) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """A source whose items can be fetched by number: files, sequences.

    It can be sent to another process wherever what it reads from can be; so `get` and `label` are no closures.
    """

    name: str
    count: int
    get: Callable[[int], Mapping[str, Array]]
    label: Callable[[int], str] = _unlabelled
    repeatable: bool = True
    concurrent: bool = True

    def read(self, pick: range) -> Iterator[Item]:
        """Yield the picked items; the others are never fetched."""
        for index in range(pick.start, min(pick.stop, self.count), pick.step):
            yield Item(index=index, arrays=self.get(index), label=self.label(index))


class Stream:
    """A source that can only be read from its beginning: iterables, iterators, readers with `get_next`.

    Invariants:
        * The first pass calls `start`; each later one calls `again` before it, and is refused when that is None.
        * An item is pulled only when somebody asks for it.

    Args:
        name: What it is.
        start: Begins a pass.
        signature: Names the arrays of tuples.
        again: Prepares a further pass; None for a source that can be read once.
        concurrent: Whether a pass leaves another one that is going on alone, as rewinding a reader does not.
        cure: What makes a one-shot source repeatable.
        count: Claimed number of items; used for display only, as such claims are often wrong.
    """

    def __init__(
        self,
        *,
        name: str,
        start: Callable[[], Iterable[object]],
        signature: Signature,
        again: Callable[[], object] | None,
        cure: str = "",
        count: int | None = None,
        concurrent: bool = True,
    ) -> None:
        self.name, self.count, self.repeatable = name, count, again is not None
        self.concurrent = concurrent and self.repeatable
        self._start, self._again, self._cure, self._signature = start, again, cure, signature
        self._passes = 0
        self._length: int | None = None

    def read(self, pick: range) -> Iterator[Item]:
        """Begin a pass over the picked items.

        Raises:
            DataError: A one-shot source is read for the second time; the text tells how to make it repeatable.
        """
        if self._passes:
            if self._again is None:
                raise DataError(
                    f"{self.name} can be read only once, and a second pass over the data was asked for; {self._cure}"
                )
            self._again()
        self._passes += 1
        return self._items(iter(self._start()), pick)

    def _items(self, values: Iterator[object], pick: range) -> Iterator[Item]:
        index = -1
        for index, value in enumerate(values):
            if index in pick:
                yield Item(index=index, arrays=arrays_of(value, self._signature, f"batch {index}"))
            if not pick or index >= pick[-1]:
                return
        self._ended(index + 1)

    def _ended(self, length: int) -> None:
        if length == 0:
            again = "; its rewind() has to start again from the first sample" if self._passes > 1 else ""
            raise DataError(f"no data: {self.name} gave nothing in pass {self._passes}{again or '; give some samples'}")
        if self._length not in (None, length):
            warnings.warn(
                f"{self.name} gave {self._length} batches in one pass and {length} in another: what is measured in "
                "several passes will not fit together; give the same data each time",
                QuantlabWarning,
                stacklevel=2,
            )
        self._length = length


class Column(Protocol):
    """Samples of one input stacked along axis 0, wherever they are kept."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole stack."""

    def opened(self) -> contextlib.AbstractContextManager[Callable[[int, int], Array]]:
        """Open the column; inside, `rows(start, stop)` reads a part of it."""


@dataclass(frozen=True, kw_only=True)
class ArrayColumn:
    """A column in memory, or mapped from a file."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole stack."""
        return self.array.shape

    def opened(self) -> contextlib.AbstractContextManager[Callable[[int, int], Array]]:
        """Slice the array."""
        return contextlib.nullcontext(lambda start, stop: self.array[start:stop])


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How one column is cut into batches.

    Attributes:
        column: Where the rows are.
        rows: Rows a batch; 0 when each row is a whole batch and loses axis 0.
        limit: Rows in use.
    """

    column: Column
    rows: int
    limit: int

    @property
    def count(self) -> int:
        """Number of batches, a smaller last one included."""
        return -(-self.limit // (self.rows or 1))

    def batch(self, rows: Callable[[int, int], Array], index: int) -> Array:
        """Read batch `index`."""
        if self.rows == 0:
            # Indexing a stack of scalars gives a NumPy scalar.
            return np.asarray(rows(index, index + 1)[0])
        return rows(index * self.rows, min((index + 1) * self.rows, self.limit))


@dataclass(frozen=True, kw_only=True)
class Stacked:
    """Columns of stacked samples, cut into batches along axis 0.

    Invariants:
        * Every cut gives the same number of batches.
    """

    name: str
    cuts: Mapping[str, Cut]
    repeatable: bool = True
    concurrent: bool = True

    @property
    def count(self) -> int:
        """Number of batches."""
        return next(iter(self.cuts.values())).count

    def read(self, pick: range) -> Iterator[Item]:
        """Yield the picked batches, one in memory at a time."""
        with contextlib.ExitStack() as stack:
            rows = {name: stack.enter_context(cut.column.opened()) for name, cut in self.cuts.items()}
            for index in range(pick.start, min(pick.stop, self.count), pick.step):
                arrays = {name: cut.batch(rows[name], index) for name, cut in self.cuts.items()}
                yield Item(index=index, arrays=arrays)
