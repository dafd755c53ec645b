"""Where the command line writes: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from quantlab.cli.memory import memory
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


class Rate(ProgressColumn):
    """Shows how many samples are done in a second."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return `281/s`, or nothing before there is a rate."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s" if speed < 100 else f"{speed:.0f}/s")


class MemoryInUse(ProgressColumn):
    """Shows how much memory the process holds, and has held at most."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return `312/340 MB`, or what of it the system tells."""
        now = memory()
        return Text("/".join(_megabytes(size) for size in (now.resident, now.peak) if size is not None) + " MB")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f}"


def done(what: str, samples: float, seconds: float) -> str:
    """Say in one line what was done: how many samples, how fast, in how much memory.

    Args:
        what: What was done, as the bar says it.
        samples: How many samples.
        seconds: How long it took.

    Returns:
        Such as `calibrating 23 tensors: 898 samples in 3.2 s (281/s), at most 340 MB`.
    """
    rate = f" ({samples / seconds:.3g}/s)" if seconds else ""
    peak = memory().peak
    held = "" if peak is None else f", at most {_megabytes(peak)} MB"
    return f"{what}: {samples:.0f} samples in {seconds:.1f} s{rate}{held}"


@contextmanager
def progress(file: TextIO | None = None, *, samples_per_batch: int = 1) -> Iterator[Track]:
    """Hand out a Track that draws a bar on a terminal, and one that shows nothing elsewhere.

    Args:
        file: Where to draw; standard error by default.
        samples_per_batch: How many samples one item stands for.

    Yields:
        The Track. The bar is gone when the block ends, and a line for each piece of work stands in its place.
    """
    file = file or sys.stderr
    # Asked of the file itself: rich takes FORCE_COLOR for a terminal, and log files would fill with bars.
    if not file.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield quiet
        return
    what = TextColumn("{task.description}", markup=False)
    columns = (what, BarColumn(bar_width=12), Samples(), Rate(), TimeRemainingColumn(), MemoryInUse())
    console = Console(file=file, force_terminal=True, markup=False, highlight=False, emoji=False)
    lines: list[str] = []
    with Progress(*columns, console=console, transient=True) as bars:

        def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
            task = bars.add_task(what, total=None if total is None else total * samples_per_batch)
            for item in items:
                yield item
                bars.advance(task, samples_per_batch)
            bars.update(task, total=bars.tasks[task].completed)
            lines.append(done(what, bars.tasks[task].completed, bars.tasks[task].elapsed or 0.0))

        yield track
    for line in lines:
        console.print(line, style="dim", soft_wrap=True)


def write_json(plain: Any) -> None:
    """Write plain values as JSON on standard output; numbers that JSON does not know become null."""
    sys.stdout.write(json.dumps(_finite(plain), indent=2, allow_nan=False) + "\n")


def _finite(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
