"""`quantlab compare`: a float model and its quantized version on the same samples, and the tensors that moved most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, progress, say, write_json
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.running import Running
from quantlab.cli.tables import Cell, Column, counted, decibels, number, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quantlab.debug.findings import Comparison, TensorError

COLUMNS = (
    Column(header="tensor", kind="name"),
    Column(header="kind"),
    Column(header="type"),
    Column(header="local dB", kind="number"),
    Column(header="SQNR dB", kind="number"),
    Column(header="clipped", kind="number"),
    Column(header="cosine", kind="number", optional=True),
    Column(header="largest error", kind="number", optional=True),
)


@grouped
def compare(
    float_model: o.FloatModel,
    quantized: o.QuantizedModel,
    data: o.OptionalData = None,
    worst: Annotated[int, typer.Option(metavar="N", min=1, help="How many tensors to show.")] = 10,
    *,
    pictures: Pictures,
    running: Running,
    attribute: Annotated[
        bool, typer.Option("--attribute", help="Say what the outputs' error comes from, with advice.")
    ] = False,
    suggest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write nodes to leave in float, for `quantlab quantize --exclude @FILE`; implies --attribute.",
            show_default=False,
        ),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Print one line a number instead of tables.")] = False,
    json: o.Json = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all rows to this file.", show_default=False)
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all rows as a Markdown table.", show_default=False)
    ] = None,
) -> None:
    """Measure how far quantization moved every tensor, worst first.

    SQNR is the signal-to-quantization-noise ratio in dB, 10 log10(sum x^2 / sum (x - y)^2): higher means less error,
    and 6 dB more is half the error. It counts all error made up to that tensor; the local one counts what the tensor's
    own grid does to the float model's values. Below 30 dB it is yellow, below 15 red. Without --data weights alone are
    compared.
    """
    images = pictures.options()
    from quantlab.backend import OrtBackend
    from quantlab.cli.attribution import attributed, show_attribution, write_suggestion
    from quantlab.debug.compare import compare as measure
    from quantlab.graph.files import atomic_write, load

    reference, rounded = load(float_model), load(quantized)
    pairs = running.pairs()
    samples = None
    if data is not None:
        samples = running.samples(data, reference, images)
    with progress(samples_per_batch=1 if samples is None else samples.per_batch) as track:
        backend = OrtBackend(threads=running.threads)
        found = measure(reference, rounded, samples, backend=backend, state=pairs, track=track)
        if attribute or suggest is not None:
            found = attributed(found, reference, rounded, samples, state=pairs, backend=backend, track=track)
    for path, text in ((csv, found.to_csv), (markdown, found.to_markdown)):
        if path is not None:
            with atomic_write(path) as temporary:
                temporary.write_text(text(), encoding="utf-8")
    if json:
        write_json(found.to_json())
    elif lines:
        _print_lines(found)
    else:
        _print_tables(found, worst, None if samples is None else samples.seen)
        if found.attribution is not None:
            show_attribution(found.attribution, worst)
    if found.attribution is not None and suggest is not None:
        write_suggestion(found.attribution, suggest)


def _print_tables(found: Comparison, worst: int, samples: int | None) -> None:
    console = output()
    total = len(found.tensors)
    shown = found.tensors[:worst]
    title = f"the worst {len(shown)} of {total} tensors" if len(shown) < total else f"all {total} tensors, worst first"
    about = "weights alone, without data" if samples is None else counted(samples, "sample")
    show(console, f"{title} ({about})", COLUMNS, error_rows(shown))
    console.print()
    if found.outputs:
        show(console, "outputs", COLUMNS, error_rows(found.outputs))
        console.print()
    if found.agreement is not None:
        console.print(f"agreement with the float model: {found.agreement:.2%} (largest entry of the first output)")
    for lost in found.unmatched:
        console.print(f"without a partner in the float model: {lost.name!r}: {lost.reason}", soft_wrap=True)


def _print_lines(found: Comparison) -> None:
    from quantlab.debug.lines import cross_line, qdq_line

    console = output()
    for row in (*found.tensors, *found.outputs):
        console.print(cross_line(row.name, row.sqnr_db), soft_wrap=True)
        if row.kind == "activation":
            console.print(qdq_line(row.name, row.local_db), soft_wrap=True)
    for lost in found.unmatched:
        say("warning", f"{lost.name!r} has no partner in the float model: {lost.reason}")


def error_rows(errors: Iterable[TensorError]) -> list[tuple[Cell, ...]]:
    """Return one row a tensor for `COLUMNS`."""
    return [
        (
            row.name,
            row.kind,
            row.dtype,
            decibels(row.local_db),
            decibels(row.sqnr_db),
            f"{number(100 * row.clipped, 2)}%" if row.clipped else "0",
            f"{row.cosine:.6f}",
            number(row.max_error),
        )
        for row in errors
    ]
