"""`quantlab operators`: what becomes of each operator in each format, with which types and granularities."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, write_json
from quantlab.cli.tables import Column, show
from quantlab.errors import OptionError

if TYPE_CHECKING:
    from quantlab.workflow.probes import Granularity
    from quantlab.workflow.support import OperatorRow

COLUMNS = (
    Column(header="operators", kind="prose"),
    Column(header="format"),
    Column(header="in the model", kind="prose"),
    Column(header="output's grid"),
    Column(header="activations", kind="prose"),
    Column(header="weights per tensor", kind="prose"),
    Column(header="weights per channel", kind="prose"),
    Column(header="weights in blocks", kind="prose"),
    Column(header="not together", kind="prose"),
)
WORDS: Mapping[Granularity, str] = {"per tensor": "per tensor", "per channel": "per channel", "blocked": "in blocks"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table: operators that are alike, and what the other columns say of them."""

    operators: tuple[str, ...]
    cells: tuple[str, ...]


def operators(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, as it stands in the docs.")] = False,
    json: o.Json = False,
) -> None:
    """Say what becomes of each operator, as its rule has it; no model is needed.

    Operators that are alike share a line; in JSON each has its own. An operator that is not there stays in float.
    """
    from quantlab.workflow.support import operator_rows

    if markdown and json:
        raise OptionError("--markdown and --json exclude each other: give one of them")
    rows = operator_rows()
    if json:
        write_json([row.to_json() for row in rows])
    elif markdown:
        sys.stdout.write(in_markdown(gathered(rows)))
    else:
        show(output(), "", COLUMNS, [(", ".join(line.operators), *line.cells) for line in gathered(rows)])


def gathered(rows: Iterable[OperatorRow]) -> list[Line]:
    """Gather operators that are alike.

    Args:
        rows: One an operator and format.

    Returns:
        Lines in the order of their first operators.
    """
    alike: dict[tuple[str, ...], list[OperatorRow]] = {}
    for row in rows:
        alike.setdefault((row.format, _place(row), row.output, *_types(row)), []).append(row)
    return [
        Line(
            operators=tuple(map(_plain, group)),
            cells=(kind, place.format(", ".join(row.becomes for row in group)), *others),
        )
        for (kind, place, *others), group in alike.items()
    ]


def in_markdown(found: Sequence[Line]) -> str:
    """Return lines as a table in Markdown."""
    rows = [[column.header for column in COLUMNS], ["---"] * len(COLUMNS)]
    rows += [[", ".join(f"`{name}`" for name in line.operators), *line.cells] for line in found]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _plain(row: OperatorRow) -> str:
    """Return an operator's type as `op_types` takes it, without its domain."""
    return row.operator.rpartition(".")[2]


def _place(row: OperatorRow) -> str:
    """Return what a model has in an operator's place; braces stand for operators of other names."""
    if row.outcome in ("float", "absorbed"):
        return row.outcome
    same = "the same, between pairs" if row.format == "QDQ" else "the same, on integers"
    place = same if row.becomes == _plain(row) else "{}"
    return f"{place}, if listed" if row.outcome == "on request" else place


def _types(row: OperatorRow) -> tuple[str, ...]:
    """Return the cells about types."""
    weights = [row.weights(granularity) for granularity in WORDS]
    return names(row.activations), *(_stored(kinds) for kinds in weights), _apart(row)


def _stored(kinds: Mapping[str, str]) -> str:
    """Return types of weights; those that are stored as another one say so."""
    same = [name for name, stored in kinds.items() if name == stored]
    other = [f"{name} as {stored}" for name, stored in kinds.items() if name != stored]
    return ", ".join([*([names(same)] if same else []), *other])


def _apart(row: OperatorRow) -> str:
    """Return which types do not go together, and at which granularity where that makes a difference."""
    found: dict[str, list[str]] = {}
    for granularity in WORDS:
        if row.weights(granularity):
            found.setdefault(_pairs(row.refused(granularity)), []).append(WORDS[granularity])
    if len(found) == 1:
        return next(iter(found))
    return ". ".join(f"{', '.join(where)}: {pairs}" for pairs, where in found.items() if pairs)


def _pairs(refused: Mapping[str, Sequence[str]]) -> str:
    sets: dict[tuple[str, ...], list[str]] = {}
    for activation, weights in refused.items():
        sets.setdefault(tuple(weights), []).append(activation)
    return "; ".join(f"{names(activations)} by {names(weights)}" for weights, activations in sets.items())


def names(kinds: Sequence[str]) -> str:
    """Return names of types; signed and unsigned ones of a width in one word, and all types of float8.

    Example:
        >>> names(["int4", "uint4", "int8"])
        '(u)int4, int8'
    """
    from quantlab.arrays import DTYPES

    words = [f"(u){name}" if f"u{name}" in kinds else name for name in kinds if name[1:] not in kinds]
    float8 = [name for name, row in DTYPES.items() if row.is_float]
    return ", ".join(words).replace(", ".join(float8), "float8")
