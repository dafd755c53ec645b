"""A table is rows of plain values under headings, written out as the text that its reader wants."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from html import escape
from typing import Any

from quantlab.errors import ShapeError

DIGITS = 6
"""Significant digits of a float where people read it."""


@dataclass(frozen=True)
class Table:
    r"""Rows under headings.

    Invariants: every row has as many cells as there are columns.

    Attributes:
        columns: Headings.
        rows: Cells, each a string, a number, a truth value, or None where there is nothing.

    Raises:
        ShapeError: A row has another number of cells.

    Example:
        >>> print(Table(("tensor", "SQNR dB"), (("a|b", 31.25), ("c", None))).to_markdown(), end="")
        | tensor | SQNR dB |
        | --- | --- |
        | a\|b | 31.25 |
        | c |  |
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        """Check the widths."""
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ShapeError(
                    f"row {index} has {len(row)} cells for {len(self.columns)} columns: {', '.join(self.columns)}"
                )

    def to_markdown(self) -> str:
        """Return a Markdown table with a line break at its end; pipes and line breaks in cells are escaped."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "".join("| " + " | ".join(map(_markdown, line)) + " |\n" for line in lines)

    def to_csv(self) -> str:
        """Return comma-separated values under a line of headings; floats keep all digits, None is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()

    def to_json(self) -> list[dict[str, Any]]:
        """Return one mapping from heading to cell a row; floats that are not finite become None."""
        return [dict(zip(self.columns, map(_finite, row), strict=True)) for row in self.rows]

    def to_html(self) -> str:
        """Return an HTML table without any style; everything in it is escaped."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_text(cell))}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.{DIGITS}g}" if isinstance(cell, float) else str(cell)


def _markdown(cell: Any) -> str:
    return " ".join(_text(cell).replace("\\", "\\\\").replace("|", "\\|").splitlines())


def _finite(cell: Any) -> Any:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
