"""`quantlab compare`: a float model and its int8 version on the same samples, and the tensors that moved most."""

from __future__ import annotations

import json as json_text
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, progress
from quantlab.cli.tables import Cell, Column, counted, decibels, number, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quantlab.debug.compare import TensorError

COLUMNS = (
    Column(header="tensor", kind="name"),
    Column(header="kind"),
    Column(header="type"),
    Column(header="SQNR dB", kind="number"),
    Column(header="cosine", kind="number"),
    Column(header="largest error", kind="number"),
)


def compare(
    float_model: Annotated[Path, typer.Argument(metavar="FLOAT", help="The float32 model.", show_default=False)],
    quantized: Annotated[Path, typer.Argument(metavar="QUANTIZED", help="Its quantized version.", show_default=False)],
    data: o.Data,
    worst: Annotated[int, typer.Option(metavar="N", min=1, help="How many tensors to show.")] = 10,
    layout: o.Layout = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    scale: o.Scale = None,
    channels: o.Channels = None,
    resize: o.Resize = None,
    crop_fraction: o.CropFraction = None,
    max_samples: o.MaxSamples = None,
    threads: o.Threads = 1,
    state: o.State = None,
    json: o.Json = False,
) -> None:
    """Measure how far quantization moved every tensor, worst first.

    SQNR is the signal-to-quantization-noise ratio in dB, 10 log10(sum x^2 / sum (x - y)^2): higher means less error,
    and 6 dB more is half the error. It counts all error made up to that tensor. Below 30 dB it is yellow, below 15 red.
    """
    images = o.images_from(
        layout=layout,
        size=size,
        mean=mean,
        std=std,
        scale=scale,
        channels=channels,
        resize=resize,
        crop_fraction=crop_fraction,
    )
    from quantlab.backend import OrtBackend
    from quantlab.cli.samples import Samples
    from quantlab.debug.compare import compare as measure
    from quantlab.graph.files import load

    reference, rounded = load(float_model), load(quantized)
    pairs = o.state_from(state)
    samples = Samples(data, reference, max_samples=max_samples, images=images, optional=pairs.values())
    with progress(samples_per_batch=samples.per_batch) as track:
        backend = OrtBackend(threads=threads)
        found = measure(reference, rounded, samples, backend=backend, state=pairs, track=track)
    if json:
        write_json(found.to_json())
        return
    console = output()
    total = len(found.tensors)
    shown = found.tensors[:worst]
    title = f"the worst {len(shown)} of {total} tensors" if len(shown) < total else f"all {total} tensors, worst first"
    show(console, f"{title} ({counted(samples.seen, 'sample')})", COLUMNS, error_rows(shown))
    console.print()
    show(console, "outputs", COLUMNS, error_rows(found.outputs))
    console.print()
    if found.agreement is not None:
        console.print(f"agreement with the float model: {found.agreement:.2%} (largest entry of the first output)")
    if found.unmatched:
        names = ", ".join(map(repr, found.unmatched))
        console.print(f"without a partner in the float model: {names}", soft_wrap=True)


def error_rows(errors: Iterable[TensorError]) -> list[tuple[Cell, ...]]:
    """Return one row a tensor for `COLUMNS`."""
    return [
        (row.name, row.kind, row.dtype, decibels(row.sqnr_db), f"{row.cosine:.6f}", number(row.max_error))
        for row in errors
    ]


def write_json(plain: Any) -> None:
    """Write plain values as JSON on standard output; numbers that JSON does not know become null."""
    sys.stdout.write(json_text.dumps(_finite(plain), indent=2, allow_nan=False) + "\n")


def _finite(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
