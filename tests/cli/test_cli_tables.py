"""Tables: names give way, numbers never do."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from quantlab.cli.tables import Column, bytes_text, decibels, shortened, show

COLUMNS = (
    Column(header="tensor", kind="name"),
    Column(header="role", optional=True),
    Column(header="scale", kind="number"),
    Column(header="reason", kind="prose", optional=True),
)
ROWS = [
    ("/backbone/layer1/layer1.0/conv1/Conv_output_0", "activation", "0.012345", "activation made by Conv 'x' " * 2),
    ("[bold]w[/bold]", "weight", "1e-05", "weight"),
]


def drawn(width):
    file = io.StringIO()
    show(Console(file=file, width=width, markup=False, highlight=False), "a title", COLUMNS, ROWS)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 10_000])
def test_no_line_is_too_wide_and_no_number_is_cut(width):
    lines = drawn(width)
    table = [line for line in lines if not line.startswith("(")]
    assert all(len(line) <= width for line in table)
    text = "\n".join(table)
    assert "0.012345" in text
    assert "1e-05" in text
    assert "[bold]w[/bold]" in text


def test_what_is_left_out_is_said():
    assert drawn(40)[-1] == "(reason: no room at 40 columns; widen the terminal, or pipe)"
    assert drawn(30)[-1] == "(role and reason: no room at 30 columns; widen the terminal, or pipe)"
    assert "reason" in drawn(120)[1]


def test_numbers_stand_to_the_right():
    _, header, _, *rows = drawn(10_000)
    end = header.index("scale") + len("scale")
    assert [row[:end].split()[-1] for row in rows] == ["0.012345", "1e-05"]
    assert all(row[end : end + 2] == "  " for row in rows)


@given(st.text("abc/_.0", max_size=60), st.integers(3, 60))
def test_a_shortened_name_keeps_both_ends(name, width):
    short = shortened(name, width)
    assert len(short) <= width
    if short != name:
        head, tail = short.split("…")
        assert name.startswith(head)
        assert name.endswith(tail)
        assert len(short) == width


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**20, "1.0 MiB"), (3 * 2**40, "3072.0 GiB")]
)
def test_bytes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("value", "text", "style"),
    [
        (float("inf"), "exact", ""),
        (40.0, "40.00", ""),
        (29.9, "29.90", "yellow"),
        (14.9, "14.90", "bold red"),
        (float("nan"), "nan", "bold red"),
    ],
)
def test_low_decibels_are_coloured(value, text, style):
    cell = decibels(value)
    assert (cell.plain, cell.style) == (text, style)
