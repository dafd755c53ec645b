"""`quantlab report`: one self-contained HTML page on what quantization did to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, progress
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.running import Running
from quantlab.cli.tables import bytes_text, counted


@grouped
def report(
    float_model: o.FloatModel,
    quantized: o.QuantizedModel,
    data: o.Data,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Where to write the page.", show_default=False)
    ],
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Title of the page; the name of the file by default.", show_default=False),
    ] = None,
    attribute: Annotated[
        bool, typer.Option("--attribute", help="Find out which tensors the error comes from, which takes many runs.")
    ] = False,
    *,
    pictures: Pictures,
    running: Running,
) -> None:
    """Compare two models and write what was found as one HTML page.

    It holds every tensor with its histogram, grid and channels, the graph coloured by damage, and the nodes left in
    float with their reasons. The page loads nothing: it can be kept, mailed and opened anywhere.
    """
    images = pictures.options()
    from quantlab.backend import OrtBackend
    from quantlab.cli.files import check_outputs
    from quantlab.graph.files import load
    from quantlab.pages.report import report as make

    check_outputs({"--output": out}, {"FLOAT": float_model, "QUANTIZED": quantized, "--data": data})
    reference, rounded, pairs = load(float_model), load(quantized), running.pairs()
    samples = running.samples(data, reference, images)
    with progress(samples_per_batch=samples.per_batch) as track:
        page = make(
            reference,
            rounded,
            samples,
            attribute=attribute,
            title=title or quantized.name,
            backend=OrtBackend(threads=running.threads),
            state=pairs,
            track=track,
        )
    page.save(out)
    size_text = bytes_text(out.stat().st_size)
    output().print(f"{out}: {size_text}, made of {counted(samples.seen, 'sample')}", soft_wrap=True)
