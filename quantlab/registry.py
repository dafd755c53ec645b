"""A registry is a table from name to entry that fills itself from the modules of one package on first look-up."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from quantlab.errors import OptionError, nearest

T = TypeVar("T")
E = TypeVar("E")
D = TypeVar("D")


class Registry(Mapping[str, T], Generic[T]):
    """Names and what they stand for, in the order in which they were registered.

    Invariants:
        * Every module of `package` has been imported before the first look-up, so that adding an entry means adding a
          file.
        * A name stands for one entry; registering it twice is refused unless inside `scoped`.

    Args:
        kind: What an entry is, for error texts ("range rule").
        package: Dotted name of the package whose modules hold the entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._filled = False

    def register(self, *names: str) -> Callable[[E], E]:
        """Return a decorator that enters what it decorates under each of `names`.

        Args:
            names: One or more names, such as operator types or `"percentile"`.

        Returns:
            The decorator; it hands back what it was given.

        Raises:
            OptionError: A name is taken.
        """

        def enter(entry: E) -> E:
            for name in names:
                if name in self._entries:
                    raise OptionError(f"{self.kind} {name!r} is registered already; choose another name")
                self._entries[name] = entry  # type: ignore[assignment]  # E is T; the decorator keeps the precise type
            return entry

        return enter

    @contextmanager
    def scoped(self, **entries: T) -> Iterator[None]:
        """Add or replace entries inside a `with` block only.

        Args:
            entries: Name to entry.

        Example:
            >>> table = Registry[int]("number", "quantlab.arrays")
            >>> with table.scoped(one=1):
            ...     table["one"]
            1
            >>> "one" in table
            False
        """
        self._fill()
        before = dict(self._entries)
        self._entries.update(entries)
        try:
            yield
        finally:
            self._entries = before

    def _fill(self) -> None:
        if self._filled:
            return
        self._filled = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")

    def __getitem__(self, name: str) -> T:
        self._fill()
        if name not in self._entries:
            allowed = ", ".join(sorted(self._entries))
            raise OptionError(f"unknown {self.kind} {name!r}{nearest(name, self._entries)} (allowed: {allowed})")
        return self._entries[name]

    def get(self, name: str, default: D | None = None) -> T | D | None:  # type: ignore[override]
        """Return the entry, or `default` where there is none."""
        self._fill()
        return self._entries.get(name, default)

    def __contains__(self, name: object) -> bool:
        self._fill()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(self._entries)

    def __len__(self) -> int:
        self._fill()
        return len(self._entries)
