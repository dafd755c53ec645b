"""How long work reports on itself: it walks its items through a `Track`, which may draw a bar around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import Protocol, TypeVar

T = TypeVar("T")


def known_total(items: Iterable[object]) -> int | None:
    """Return how many items there are, as far as they say so themselves, without pulling any."""
    return length_hint(items, 0) or None


class Track(Protocol):
    """Hands on items one by one and may show how many are done."""

    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Yield every item.

        Args:
            items: What is being worked through.
            what: What is being done, in a few words.
            total: How many items there are, or None if nobody knows.
        """
        ...


def quiet(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield every item and show nothing."""
    yield from items
