"""`quantlab crosscheck`: the same work done by quantlab and by onnxruntime.quantization, and where the two differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.compare import write_json
from quantlab.cli.console import output, progress
from quantlab.cli.tables import Column, counted, show
from quantlab.errors import OptionError

if TYPE_CHECKING:
    from quantlab.ort.crosscheck import Verdict

COLUMNS = (
    Column(header="options", kind="name"),
    Column(header="outcome"),
    Column(header="quantlab s", kind="number", optional=True),
    Column(header="peer s", kind="number", optional=True),
    Column(header="differences and reasons", kind="prose"),
)
SHOWN = 3
TOPICS = ("quantizer",)


def crosscheck(
    what: Annotated[
        str, typer.Argument(metavar="[quantizer]", help="What to compare: static quantization.", show_default=False)
    ],
    model: o.Model,
    data: o.Data,
    grid: Annotated[
        str, typer.Option(metavar="[quick|full]", help="How many option sets: a handful, or every option once.")
    ] = "quick",
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare/--as-is",
            help="Give both tools the model as quantlab prepares it, or as it is.",
        ),
    ] = True,
    layout: o.Layout = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    scale: o.Scale = None,
    channels: o.Channels = None,
    resize: o.Resize = None,
    crop_fraction: o.CropFraction = None,
    max_samples: o.MaxSamples = 8,
    json: o.Json = False,
) -> None:
    """Quantize a model with quantlab.ort and with onnxruntime.quantization, and compare nodes and bytes.

    Each option set is tried with both on the same samples. Identical means the same nodes, names and bytes in every
    initializer; what differs is listed with the reason that quantlab's plan gives.
    """
    if what not in TOPICS:
        raise OptionError(f"crosscheck compares {' or '.join(TOPICS)}, got {what!r}")
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
    from quantlab.cli.samples import Samples
    from quantlab.graph.files import load
    from quantlab.ort.crosscheck import crosscheck as check
    from quantlab.ort.option_sets import option_sets
    from quantlab.workflow.quantize import prepare_for

    float_model = load(model)
    given = prepare_for(float_model).model if prepare else float_model
    samples = list(Samples(data, float_model, max_samples=max_samples, images=images))
    with progress() as track:
        verdicts = check(given, samples, option_sets(given, grid), track=track)
    if json:
        write_json([verdict.to_json() for verdict in verdicts])
        return
    _report(verdicts)


def _report(verdicts: list[Verdict]) -> None:
    console = output()
    rows = [
        (each.name, each.outcome, f"{each.seconds[0]:.2f}", f"{each.seconds[1]:.2f}", "; ".join(_words(each)))
        for each in verdicts
    ]
    show(console, f"quantlab and onnxruntime.quantization ({counted(len(rows), 'option set')})", COLUMNS, rows)
    same = sum(each.outcome == "identical" for each in verdicts)
    explained = sum(each.explained for each in verdicts) - same
    console.print()
    rest = len(verdicts) - same - explained
    console.print(f"identical: {same} of {len(verdicts)}; different for a known reason: {explained}; otherwise: {rest}")


def _words(verdict: Verdict) -> Iterator[str]:
    """Say in a few words what differs, and why."""
    changed = [f"{one.name}: {one.elements:,} of {one.size:,} by {_by(one.by)}" for one in verdict.initializers]
    yield from verdict.known
    for found in (list(verdict.graph), changed, list(verdict.reasons)):
        yield from found[:SHOWN]
        if rest := len(found[SHOWN:]):
            yield f"and {rest} more"


def _by(by: float | None) -> str:
    return "type or shape" if by is None else f"{by:.3g} at most"
