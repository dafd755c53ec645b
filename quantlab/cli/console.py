"""Where the command line writes: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from quantlab.progress import Track, quiet

T = TypeVar("T")

UNLIMITED = 10_000
"""Width in columns where nobody looks: a pipe gets every name whole and one line a row."""

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "dim"}


def output() -> Console:
    """Return the console for results: as wide as the terminal, or as wide as it takes where there is none."""
    return _console(sys.stdout)


def messages() -> Console:
    """Return the console on standard error."""
    return _console(sys.stderr)


def _console(file: TextIO) -> Console:
    width = None if file.isatty() or "COLUMNS" in os.environ else UNLIMITED
    # Tensor names contain brackets and numbers: neither markup nor highlighting may read anything into them.
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def say(kind: str, message: str) -> None:
    """Print one line such as `error: ...` on standard error.

    Args:
        kind: `"error"`, `"warning"` or `"note"`.
        message: What there is to say; line breaks in it become spaces.
    """
    line = Text.assemble((f"{kind}:", STYLES[kind]), " ", " ".join(message.split()))
    console = messages()
    with console.capture() as drawn:
        console.print(line, soft_wrap=True)
    # Written as text: while a bar is drawn, standard error is rich's own, which puts the line above the bar.
    sys.stderr.write(drawn.get())


class Samples(ProgressColumn):
    """Shows how many samples are done, and of how many where that is known."""

    def render(self, task: Task) -> Text:
        """Return `120/898 samples`, or `120 samples`."""
        total = f"/{task.total:.0f}" if task.total is not None else ""
        return Text(f"{task.completed:.0f}{total} samples")


@contextmanager
def progress(file: TextIO | None = None, *, samples_per_batch: int = 1) -> Iterator[Track]:
    """Hand out a Track that draws a bar on a terminal, and one that shows nothing elsewhere.

    Args:
        file: Where to draw; standard error by default.
        samples_per_batch: How many samples one item stands for.

    Yields:
        The Track. The bar is gone when the block ends.
    """
    file = file or sys.stderr
    # Asked of the file itself: rich takes FORCE_COLOR for a terminal, and log files would fill with bars.
    if not file.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield quiet
        return
    what = TextColumn("{task.description}", markup=False)
    columns = (what, BarColumn(bar_width=20), Samples(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=file, force_terminal=True), transient=True) as bars:

        def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
            task = bars.add_task(what, total=None if total is None else total * samples_per_batch)
            for item in items:
                yield item
                bars.advance(task, samples_per_batch)
            bars.update(task, total=bars.tasks[task].completed)

        yield track
