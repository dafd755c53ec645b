"""The page of pictures: its code makes the committed pictures, and the same ones each time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import quantlab.plots

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "plots.md").read_text(encoding="utf-8")
PICTURES = re.findall(r"\]\((images/[a-z_]+\.svg)\)", PAGE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the page's code was run, as a program of its own would run it."""
    place = tmp_path_factory.mktemp("page")
    code = "".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    subprocess.run([sys.executable, "-c", code], cwd=place, check=True, env=environment())
    return place


def environment():
    root = DOCS.parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "kernels")])}


@pytest.mark.parametrize("picture", PICTURES)
def test_a_committed_picture_is_what_the_page_draws(folder, picture):
    """Compared by words and number of curves: coordinates depend on matplotlib, the last digits on the processor."""
    fresh, committed = (folder / "docs" / picture).read_text(), (DOCS / picture).read_text()
    for pattern in (r"<text[^>]*>([^<]*)</text>", r'<path d="|<use '):
        # Sorted, for tensors whose errors are all but equal may change places.
        assert sorted(re.findall(pattern, committed)) == sorted(re.findall(pattern, fresh))
    assert re.findall(r"<text", committed)
    assert len(committed) < 100_000


def test_the_page_shows_every_picture_it_makes():
    assert sorted(PICTURES) == sorted(f"images/{name}" for name in re.findall(r'images / "([a-z_]+\.svg)"', PAGE))


def test_importing_the_room_does_not_load_matplotlib():
    code = "import sys, quantlab.plots, quantlab.cli.app; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment())
    assert done.stdout.strip() == "False"


def test_the_page_lists_every_function():
    listed = set(re.findall(r"`([a-z_]+)\(", PAGE.split("## All functions")[1]))
    assert listed == set(quantlab.plots.__all__)
