"""`quantlab operators`: the same rows as a table, as Markdown and as JSON."""

import json

import pytest

from quantlab.cli.operators import Line, gathered, in_markdown, names
from quantlab.workflow.support import Combination, OperatorRow, operator_rows


@pytest.fixture(scope="module")
def rows():
    return operator_rows()


def test_json_has_a_row_for_each_operator_and_format(run, rows):
    result = run("operators", "--json")
    assert json.loads(result.stdout) == [row.to_json() for row in rows]
    assert result.stderr == ""
    conv = next(row for row in json.loads(result.stdout) if (row["operator"], row["format"]) == ("Conv", "QOperator"))
    assert conv == {
        "operator": "Conv",
        "format": "QOperator",
        "outcome": "quantized",
        "reason": "",
        "output": "own",
        "becomes": "QLinearConv",
        "activations": ["int8", "uint8"],
        "weights": {
            "per tensor": {"int8": "int8", "uint8": "uint8"},
            "per channel": {"int8": "int8", "uint8": "int8"},
            "blocked": {},
        },
        "refused": {"per tensor": {"int8": ["uint8"]}, "per channel": {}, "blocked": {}},
    }


def test_markdown_names_every_operator_once_a_format(run, rows):
    result = run("operators", "--markdown")
    assert result.stdout == in_markdown(gathered(rows))
    cells = [line.split(" | ") for line in result.stdout.removesuffix("\n").split("\n")]
    assert {len(row) for row in cells} == {9}
    found = sorted((name.strip("|` "), row[1]) for row in cells[2:] for name in row[0].split(", "))
    assert found == sorted((row.operator.rpartition(".")[2], row.format) for row in rows)


def test_the_table_has_the_same_lines(run, rows):
    out = run("operators").stdout
    for line in gathered(rows):
        words = " ".join([", ".join(line.operators), *filter(None, line.cells)])
        assert any(" ".join(shown.split()) == words for shown in out.splitlines())


def test_two_ways_to_print_are_refused(run):
    result = run("operators", "--markdown", "--json", code=2)
    assert result.stderr == "error: --markdown and --json exclude each other: give one of them\n"


def row(operator, *pairs, **more):
    combinations = tuple(
        Combination(activation=activation, weight=weight, granularity="per tensor", stored=weight)
        for activation, weight in pairs
    )
    return OperatorRow(
        operator=operator,
        **{"format": "QDQ", "outcome": "quantized", "becomes": operator, "combinations": combinations} | more,
    )


def test_rows_that_are_alike_share_a_line_and_what_does_not_go_together_is_named():
    pairs = [("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8")]
    found = gathered([row("A", *pairs), row("B", ("int8", "int8")), row("C", *pairs)])
    kinds = ("(u)int8", "(u)int8", "", "", "int8 by uint8")
    assert found[0] == Line(operators=("A", "C"), cells=("QDQ", "the same, between pairs", "none", *kinds))
    assert found[1].operators == ("B",)
    assert found[1].cells[3:] == ("int8", "int8", "", "", "")


def test_types_are_named_in_few_words():
    assert names(["uint8"]) == "uint8"
    assert names(["int8", "uint8", "uint16"]) == "(u)int8, uint16"
    every = ["float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"]
    assert names(["int16", *every]) == "int16, float8"
    assert names(every[:2]) == "float8e4m3fn, float8e4m3fnuz"
