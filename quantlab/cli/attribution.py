"""What `quantlab compare --attribute` and `--suggest` show and write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.cli.console import output, say
from quantlab.cli.tables import Column, counted, decibels, show
from quantlab.errors import OptionError

if TYPE_CHECKING:
    import onnx

    from quantlab.backend import Backend
    from quantlab.cli.samples import Samples
    from quantlab.debug.findings import Attribution, Comparison
    from quantlab.progress import Track
    from quantlab.workflow.recurrence import State

COLUMNS = (
    Column(header="tensor", kind="name"),
    Column(header="error"),
    Column(header="alone", kind="number"),
    Column(header="relieved", kind="number", optional=True),
    Column(header="left", kind="number", optional=True),
)

ADVISED = 0.01
"""Share alone from which advice is printed."""


def attributed(
    found: Comparison,
    reference: onnx.ModelProto,
    rounded: onnx.ModelProto,
    samples: Samples | None,
    *,
    state: State,
    backend: Backend,
    track: Track,
) -> Comparison:
    """Return a comparison with the attribution of the outputs' error.

    Raises:
        OptionError: There are no samples, or outputs are fed back.
    """
    from quantlab.debug.attribution import attribute

    if samples is None:
        raise OptionError("--attribute and --suggest run the models: give --data")
    if state:
        raise OptionError(
            "--attribute and --suggest do not feed outputs back: leave --state out and put the state into the samples"
        )
    return replace(found, attribution=attribute(reference, rounded, samples, backend=backend, track=track))


def show_attribution(found: Attribution, worst: int) -> None:
    """Print the sources that were measured, what the shares add up to, and advice for the large ones.

    Args:
        found: The attribution.
        worst: How many sources to show.
    """
    console = output()
    measured = [row for row in found.sources if row.alone is not None][:worst]
    rows = [(row.tensor, row.part, *map(percent, (row.alone, row.relieved, row.left))) for row in measured]
    console.print()
    show(console, "what the outputs' error comes from", COLUMNS, rows)
    console.print()
    parts = ((found.alone, "alone"), (found.interaction, "interaction"), (found.requantization, "requantization"))
    console.print(f"outputs: {decibels(found.sqnr_db)} dB = " + " + ".join(f"{percent(x)} {what}" for x, what in parts))
    for row in measured:
        if (row.alone or 0.0) >= ADVISED:
            console.print(f"advice: {row.advice}", soft_wrap=True, markup=False, highlight=False)


def percent(share: float | None) -> str:
    """Write a share with one decimal, or a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f}%"


def write_suggestion(found: Attribution, path: Path) -> None:
    """Write the nodes to leave in float as a recipe's rules, and say what they gain.

    Args:
        found: The attribution.
        path: The file.
    """
    from quantlab.cli.files import write_text
    from quantlab.debug.suggest import suggest

    chosen = suggest(found)
    write_text(path, json.dumps(chosen.to_json(), indent=2, ensure_ascii=False) + "\n")
    count = counted(len(chosen.nodes), "node")
    say("note", f"{path}: leaving {count} in float gains {chosen.gain_db:.1f} dB in the simulation")
