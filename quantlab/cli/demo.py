"""`quantlab demo`: quantize the embedded model, and one table of what it cost and gained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from quantlab.cli import options as o
from quantlab.cli.compare import COLUMNS, error_rows
from quantlab.cli.console import output, progress, write_json
from quantlab.cli.recipes import RecipeChoices
from quantlab.cli.tables import Cell, Column, bytes_text, decibels, show

if TYPE_CHECKING:
    from quantlab.experiments.demo import DemoReport

SUMMARY = (
    Column(header=""),
    Column(header="float", kind="number"),
    Column(header="int8", kind="number"),
    Column(header="", kind="word"),
)


def demo(
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where the models and the plan are left.")] = Path(
        "quantlab-demo"
    ),
    per_channel: o.PerChannel = True,
    calibrate: o.Calibrate = "minmax",
    percent: o.Percent = None,
    json: o.Json = False,
) -> None:
    """Quantize an embedded model on real handwritten digits and show what it cost. No network, some seconds.

    Ranges come from one half of the 1,797 digits; everything shown is measured on the other half.
    """
    recipe = RecipeChoices(per_channel=per_channel, calibrate=calibrate, percent=percent).recipe()
    from quantlab.cli.files import check_outputs, make_folder
    from quantlab.experiments.demo import demo as run
    from quantlab.experiments.demo import demo_files

    make_folder(folder)
    check_outputs({path.name: path for path in demo_files(folder)}, {})
    with progress() as track:
        report = run(folder, recipe, track=track)
    if json:
        write_json(report.to_json())
    else:
        _show(report)


def _show(report: DemoReport) -> None:
    console, latency = output(), report.latency
    granularity = "a scale per channel" if report.per_channel else "a scale per tensor"
    title = (
        f"A small CNN on {report.measured_on} handwritten digits it has never seen\n"
        f"{report.activations} activations, {report.weights} weights, {granularity}, "
        f"ranges by {report.calibrate} of {report.calibrated_on} others"
    )
    smaller = report.float_bytes / report.int8_bytes
    faster = f"{latency.ratio:.2f} times as fast" if latency.ratio >= 1 else f"{1 / latency.ratio:.2f} times slower"
    rows: list[tuple[Cell, ...]] = [
        ("file size", bytes_text(report.float_bytes), bytes_text(report.int8_bytes), f"{smaller:.2f} times smaller"),
        ("top-1", f"{report.float_top1:.2%}", f"{report.int8_top1:.2%}", ""),
        ("same answer", "", f"{report.agreement:.2%}", "as the float model"),
        ("output SQNR", "", Text.assemble(decibels(report.output_sqnr_db), " dB"), "higher means less error"),
        (
            "median latency",
            f"{latency.float_ms:.3f} ms",
            f"{latency.int8_ms:.3f} ms",
            f"{faster} (batch {latency.batch_size}, {latency.threads} thread)",
        ),
    ]
    show(console, title, SUMMARY, rows)
    console.print()
    show(console, f"The {len(report.worst)} tensors that moved most", COLUMNS, error_rows(report.worst))
    console.print()
    console.print(Text.assemble("left in ", (report.folder, "bold"), ":"), soft_wrap=True)
    for path in report.files:
        console.print(f"  {path}", soft_wrap=True)
    console.print(f"next: quantlab explain {report.files[1]}", style="dim", soft_wrap=True)
