"""A verb takes a group of options as one argument; typer sees an option for each field, where the argument stands."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from quantlab.cli.groups import grouped


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A group whose annotations are strings, as those of the program are."""

    sheets: Annotated[int, typer.Option(metavar="N", min=1, help="How many.")] = 1
    colours: Annotated[list[str] | None, typer.Option("--colour", help="Can be given several times.")] = None


@dataclass(frozen=True, kw_only=True)
class Post:
    """A group with an option that has no default."""

    address: Annotated[str, typer.Option("--to", help="Where it goes.")]


def program(verb):
    app = typer.Typer(rich_markup_mode=None)  # errors in plain lines
    app.command()(verb)
    return lambda *words: CliRunner().invoke(app, list(words))


@grouped
def write(name: str, *, paper: Paper, bold: bool = False, post: Post) -> None:
    """Write a letter."""
    print(name, paper, bold, post)


def test_a_verb_gets_its_groups_put_together():
    done = program(write)("Ada", "--to", "London", "--sheets", "3", "--colour", "red", "--colour", "blue", "--bold")
    assert done.exit_code == 0, done.output
    assert done.output == "Ada Paper(sheets=3, colours=['red', 'blue']) True Post(address='London')\n"


def test_what_is_left_out_has_the_default_of_the_field():
    assert program(write)("Ada", "--to", "London").output == "Ada Paper(sheets=1, colours=None) False " + (
        "Post(address='London')\n"
    )


def test_a_field_without_default_is_needed_and_limits_hold():
    run = program(write)
    assert (run("Ada").exit_code, run("Ada", "--to", "London", "--sheets", "0").exit_code) == (2, 2)
    assert "Missing option '--to'" in run("Ada").stderr
    assert "Invalid value for '--sheets'" in run("Ada", "--to", "London", "--sheets", "0").stderr


def test_options_stand_in_place_of_their_group_and_the_verb_keeps_its_name():
    assert list(inspect.signature(write).parameters) == ["name", "sheets", "colours", "bold", "address"]
    assert (write.__name__, write.__doc__) == ("write", "Write a letter.")


def test_the_same_option_twice_is_refused_when_the_verb_is_defined():
    with pytest.raises(ValueError, match="duplicate parameter name: 'sheets'"):

        @grouped
        def print_out(*, paper: Paper, sheets: int = 1) -> None:
            """Print."""
