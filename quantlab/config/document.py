"""A document is a YAML file as plain values that know which line and key they stand at.

PyYAML is imported when a file is read, and not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from quantlab.errors import OptionError, QuantlabError, nearest

T = TypeVar("T")


PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
"""What YAML calls mappings and lists that are nothing else."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A value of a document, and where it stands.

    Attributes:
        value: A plain value; the entries of a mapping or list are entries again.
        file: Name of the document.
        line: Line, from 1.
        path: Keys from the top, such as `"trials[2].per_channel"`; empty for the whole document.
    """

    value: Any
    file: str
    line: int
    path: str

    def refuse(self, why: str) -> NoReturn:
        """Refuse the value.

        Args:
            why: What is wrong, and what is allowed.

        Raises:
            OptionError: Always; the text begins with file, line and key.
        """
        place = f", {self.path}" if self.path else ""
        raise OptionError(f"{self.file}, line {self.line}{place}: {why}")

    def mapping(self, allowed: Collection[str] | None = None) -> dict[str, Entry]:
        """Return the entries of a mapping.

        Args:
            allowed: Keys that may stand in it; None for any.

        Returns:
            Key to entry.

        Raises:
            OptionError: It is no mapping, or has another key; the text gives the nearest.
        """
        if not isinstance(self.value, dict):
            self.refuse(f"this must be a mapping of keys to values, got {self.plain()!r}")
        found: dict[str, Entry] = self.value
        for key, entry in found.items():
            if allowed is not None and key not in allowed:
                entry.refuse(f"unknown key {key!r}{nearest(key, allowed)} (allowed: {', '.join(allowed)})")
        return found

    def items(self) -> list[Entry]:
        """Return the entries of a list.

        Raises:
            OptionError: It is no list.
        """
        if not isinstance(self.value, list):
            self.refuse(f"this must be a list, got {self.plain()!r}")
        found: list[Entry] = self.value
        return found

    def of_kind(self, kind: type[T], words: str) -> T:
        """Return the value if it is of a type; true and false are no numbers.

        Args:
            kind: The type.
            words: What is wanted, for the error text.

        Returns:
            The value.

        Raises:
            OptionError: It is of another type.
        """
        if not isinstance(self.value, kind) or (isinstance(self.value, bool) and kind is not bool):
            self.refuse(f"this must be {words}, got {self.plain()!r}")
        return self.value

    def plain(self) -> Any:
        """Return the value without the places."""
        if isinstance(self.value, dict):
            return {key: entry.plain() for key, entry in self.value.items()}
        if isinstance(self.value, list):
            return [entry.plain() for entry in self.value]
        return self.value


def read(path: Path) -> Entry:
    """Read a YAML file.

    Args:
        path: The file.

    Returns:
        The whole document.

    Raises:
        OptionError: It cannot be read, is no YAML, or has a key twice.
        QuantlabError: PyYAML is not installed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{str(path)!r} cannot be read: {error}") from error
    return parse(text, path.name)


def parse(text: str, file: str) -> Entry:
    """Read a YAML text; see `read`.

    Args:
        text: The text.
        file: What it is called in errors.

    Returns:
        The whole document.

    Raises:
        OptionError: It is no YAML, or has a key twice.
        QuantlabError: PyYAML is not installed.

    Example:
        >>> parse("a: {b: 1}", "x.yaml").mapping()["a"].mapping()["b"]
        Entry(value=1, file='x.yaml', line=1, path='a.b')
    """
    yaml = _yaml()
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise OptionError(f"{file} is empty: give keys and values")
        return _Builder(loader=loader, file=file).entry(node, "")
    except yaml.YAMLError as error:
        raise OptionError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


@dataclass(frozen=True, kw_only=True)
class _Builder:
    """Turns the nodes of one document into entries."""

    loader: Any
    file: str
    flat: set[int] = field(default_factory=set)

    def entry(self, node: Any, path: str) -> Entry:
        line = node.start_mark.line + 1
        if node.id != "scalar" and node.tag not in PLAIN:
            raise OptionError(
                f"{self.file}, line {line}, {path}: the tag {node.tag!r} has no meaning here: take it off"
            )
        if node.id == "mapping":
            value: Any = self.pairs(node, path)
        elif node.id == "sequence":
            value = [self.entry(one, f"{path}[{index}]") for index, one in enumerate(node.value)]
        else:
            value = self.loader.construct_object(node)
        return Entry(value=value, file=self.file, line=line, path=path)

    def pairs(self, node: Any, path: str) -> dict[str, Entry]:
        if id(node) not in self.flat:  # a node with an anchor is met more than once
            self.flat.add(id(node))
            self.check_twice(node, path)
            self.loader.flatten_mapping(node)  # what << brings in goes before the node's own keys, which win
        found = {}
        for key_node, value_node in node.value:
            key = str(self.loader.construct_object(key_node))
            found[key] = self.entry(value_node, f"{path}.{key}" if path else key)
        return found

    def check_twice(self, node: Any, path: str) -> None:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in seen:
                inner = f"{path}.{key}" if path else key
                raise OptionError(
                    f"{self.file}, line {line}, {inner}: this key stands on line {seen[key]} already: keep one"
                )
            seen[key] = line


def _yaml() -> Any:
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        raise QuantlabError("reading a YAML file needs PyYAML: pip install 'quantlab-onnx[cli]'") from error
