"""`quantlab crosscheck`: the same work done by two programs, and where the two differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, progress, say, write_json
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.tables import Column, counted, number, show
from quantlab.errors import OptionError

if TYPE_CHECKING:
    import onnx

    from quantlab.cli.samples import Samples
    from quantlab.debug.engines import OutputDifference
    from quantlab.ort.crosscheck import Verdict

COLUMNS = (
    Column(header="options", kind="name"),
    Column(header="outcome"),
    Column(header="quantlab s", kind="number", optional=True),
    Column(header="peer s", kind="number", optional=True),
    Column(header="differences and reasons", kind="prose"),
)
DIFFERENCES = (
    Column(header="output", kind="name"),
    Column(header="type"),
    Column(header="elements", kind="number"),
    Column(header="differing", kind="number"),
    Column(header="largest", kind="number"),
    Column(header="onnxruntime minus reference, in steps", kind="prose"),
)
SHOWN = 3
TOPICS = ("quantizer", "engines")


@grouped
def crosscheck(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[quantizer|engines]",
            help="What to compare: static quantization, or the outputs of a model in two engines.",
            show_default=False,
        ),
    ],
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model; float32 for quantizer.", show_default=False)],
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
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0.0,
            help="For engines: exit with 1 where an output differs by more than this.",
            show_default=False,
        ),
    ] = None,
    *,
    pictures: Pictures,
    max_samples: o.MaxSamples = 8,
    json: o.Json = False,
) -> None:
    """Compare two programs that should do the same.

    quantizer: quantlab.ort and onnxruntime.quantization quantize the model on the same samples, once for each option
    set. Identical means the same nodes, names and bytes in every initializer; what differs is listed with the reason
    that quantlab's plan gives.

    engines: onnxruntime and onnx's reference evaluator run the model, quantized or not; outputs are compared.
    """
    if what not in TOPICS:
        raise OptionError(f"crosscheck compares {' or '.join(TOPICS)}, got {what!r}")
    if what == "quantizer" and tolerance is not None:
        raise OptionError("--tolerance goes with crosscheck engines: the quantizers are compared byte by byte")
    images = pictures.options()
    from quantlab.cli.samples import Samples
    from quantlab.graph.files import load

    loaded = load(model)
    samples = Samples(data, loaded, max_samples=max_samples, images=images)
    if what == "engines":
        _engines(loaded, samples, tolerance=tolerance, json=json)
    else:
        _quantizers(loaded, samples, grid=grid, prepare=prepare, json=json)


def _engines(model: onnx.ModelProto, samples: Samples, *, tolerance: float | None, json: bool) -> None:
    from quantlab.debug.engines import compare_engines

    with progress() as track:
        found = compare_engines(model, samples, track=track)
    if json:
        write_json([asdict(each) for each in found])
    else:
        rows = [
            (each.name, each.dtype, f"{each.count:,}", f"{each.differing:,}", number(each.largest), _steps(each))
            for each in found
        ]
        show(output(), f"onnxruntime and onnx's reference ({counted(samples.seen, 'sample')})", DIFFERENCES, rows)
    beyond = [each for each in found if tolerance is not None and each.largest > tolerance]
    if beyond:
        worst = max(beyond, key=lambda each: each.largest)
        say("error", f"output {worst.name!r} differs by {number(worst.largest)}, and --tolerance is {tolerance:g}")
        raise typer.Exit(1)


def _steps(difference: OutputDifference) -> str:
    """Say how many elements differ by how many steps of the output's grid."""
    if difference.step is None:
        return "not on a grid"
    return ", ".join(
        f"{steps:+d}: {count:,}" if steps else f"0: {count:,}" for steps, count in difference.steps.items()
    )


def _quantizers(model: onnx.ModelProto, samples: Samples, *, grid: str, prepare: bool, json: bool) -> None:
    from quantlab.ort.crosscheck import crosscheck as check
    from quantlab.ort.option_sets import option_sets
    from quantlab.workflow.quantize import prepare_for

    given = prepare_for(model).model if prepare else model
    with progress() as track:
        verdicts = check(given, list(samples), option_sets(given, grid), track=track)
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
