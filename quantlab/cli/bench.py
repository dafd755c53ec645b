"""`quantlab bench`: how long models take on the same inputs, in turns, and what that was measured on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, progress, write_json
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.tables import Column, show
from quantlab.errors import OptionError

if TYPE_CHECKING:
    from quantlab.experiments.bench import BenchReport


@grouped
def bench(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="Models; ratios are to the first.", show_default=False),
    ],
    data: o.OptionalData = None,
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="Timed runs of each model in a round.")] = 10,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Rounds; in each, every model has its turn.")] = 10,
    warm_up: Annotated[
        int, typer.Option(metavar="N", min=0, help="Runs of each model before the timed ones of a round.")
    ] = 3,
    provider: Annotated[str, typer.Option(metavar="NAME", help="Execution provider of onnxruntime.")] = "cpu",
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Size of axis 0 where the models leave it open.", show_default="1"),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N[xN...]",
            help="A symbolic size, or the whole shape of an input. Can be given several times.",
            show_default="1",
        ),
    ] = None,
    fill: Annotated[str, typer.Option(metavar="[random|zeros]", help="What made-up inputs hold.")] = "random",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the random numbers.")] = 0,
    *,
    pictures: Pictures,
    max_samples: o.MaxSamples = None,
    threads: o.Threads = 1,
    each_run: Annotated[bool, typer.Option("--each-run", help="Print a line for each run, and their average.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    json: o.Json = False,
) -> None:
    """Time models side by side on one provider and one set of inputs.

    Models take turns, so that what disturbs the machine meets all of them; a ratio is the median over the rounds. With
    --data, throughput over all of it is measured too, without the time it takes to load it.
    """
    if markdown and json:
        raise OptionError("--markdown and --json exclude each other: choose one")
    images = pictures.options()
    from quantlab.experiments.bench import BenchSettings, benchmark

    settings = BenchSettings(
        runs=runs,
        rounds=rounds,
        warm_up=warm_up,
        threads=threads,
        provider=provider,
        batch_size=batch_size,
        shapes=shapes_from(shape),
        fill=fill,
        seed=seed,
        max_samples=max_samples,
    )
    with progress() as track:
        report = benchmark(models, settings, data=data, images=images, track=track)
    if json:
        write_json(report.to_json())
    elif markdown:
        sys.stdout.write(report.table().to_markdown() + "\n" + "\n".join(report.words()) + "\n")
    else:
        _show(report, each_run=each_run)


def shapes_from(words: list[str] | None) -> dict[str, int | tuple[int, ...]]:
    """Read shapes such as `N=8` and `image=1x3x224x224`.

    Args:
        words: What was given for --shape; names may contain `=`.

    Returns:
        Name of a symbolic size to the size, or of an input to its shape.

    Raises:
        OptionError: Something is no such pair, or a name stands in two.

    Example:
        >>> shapes_from(["N=8", "image=1x3x8x8"])
        {'N': 8, 'image': (1, 3, 8, 8)}
    """
    found: dict[str, int | tuple[int, ...]] = {}
    for word in words or ():
        name, equals, text = word.rpartition("=")
        sizes = text.lower().split("x")
        if not (name and equals) or not all(size.isascii() and size.isdigit() for size in sizes):
            raise OptionError(f"--shape {word!r} is no shape: give N=8, or an input's own as in image=1x3x224x224")
        if name in found:
            raise OptionError(f"--shape names {name!r} twice: keep one")
        found[name] = int(sizes[0]) if len(sizes) == 1 else tuple(map(int, sizes))
    return found


def _show(report: BenchReport, *, each_run: bool) -> None:
    console, table = output(), report.table()
    if each_run:
        for one in report.models:
            console.print(one.name, style="bold", soft_wrap=True)
            for line in one.lines():
                console.print(line, soft_wrap=True)
            console.print()
    # Throughput is a column only where there is data to measure it on.
    used = [index for index, name in enumerate(table.columns) if name != "samples/s" or report.data is not None]
    columns = [Column(header=table.columns[index], kind="number" if index else "name") for index in used]
    rows = [[_text(row[index]) for index in used] for row in table.rows]
    show(console, "", columns, rows)
    console.print()
    for line in report.words():
        console.print(line, style="dim", soft_wrap=True)


def _text(cell: object) -> str:
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
