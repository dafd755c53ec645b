"""The documentation is true: its code runs, its output is what comes, and everything public is in it."""

import contextlib
import doctest
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import typer

import quantlab
from quantlab.calibration import calibrators
from quantlab.cli.app import app
from quantlab.cli.operators import gathered, in_markdown
from quantlab.plan import op_rules
from quantlab.plan.forms import known_operators
from quantlab.workflow.support import operator_rows

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]


def verbs(group, before: str = "") -> Iterator[tuple[str, object]]:
    """Yield every verb with its name; one of a group has the group's name in front of its own."""
    for name, verb in group.commands.items():
        if hasattr(verb, "commands"):
            yield from verbs(verb, f"{before}{name} ")
        else:
            yield before + name, verb


COMMANDS = dict(verbs(typer.main.get_command(app)))
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line it begins at."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2], text[: found.start()].count("\n") + 1)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


# Code


def run_python(block: Block, names: dict, page: Path) -> None:
    # Line numbers in tracebacks are those of the page.
    exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


def run_doctest(block: Block, names: dict, page: Path) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=report.append, clear_globs=False)
    names.update(test.globs)
    assert not report, "".join(report)


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Yield every quantlab command of a block with the output shown below it; only console blocks show output."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            yield line, shown
        return
    for line in text.splitlines():
        for command in line.split(" && "):
            if command.startswith("quantlab "):
                yield command, ""


def masked(text: str) -> list[str]:
    """Lines with single spaces and without their numbers, which may differ between machines."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [re.sub(r"\d[\d.,]*(e-?\d+)?", "#", line) for line in lines if line]


def run_commands(block: Block, environment: dict) -> None:
    for command, shown in commands(block):
        done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)
        if shown.startswith("error: "):
            assert (done.returncode, done.stderr.strip()) == (2, shown.strip()), command
            continue
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert not shown or masked(done.stdout) == masked(shown), f"{command}: {done.stdout}"


@pytest.fixture
def environment(tmp_path):
    """A `quantlab` program that runs this checkout, whether or not one is installed on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "quantlab"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m quantlab.cli "$@"\n')
    program.chmod(0o755)
    paths = [str(ROOT), str(ROOT / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])]
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120"}


@PAGE
def test_code_on_a_page_runs(page, tmp_path, monkeypatch, environment):
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    names: dict = {"__name__": "page"}
    with calibrators.scoped(), op_rules.scoped(), contextlib.redirect_stdout(None):
        for block in blocks(page):
            match block.language:
                case "python":
                    run_python(block, names, page)
                case "pycon":
                    run_doctest(block, names, page)
                case "sh" | "console":
                    run_commands(block, environment)


@PAGE
def test_every_block_says_what_it_is(page):
    allowed = {"python", "pycon", "sh", "console", "text", "json", "{toctree}"}
    assert {block.language for block in blocks(page)} <= allowed


# Links


def slug(heading: str) -> str:
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}


@PAGE
def test_links_between_pages_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{page.name} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(place), f"{page.name} links to {target}, which has no such heading"


@PAGE
def test_a_page_is_reached_from_the_index(page):
    if DOCS not in page.parents or page == DOCS / "index.md":
        return
    listed = set()
    for index in (DOCS / "index.md", *DOCS.glob("*/index.md")):
        for block in blocks(index):
            entries = [line for line in block.text.splitlines() if line and not line.startswith(":")]
            for entry in entries if block.language == "{toctree}" else ():
                listed |= set(index.parent.glob(f"{entry}.md"))
    assert page in listed


# The README


def marked(name: str) -> str:
    """The command behind a marker, found as CI finds it."""
    found = re.search(rf"^<!-- {name} -->\n```sh\n(.*)\n```$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert found, f"README.md has no line marked {name}"
    return found[1]


def test_the_two_commands():
    assert marked("main-command") == "pip install '.[all]' && quantlab demo"
    assert marked("test-command") == "pip install -e '.[all,test]' && pytest -n auto"


def test_the_output_shown_in_the_readme_is_that_of_the_demo(tmp_path, environment):
    done = subprocess.run(
        "quantlab demo", shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    shown = next(block.text for block in blocks(ROOT / "README.md") if block.language == "text")

    # Which tensors moved most, and which model is faster, depends on the machine.
    def words(text: str) -> list[str]:
        lines = [re.sub(r" times .*| activation .*", "", line) for line in masked(text) if "─" not in line]
        return [line for line in lines if not re.fullmatch(r"\w+", line)]

    assert words(shown) == words(done.stdout)


# The command line


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", prose(DOCS / "cli.md"), re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section {title!r}"
    return found[1]


def rows_for(verb: str) -> dict[str, list[str]]:
    """Rows of a verb's own table, and of the tables that its section refers to, by each option in their first cell."""
    own = section(f"quantlab {verb}")
    shared = [
        section(title)
        for title in ("Grids and ranges", "Which nodes", "Folders of images", "Running", "Long calibrations")
        if f"[{title.lower()}](#{slug(title)})" in own
    ]
    rows = {}
    for text in (*shared, own):
        for line in re.findall(r"^\| `.*$", text, re.MULTILINE):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows |= dict.fromkeys(re.findall(r"`(--?[a-z-]+)", cells[0]), cells)
    return rows


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_of_a_verb_is_documented_and_no_other(verb):
    options = [p for p in COMMANDS[verb].params if p.param_type_name == "option" and p.name != "help"]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    assert known == set(rows_for(verb))


@pytest.mark.parametrize("verb", COMMANDS)
def test_defaults_and_arguments_are_as_documented(verb):
    rows, own = rows_for(verb), section(f"quantlab {verb}")
    for parameter in COMMANDS[verb].params:
        if parameter.param_type_name == "argument":
            shown = parameter.metavar.replace("|", "\\|")
            assert f"| `{shown}` |" in own
        elif parameter.name != "help" and not parameter.required and parameter.default is not None:
            switch = {True: "on", False: "off"}
            wanted = switch[parameter.default] if parameter.is_flag else f"`{parameter.default}`"
            assert rows[parameter.opts[0]][1] == wanted, parameter.opts[0]


# Names


def all_docs() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("name", calibrators)
def test_every_range_rule_is_documented_with_its_options(name):
    text = (DOCS / "calibration.md").read_text()
    found = re.search(rf"^## `{name}`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/calibration.md has no section `{name}`"
    for option in fields(calibrators[name]):
        assert f"`{option.name}`" in found[1]


def test_every_room_is_in_the_architecture():
    package = ROOT / "quantlab"
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    table = [
        line.split("|")[1] for line in (DOCS / "architecture.md").read_text().splitlines() if line.startswith("| `")
    ]
    assert rooms - {"__init__"} <= {name for cell in table for name in re.findall(r"`(\w+)`", cell)}


TABLE_OF_OPERATORS = re.compile(r"<!-- quantlab operators --markdown -->\n\n(.*?)\n<!-- end -->", re.DOTALL)


def test_every_operator_is_explained_and_no_other():
    prose = TABLE_OF_OPERATORS.sub("", (DOCS / "operators.md").read_text())
    table = [line for line in prose.splitlines() if line.startswith("| `")]
    listed = [name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(listed) == sorted(known_operators("QDQ") | known_operators("QOperator"))


def test_the_table_of_operators_is_what_the_command_prints():
    shown = TABLE_OF_OPERATORS.search((DOCS / "operators.md").read_text())
    assert shown, "docs/operators.md has no table between its markers"
    wanted = in_markdown(gathered(operator_rows()))
    assert shown[1] == wanted, (
        "put what `quantlab operators --markdown` prints between the markers of docs/operators.md"
    )


@pytest.mark.parametrize("name", quantlab.__all__)
def test_every_public_name_is_documented(name):
    assert re.search(rf"(`|`quantlab\.|quantlab\.){name}\b", all_docs())


def test_the_table_of_quantize_static_is_its_signature():
    parameters = inspect.signature(quantlab.quantize_static).parameters.values()
    table = [line.split("|") for line in (DOCS / "python-api.md").read_text().splitlines() if line.startswith("| `")]
    documented = [(cells[1].strip(" `"), cells[2].strip(" `")) for cells in table]
    assert documented == [(parameter.name, default_text(parameter.default)) for parameter in parameters]


def default_text(default: object) -> str:
    if default is inspect.Parameter.empty:
        return ""
    return getattr(default, "name", None) or getattr(default, "__name__", None) or repr(default)


FUNCTIONS = [name for name in quantlab.__all__ if inspect.isfunction(getattr(quantlab, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_of_a_public_function_is_in_its_docstring(name):
    function = getattr(quantlab, name)
    text = inspect.cleandoc(function.__doc__)
    found = re.search(r"^Args:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    documented = re.findall(r"^    (\w+): \S", found[1], re.MULTILINE) if found else []
    assert documented == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_named_in_a_docstring_exist(name):
    text = inspect.cleandoc(getattr(quantlab, name).__doc__)
    found = re.search(r"^Raises:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    named = re.findall(r"^    (\w+): \S", found[1], re.MULTILINE) if found else []
    assert all(hasattr(quantlab.errors, error) for error in named)


def test_every_error_is_documented():
    family = [
        name
        for name, value in vars(quantlab.errors).items()
        if inspect.isclass(value) and value.__module__ == "quantlab.errors"
    ]
    assert set(family) <= set(re.findall(r"^\| `(\w+)` \|", (DOCS / "errors.md").read_text(), re.MULTILINE))
