"""How long work reports on itself: it walks its items through a `Track`, which may draw a bar around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


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
