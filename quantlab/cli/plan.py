"""`quantlab plan`: what would be quantized, how and why, as a table or as JSON that can be edited and applied."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, progress
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.quantize import show_notes
from quantlab.cli.recipes import RecipeChoices
from quantlab.cli.running import Calibrating, Running
from quantlab.cli.tables import Column, number, numbers, show, zeros

if TYPE_CHECKING:
    from quantlab.arrays import QuantSpec, Range
    from quantlab.plan import QuantPlan


@grouped
def plan(
    model: o.Model,
    data: o.OptionalData = None,
    ranges: o.RangesFile = None,
    statistics: o.StatisticsFile = None,
    *,
    choices: RecipeChoices,
    pictures: Pictures,
    running: Running,
    calibrating: Calibrating,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PLAN",
            help="Write the plan as JSON, for `quantlab apply`; - is standard output.",
            show_default=False,
        ),
    ] = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Show the grid of every tensor and why it is there, and which nodes stay in float and why.

    Without --data, --ranges or --statistics only weights have numbers. Write the plan with -o, edit it, and give it to
    `quantlab apply`.
    """
    recipe = choices.recipe()
    images = pictures.options()
    from quantlab.cli.files import check_outputs, write_text
    from quantlab.cli.kept import check_sources, kept_table
    from quantlab.graph import GraphView
    from quantlab.graph.files import load
    from quantlab.workflow import quantize as flow
    from quantlab.workflow.edited import with_constants

    if str(out) == "-":
        out, json = None, True
    sources = {"--data": data, "--ranges": ranges, "--statistics": statistics}
    about_data = {**calibrating.about_data(running), "an image option": images}
    check_sources(sources, about_data, rule=choices.rule_given(), needed=False)
    check_outputs({"--output": out}, {"MODEL": model, **sources})
    source = load(model)
    prepared = flow.prepare_for(source, recipe)
    planned = flow.decide(prepared, recipe)
    if ranges is not None or statistics is not None:
        table = kept_table(source, recipe, ranges=ranges, statistics=statistics)
        planned = flow.calibrate(prepared, planned, None, recipe, ranges=table)
    elif data is None:
        planned = with_constants(planned, GraphView.of(prepared.model))
    else:
        samples = running.samples(data, source, images)
        with progress(samples_per_batch=samples.per_batch) as track:
            engine = calibrating.engine(running)
            planned = flow.calibrate(prepared, planned, samples, recipe, engine=engine, track=track)
    show_notes(prepared.notes if verbose else ())
    if out is not None:
        write_text(out, planned.to_json())
    if json:
        sys.stdout.write(planned.to_json())
    else:
        show_plan(planned)
        if out is not None:
            output().print(f"written  {out}", soft_wrap=True)


TENSOR_COLUMNS = (
    Column(header="tensor", kind="name"),
    Column(header="role", optional=True),
    Column(header="grid"),
    Column(header="range", kind="number"),
    Column(header="scale", kind="number"),
    Column(header="zero", kind="number"),
    Column(header="reason", kind="prose", optional=True),
)
NODE_COLUMNS = (Column(header="node", kind="name"), Column(header="operator"), Column(header="reason", kind="prose"))


def show_plan(planned: QuantPlan) -> None:
    """Print the tensors of a plan, and the nodes that it leaves in float."""
    console = output()
    rows = []
    for name, tensor in planned.tensors.items():
        grid = tensor.qparams
        scale, zero = ("", "") if grid is None else (numbers(grid.scale), zeros(grid.zero_point))
        rows.append((name, tensor.role, grid_text(tensor.spec), range_text(tensor.values), scale, zero, tensor.reason))
    show(console, f"{len(rows)} tensors get a grid", TENSOR_COLUMNS, rows)
    left = [(name, node.op, node.reason) for name, node in planned.nodes.items() if node.status == "float"]
    console.print()
    if left:
        show(console, f"{len(left)} of {len(planned.nodes)} nodes stay in float", NODE_COLUMNS, left)
    else:
        console.print(f"all {len(planned.nodes)} nodes are quantized or absorbed")
    for note in planned.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if not planned.resolved:
        console.print(
            "scales that are missing need samples: give --data, --ranges or --statistics", style="dim", soft_wrap=True
        )


def grid_text(spec: QuantSpec) -> str:
    """Return a grid in few characters: `int8 asym`, `int8 sym reduced`; its scales show if there is one a channel."""
    words = [spec.dtype.name, "sym" if spec.symmetric else "asym"]
    words += ["reduced"] if spec.reduce_range else []
    return " ".join(words)


def range_text(values: Range | None) -> str:
    """Return a range; that of many channels as the smallest and largest of all."""
    if values is None:
        return ""
    return f"{number(values.lo.min(), 4)} .. {number(values.hi.max(), 4)}"
