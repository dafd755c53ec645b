"""`quantlab explain`: why a node was quantized or not, and where a tensor's numbers come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from quantlab.cli.console import output
from quantlab.cli.recipes import RecipeChoices
from quantlab.cli.tables import Cell, Column, numbers, show, zeros
from quantlab.errors import OptionError, nearest

if TYPE_CHECKING:
    import onnx

    from quantlab.graph.quantized import Rounded
    from quantlab.plan import QuantPlan

STATUS_STYLE = {"float": "yellow", "absorbed": "dim"}
NODE_COLUMNS = (
    Column(header="node", kind="name"),
    Column(header="operator"),
    Column(header="status"),
    Column(header="reason", kind="prose"),
)
GRID_COLUMNS = (
    Column(header="tensor", kind="name"),
    Column(header="type"),
    Column(header="scale", kind="number"),
    Column(header="zero", kind="number"),
    Column(header="how"),
)


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What there is to explain: a plan, a sentence about where it comes from, and nodes that preparing took away."""

    plan: QuantPlan
    about: str
    gone: tuple[str, ...] = ()


def explain(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A quantized model, or a float one.", show_default=False)
    ],
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NODE|TENSOR]", help="What to explain; all nodes if left out.", show_default=False),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="PLAN",
            help="Explain by this plan instead of the one the model carries.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say why a node was quantized, absorbed or left in float, and where a tensor's scale comes from.

    A model that quantlab quantized carries its plan. A float model is planned with the default options.
    """
    from quantlab.graph.check import is_quantized
    from quantlab.graph.files import load
    from quantlab.rewrite.provenance import embedded_plan

    loaded = load(model)
    quantized = any(is_quantized(node) for node in loaded.graph.node)
    if plan is not None:
        from quantlab.cli.apply import read_plan

        subject = _Subject(plan=read_plan(plan), about=f"by the plan in {plan}:")
    elif quantized:
        found = embedded_plan(loaded)
        if found is None:
            _foreign(loaded, model, name)
            return
        subject = _Subject(plan=found, about=f"{model} was quantized by quantlab:")
    else:
        subject = _would_be(loaded, model)
    if quantized:
        from quantlab.workflow.stored import with_stored

        subject = _Subject(plan=with_stored(subject.plan, loaded), about=subject.about)
    _explain(subject, name)


def _would_be(loaded: onnx.ModelProto, path: Path) -> _Subject:
    from quantlab.graph import GraphView
    from quantlab.workflow import quantize as flow
    from quantlab.workflow.edited import with_constants

    recipe = RecipeChoices().recipe()
    prepared = flow.prepare_for(loaded, recipe)
    planned = with_constants(flow.decide(prepared, recipe), GraphView.of(prepared.model))
    about = f"{path} is a float model; with the default options this is what would be:"
    return _Subject(plan=planned, about=about, gone=prepared.gone)


def _explain(subject: _Subject, name: str | None) -> None:
    from quantlab.workflow.explain import explain as lines_for

    console, planned = output(), subject.plan
    if name is not None:
        if name in subject.gone and name not in planned.nodes:
            lines = [f"node {name!r}: folded into its neighbours, or removed, when the model is prepared"]
        else:
            lines = lines_for(planned, name)
        if subject.gone or any(tensor.qparams is None for tensor in planned.tensors.values()):
            console.print(subject.about, style="dim", soft_wrap=True)
        for line in lines:
            console.print(line, soft_wrap=True)
        return
    rows: list[tuple[Cell, ...]] = [
        (node, entry.op, Text(entry.status, style=STATUS_STYLE.get(entry.status, "")), entry.reason)
        for node, entry in planned.nodes.items()
    ]
    console.print(subject.about, soft_wrap=True)
    show(console, "", NODE_COLUMNS, rows)
    console.print()
    for gone in subject.gone:
        console.print(f"{gone!r} is folded into its neighbours, or removed, beforehand", soft_wrap=True)
    for note in planned.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(f"{len(planned.tensors)} tensors have grids; name one, or a node, to see why", style="dim")


def _origin(rounded: Rounded) -> str:
    if rounded.constant:
        return "stored as integers"
    return "made by an operator on integers" if rounded.before is None else "rounded at run time"


def _foreign(loaded: onnx.ModelProto, path: Path, name: str | None) -> None:
    """Show the grids of a model that somebody else quantized."""
    from quantlab.graph import GraphView
    from quantlab.graph.quantized import original_name, rounded_tensors

    console = output()
    found = list(rounded_tensors(GraphView.of(loaded)))
    if name is not None:
        known = {part for rounded in found for part in (rounded.integers, rounded.before, rounded.after) if part}
        found = [rounded for rounded in found if name in (rounded.integers, rounded.before, rounded.after)]
        if not found:
            raise OptionError(
                f"{str(path)!r} carries no quantlab plan, and no rounded tensor in it is called {name!r}"
                f"{nearest(name, known)}"
            )
    console.print(
        f"{path} carries no plan: it was not quantized by quantlab, or lost its metadata. "
        + ("What can be seen in it:" if found else "It has no tensor of integers with a constant scale either."),
        soft_wrap=True,
    )
    rows = [
        (
            rounded.before or original_name(rounded.integers),
            rounded.grid.spec.dtype.name,
            numbers(rounded.grid.scale),
            zeros(rounded.grid.zero_point),
            _origin(rounded),
        )
        for rounded in found
    ]
    if rows:
        show(console, "", GRID_COLUMNS, rows)
