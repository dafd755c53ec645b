"""Tables fit the terminal: long names lose their middle, prose is wrapped, and numbers always stay whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = 2
LEAST_NAME = 14
LEAST_PROSE = 28
Cell = str | Text


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        header: Its heading.
        kind: `"name"` may be shortened in the middle, `"prose"` is wrapped; `"number"` stands to the right and, like
            `"word"`, is never cut.
        optional: Whether it is left out where there is no room.
    """

    header: str
    kind: Literal["name", "word", "number", "prose"] = "word"
    optional: bool = False


def show(console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table within the width of a console.

    Args:
        console: Where to print.
        title: A line above the table; empty for none.
        columns: The columns.
        rows: One cell a column.
    """
    widths = _fit(console.width, columns, [_widest(index, columns, rows) for index in range(len(columns))])
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), title_justify="left")
    shown = [index for index, width in enumerate(widths) if width]
    for index in shown:
        column = columns[index]
        wrapped = column.kind == "prose"
        table.add_column(
            Text(column.header, style="bold"),
            justify="right" if column.kind == "number" else "left",
            width=widths[index],
            no_wrap=not wrapped,
            overflow="fold" if wrapped else "ellipsis",
        )
    for row in rows:
        table.add_row(*(_cell(row[index], columns[index], widths[index]) for index in shown))
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)
    if len(shown) < len(columns):
        left_out = " and ".join(column.header for index, column in enumerate(columns) if index not in shown)
        hint = f"({left_out}: no room at {console.width} columns; widen the terminal, or pipe)"
        console.print(Text(hint, style="dim"), soft_wrap=True)


def _widest(index: int, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> int:
    cells = [columns[index].header, *(str(row[index]) for row in rows)]
    return max(cell_len(cell) for cell in cells)


def _fit(room: int, columns: Sequence[Column], natural: Sequence[int]) -> list[int]:
    """Choose widths, 0 for a column that is left out.

    Prose gives way first, then names, each down to its least width; as long as that is not enough, the last optional
    column goes.
    """
    kept = list(range(len(columns)))
    while True:
        widths = [natural[index] if index in kept else 0 for index in range(len(columns))]
        for kind, least in (("prose", LEAST_PROSE), ("name", LEAST_NAME)):
            for index in kept:
                if columns[index].kind == kind:
                    excess = max(0, _total(widths) - room)
                    widths[index] = max(min(widths[index], least), widths[index] - excess)
        optional = [index for index in kept if columns[index].optional]
        if _total(widths) <= room or not optional:
            return widths
        kept.remove(optional[-1])


def _total(widths: Sequence[int]) -> int:
    shown = [width for width in widths if width]
    return sum(shown) + GAP * (len(shown) - 1)


def _cell(cell: Cell, column: Column, width: int) -> Text:
    text = cell if isinstance(cell, Text) else Text(cell)
    return Text(shortened(text.plain, width), style=text.style) if column.kind == "name" else text


def shortened(name: str, width: int) -> str:
    """Return a name within a width; its beginning and end tell most, so the middle goes.

    Example:
        >>> shortened("/features/features.0/conv/Conv_output_0", 21)
        '/features/…v_output_0'
    """
    if cell_len(name) <= width or width < 3:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[head + 1 - width :]}"


def counted(count: int, thing: str) -> str:
    """Return a number and what it counts.

    Example:
        >>> counted(1, "tensor"), counted(1200, "sample")
        ('1 tensor', '1,200 samples')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def bytes_text(count: int) -> str:
    """Return a number of bytes as people read it.

    Example:
        >>> bytes_text(65_186), bytes_text(512), bytes_text(3 * 2**20)
        ('63.7 KiB', '512 B', '3.0 MiB')
    """
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 2**power:
            return f"{count / 2**power:.1f} {unit}"
    return f"{count} B"


def decibels(value: float) -> Text:
    """Return a signal-to-noise ratio in dB, coloured where it is low; a tensor without error has no number."""
    if math.isinf(value) and value > 0:
        return Text("exact")
    style = "bold red" if not value >= 15 else "yellow" if value < 30 else ""
    return Text(f"{value:.2f}", style=style)


def number(value: float, digits: int = 5) -> str:
    """Return a number with some significant digits."""
    return f"{value:.{digits}g}"


def numbers(values: npt.NDArray[Any]) -> str:
    """Return one number, or for many how many there are and their ends.

    Example:
        >>> import numpy as np
        >>> numbers(np.array(0.25)), numbers(np.array([0.5, 0.25, 1.0]))
        ('0.25', '3: 0.25 .. 1')
    """
    if values.size == 1:
        return number(values.item())
    return f"{values.size}: {number(values.min(), 3)} .. {number(values.max(), 3)}"


def zeros(values: npt.NDArray[Any]) -> str:
    """Return a zero point; one word where all channels have the same."""
    return str(values.flat[0]) if (values == values.flat[0]).all() else f"{values.min()} .. {values.max()}"
