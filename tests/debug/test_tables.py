"""Tables as text: nothing in a cell breaks out of it, and every format can be read back."""

import csv
import io
import math
from html.parser import HTMLParser

import pytest

from quantlab.debug.tables import Table
from quantlab.errors import ShapeError

NASTY = Table(("name", "a|b"), (("x|y\\|z", 1.5), ("<b>&\"'", None), ("line\nbreak, comma", math.inf)))


def cells(line):
    """Split a Markdown line at pipes that no backslash escapes, naively."""
    found, current, index = [], "", 0
    while index < len(line):
        if line[index] == "\\":
            current += line[index + 1]
            index += 1
        elif line[index] == "|":
            found.append(current.strip())
            current = ""
        else:
            current += line[index]
        index += 1
    return found[1:]


def test_markdown_cells_read_back():
    lines = NASTY.to_markdown().splitlines()
    assert [cells(line) for line in lines] == [
        ["name", "a|b"],
        ["---", "---"],
        ["x|y\\|z", "1.5"],
        ["<b>&\"'", ""],
        ["line break, comma", "inf"],
    ]


def test_csv_reads_back_with_all_digits():
    table = Table(("name", "value"), (('say "x", y', 0.1 + 0.2), ("new\nline", None)))
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert rows == [["name", "value"], ['say "x", y', repr(0.1 + 0.2)], ["new\nline", ""]]


def test_html_shows_text_and_nothing_else():
    class Reader(HTMLParser):
        tags, text = set(), []

        def handle_starttag(self, tag, attrs):
            self.tags.add(tag)

        def handle_data(self, data):
            self.text.append(data)

    reader = Reader()
    reader.feed(NASTY.to_html())
    assert reader.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert reader.text == ["name", "a|b", "x|y\\|z", "1.5", "<b>&\"'", "line\nbreak, comma", "inf"]


def test_json_has_no_numbers_that_json_lacks():
    assert NASTY.to_json()[2] == {"name": "line\nbreak, comma", "a|b": None}


def test_a_row_of_another_width_is_refused():
    with pytest.raises(ShapeError, match=r"row 1 has 1 cells for 2 columns: a, b"):
        Table(("a", "b"), ((1, 2), (3,)))
