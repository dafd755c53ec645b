"""`quantlab quantize`: a float model and samples in, an int8 model out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from quantlab.cli import options as o
from quantlab.cli.console import output, progress, say
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.recipes import RecipeChoices
from quantlab.cli.running import Calibrating, Running
from quantlab.cli.tables import bytes_text, counted

if TYPE_CHECKING:
    from quantlab.plan import QuantPlan

REASONS_SHOWN = 10


@grouped
def quantize(
    model: o.Model,
    out: o.Output,
    data: o.OptionalData = None,
    ranges: o.RangesFile = None,
    statistics: o.StatisticsFile = None,
    *,
    choices: RecipeChoices,
    integer_inputs: Annotated[
        bool,
        typer.Option("--integer-inputs", help="Leave rounding the inputs to the caller.", rich_help_panel=o.GRIDS),
    ] = False,
    integer_outputs: Annotated[
        bool, typer.Option("--integer-outputs", help="Give the outputs out as integers.", rich_help_panel=o.GRIDS)
    ] = False,
    pictures: Pictures,
    running: Running,
    calibrating: Calibrating,
    plan_out: Annotated[
        Path | None,
        typer.Option(metavar="PLAN", help="Write the plan as JSON, for `quantlab apply`.", show_default=False),
    ] = None,
    verbose: o.Verbose = False,
) -> None:
    """Quantize a float model with ranges measured on samples, now or before, and write an int8 model.

    100 to 500 samples that look like real inputs are enough. The model and the samples are only read.
    """
    recipe = choices.recipe()
    ends = replace(recipe.layout, integer_inputs=integer_inputs, integer_outputs=integer_outputs)
    recipe = replace(recipe, layout=ends)
    images = pictures.options()
    from quantlab.cli.files import check_outputs, write_text
    from quantlab.cli.kept import check_sources, kept_table
    from quantlab.graph.files import load, save
    from quantlab.workflow import quantize as flow

    outputs = {"--output": out, "--plan-out": plan_out, "--checkpoint": calibrating.checkpoint}
    sources = {"--data": data, "--ranges": ranges, "--statistics": statistics}
    about_data = {**calibrating.about_data(running), "an image option": images}
    check_sources(sources, about_data, rule=choices.rule_given(), needed=True)
    check_outputs(outputs, {"MODEL": model, **sources})
    source = load(model)
    prepared = flow.prepare_for(source, recipe)
    decided = flow.decide(prepared, recipe)
    if data is None:
        table = kept_table(source, recipe, ranges=ranges, statistics=statistics)
        plan = flow.calibrate(prepared, decided, None, recipe, ranges=table)
        of_statistics = f"{choices.calibrate} of the statistics {str(statistics)!r}"
        words = of_statistics if ranges is None else f"read from {str(ranges)!r}"
    else:
        samples = running.samples(data, source, images)
        started = perf_counter()
        with progress(samples_per_batch=samples.per_batch) as track:
            engine = calibrating.engine(running)
            plan = flow.calibrate(prepared, decided, samples, recipe, engine=engine, track=track)
        words = f"{choices.calibrate} of {counted(samples.seen, 'sample')} in {perf_counter() - started:.1f} s"
    result = flow.write(prepared, plan)
    save(result.model, out)
    if plan_out is not None:
        write_text(plan_out, plan.to_json())
    show_notes(prepared.notes if verbose else ())
    rows = [*fate(plan), ("ranges", words)]
    summarize([*rows, *sizes(model, out)], plan, [out, plan_out])


def show_notes(notes: tuple[str, ...]) -> None:
    """Print what preparing a model changed, on standard error."""
    for note in notes:
        say("note", note)


def fate(plan: QuantPlan) -> Iterator[tuple[str, str]]:
    """Yield what became of the nodes, and for those left in float the reasons with their numbers."""
    numbers = dict.fromkeys(("quantized", "absorbed", "float"), 0)
    reasons: dict[str, dict[str, str]] = {}
    every = plan.every_node()
    for name, node in every.items():
        numbers[node.status] += 1
        if node.status == "float":
            # Reasons that differ only in the names they quote are counted as one.
            reasons.setdefault(re.sub(r"'[^']*'", "…", node.reason), {})[name] = node.reason
    words = f"{numbers['quantized']} quantized, {numbers['absorbed']} absorbed, {numbers['float']} left in float"
    yield "nodes", f"{len(every)}: {words}"
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    for reason, found in ranked[:REASONS_SHOWN]:
        first, verbatim = next(iter(found.items()))
        words = verbatim if set(found.values()) == {verbatim} else reason
        yield "", f"{len(found)} x {words} ({first!r}{', ...' if len(found) > 1 else ''})"
    if rest := sum(len(found) for _, found in ranked[REASONS_SHOWN:]):
        yield "", f"{rest} x other reasons: see `quantlab explain`"


def sizes(before: Path, after: Path) -> Iterator[tuple[str, str]]:
    """Yield the sizes of two model files, external data included."""
    from quantlab.graph.files import model_size

    old, new = model_size(before), model_size(after)
    yield "size", f"{bytes_text(old)} -> {bytes_text(new)}, {old / new:.2f} times smaller"


def summarize(rows: list[tuple[str, str]], plan: QuantPlan, written: list[Path | None]) -> None:
    """Print labelled lines, the plan's notes, and last the files that were written."""
    console = output()
    rows += [("", f"note: {note}") for note in plan.notes]
    rows += [("written", str(path)) for path in written if path is not None]
    for label, text in rows:
        console.print(Text.assemble((f"{label:<9}", "bold"), text), soft_wrap=True)
