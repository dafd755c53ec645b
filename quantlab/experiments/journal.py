"""A journal is a file of JSON lines, to which each finished piece of work is added at once.

A process that is killed leaves at most a torn last line; whoever opens the journal again skips it and writes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Journal:
    """Lines in a file.

    Attributes:
        path: The file; it need not exist.
    """

    path: Path

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield every whole line; what was torn by the end of a process is left out.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     journal = Journal(path=Path(folder) / "journal.jsonl")
            ...     journal.add({"a": 1})
            ...     with journal.path.open("a") as file:
            ...         _ = file.write('{"a": 2, "b')
            ...     journal.add({"a": 3})
            ...     list(journal.lines())
            [{'a': 1}, {'a': 3}]
        """
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(found, dict):
                yield found

    def add(self, line: dict[str, Any]) -> None:
        """Write a line so that it is on the disk when this returns."""
        with self.path.open("ab+") as file:
            torn = file.tell() and _last_byte(file) != b"\n"
            file.write(b"\n" * bool(torn) + json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return bytes(file.read(1))
