"""`quantlab saturation`: where a quantized model would overflow on an x86 processor without VNNI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, progress, write_json
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.tables import Column, counted, number, show

if TYPE_CHECKING:
    from quantlab.debug.saturation import SaturationReport


@grouped
def saturation(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A quantized model.", show_default=False)],
    data: o.Data,
    order: Annotated[
        str,
        typer.Option(metavar="[kernel|channel]", help="What a convolution sums over first; onnxruntime: the kernel."),
    ] = "kernel",
    *,
    pictures: Pictures,
    max_samples: o.MaxSamples = 8,
    json: o.Json = False,
) -> None:
    """Show where sums of uint8 by int8 products would saturate on an x86 processor without VNNI, and how much.

    Such a processor adds neighbouring products in 16 bits. The model is run as it is, and each Conv, Gemm and MatMul is
    summed in both ways. Pairs and outputs are shares of all; errors are those of the worst channel.
    """
    images = pictures.options()
    from quantlab.cli.samples import Samples
    from quantlab.debug.saturation import saturation as find
    from quantlab.graph.files import load

    loaded = load(model)
    samples = Samples(data, loaded, max_samples=max_samples, images=images)
    with progress(samples_per_batch=samples.per_batch) as track:
        report = find(loaded, samples, order=order, track=track)  # type: ignore[arg-type]  # checked there
    if json:
        write_json(report.to_json())
    else:
        _show(report, samples.seen)


def _show(report: SaturationReport, samples: int) -> None:
    from quantlab.backend.hardware import processor
    from quantlab.debug.processors import advice

    console, table = output(), report.table()
    if report.nodes:
        kinds = ("name", "word") + ("number",) * 7
        columns = [Column(header=name, kind=kind) for name, kind in zip(table.columns, kinds, strict=True)]  # type: ignore[arg-type]
        rows = [
            (
                name,
                op,
                str(channels),
                str(hit),
                f"{pairs:.3%}",
                f"{outputs:.2%}",
                f"{top:,}",
                number(mean),
                f"{part:.2%}",
            )
            for name, op, channels, hit, pairs, outputs, top, mean, part in table.rows
        ]
        show(console, f"sums in pairs of 16 bits ({counted(samples, 'sample')})", columns, rows)
        console.print()
    for name, reason in report.safe.items():
        console.print(f"{name}: {reason}", soft_wrap=True)
    for line in advice(processor(), report.saturates):
        console.print(line, soft_wrap=True)
