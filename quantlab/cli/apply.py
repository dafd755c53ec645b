"""`quantlab apply`: write the int8 model that a plan, edited or not, describes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.console import progress
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.quantize import fate, show_notes, sizes, summarize
from quantlab.cli.recipes import RecipeChoices
from quantlab.cli.running import Calibrating, Running
from quantlab.cli.tables import counted
from quantlab.errors import OptionError, QuantlabWarning

if TYPE_CHECKING:
    from quantlab.plan import QuantPlan, Recipe


@grouped
def apply(
    model: o.Model,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="What `quantlab plan -o` wrote.", show_default=False)],
    out: o.Output,
    data: o.OptionalData = None,
    calibrate: o.Calibrate = "minmax",
    percent: o.Percent = None,
    nonfinite: o.NonFinite = "refuse-nan",
    *,
    pictures: Pictures,
    running: Running,
    calibrating: Calibrating,
    verbose: o.Verbose = False,
) -> None:
    """Write the int8 model that a plan describes.

    An edited scale or zero point wins over the range beside it; remove both to have them computed from the range, and
    the range too to have it measured on --data. Scales of biases, and of tensors that share a grid, follow by
    themselves.
    """
    recipe = RecipeChoices(calibrate=calibrate, percent=percent, nonfinite=nonfinite).recipe()
    images = pictures.options()
    from quantlab.cli.files import check_outputs
    from quantlab.graph import GraphView
    from quantlab.graph.files import load, save
    from quantlab.workflow import quantize as flow
    from quantlab.workflow.edited import edited

    check_outputs({"--output": out}, {"MODEL": model, "PLAN": plan, "--data": data})
    given = read_plan(plan)
    source = load(model)
    prepared = flow.prepare_for(source, _types_of(given))
    edit = edited(given, GraphView.of(prepared.model))
    rows: list[tuple[str, str]] = []
    if wanted := list(edit.plan.every_observed()):
        if data is None:
            raise OptionError(
                f"the plan has no range for {counted(len(wanted), 'tensor')}, the first is {wanted[0]!r}: "
                "give --data to measure them, or write their ranges into the plan"
            )
        samples = running.samples(data, source, images)
        with progress(samples_per_batch=samples.per_batch) as track:
            engine = calibrating.engine(running)
            final = flow.calibrate(prepared, edit.plan, samples, recipe, engine=engine, track=track)
        rows.append(
            ("ranges", f"{calibrate} of {counted(samples.seen, 'sample')} for {counted(len(wanted), 'tensor')}")
        )
    else:
        final = flow.calibrate(prepared, edit.plan, (), recipe)
    save(flow.write(prepared, final).model, out)
    show_notes(prepared.notes if verbose else ())
    for line in edit.ignored:
        warnings.warn(line, QuantlabWarning, stacklevel=2)
    rows += [("edited", line) for line in edit.changes]
    summarize([*fate(final), *rows, *sizes(model, out)], final, [out])


def _types_of(plan: QuantPlan) -> Recipe:
    """Return a recipe that names every type in a plan, so that the model is raised to the opset they need."""
    from quantlab.plan import Recipe, RecipeRule

    tensors = (tensor for part in plan.walk() for tensor in part.tensors.values())
    specs = dict.fromkeys(tensor.spec for tensor in tensors if tensor.role != "bias")
    return Recipe(rules=tuple(RecipeRule(activation=spec) for spec in specs), subgraphs=bool(plan.bodies))


def read_plan(path: Path) -> QuantPlan:
    """Read a plan file.

    Raises:
        OptionError: There is no such file, or it holds no plan.
    """
    from quantlab.plan import QuantPlan

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is no text"
        raise OptionError(
            f"plan file {str(path)!r} cannot be read ({cause}): give what `quantlab plan -o` wrote"
        ) from None
    try:
        return QuantPlan.from_json(text)
    except OptionError as error:
        raise OptionError(f"plan file {str(path)!r}: {error}") from error
