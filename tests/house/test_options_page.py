"""The page of options names every field and every key, with its default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from quantlab.plan import PRESETS, Layout, Numerics, Recipe
from quantlab.workflow.extra_options import KEYS, ExtraOptions

PAGE = (Path(__file__).parents[2] / "docs" / "options.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first column has this heading, by what stands in backticks there."""
    lines = PAGE[PAGE.index(f"\n| {heading} |") + 1 :].splitlines()[2:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[: lines.index("")]]
    return {re.findall(r"`([^`]+)`", cells[0])[0]: cells for cells in rows}


def test_every_field_is_there_and_no_other() -> None:
    documented = PAGE[PAGE.index("## Recipe") : PAGE.index("## Which nodes")]
    listed = re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE)
    assert sorted(listed) == sorted(one.name for kind in (Recipe, Layout, Numerics) for one in fields(kind))


@pytest.mark.parametrize(("kind", "heading"), [(Layout, "field of `Layout`"), (Numerics, "field of `Numerics`")])
def test_small_groups_have_their_defaults(kind: type[Layout | Numerics], heading: str) -> None:
    rows = table(heading)
    assert {name: cells[1] for name, cells in rows.items()} == {
        one.name: f'`"{one.default}"`' if isinstance(one.default, str) else f"`{one.default}`" for one in fields(kind)
    }


def test_every_key_is_there_and_no_other() -> None:
    assert set(table("key")) == set(KEYS)


def test_defaults_of_keys_change_nothing() -> None:
    words = {"False": False, "True": True, "None": None, "[]": [], "{}": {}}
    for key, cells in table("key").items():
        if cells[2] in words and not key.startswith(("SmoothQuantFolding", "Calib")):
            assert ExtraOptions.parse({key: words[cells[2]]}) == ExtraOptions(), key


def test_every_preset_is_there() -> None:
    assert set(table("name")) == set(PRESETS)
