"""A page: one file, whole or not at all, and no way from data to markup."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from itertools import pairwise

import pytest

from quantlab.errors import ModelError
from quantlab.pages.page import Page, assembled, embedded
from quantlab.pages.report import SCRIPTS

NASTY = {"</script><b>": ["<!--", "&amp;", "\u2028\u2029", "{{style}}"]}


def page(title="a <title>", data=NASTY):
    return assembled(title, data, template="report.html", style="report.css", scripts=SCRIPTS)


def test_embedded_data_reads_back_and_holds_no_markup():
    text = embedded(NASTY)
    assert json.loads(text) == NASTY
    assert not set("<>&\u2028\u2029") & set(text)


def test_embedded_numbers_are_finite():
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        embedded({"x": float("nan")})


def test_places_of_the_template_are_filled_once():
    text = page().html
    assert "<title>a &lt;title&gt;</title>" in text
    assert re.findall(r"\{\{(\w+)\}\}", text) == ["style"]  # the one that stands in the data
    assert text.count("</script>") == 2


def test_the_policy_allows_this_style_and_this_script_only():
    text = page().html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    assert policy == f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"


def test_nothing_is_loaded_and_no_data_becomes_markup():
    text = page().html
    assert re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]+[^ \"']*", text) == ["http://www.w3.org/2000/svg"]  # a name
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_saving_writes_all_or_nothing(tmp_path):
    path = tmp_path / "a.html"
    Page(html="é").save(path)
    assert path.read_text(encoding="utf-8") == "é"
    with pytest.raises(ModelError, match=r"cannot write '.*nowhere/a\.html': there is no folder"):
        Page(html="x").save(tmp_path / "nowhere" / "a.html")
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]


def test_a_notebook_gets_it_in_a_frame_of_its_own():
    shown = Page(html='<p title="a">&amp;</p>')._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1]) == '<p title="a">&amp;</p>'
    assert 'sandbox="allow-scripts"' in shown


def luminance(colour):
    """Return the relative luminance of WCAG 2.2 of a colour such as `#e4ecf3`."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast of WCAG 2.2 of two luminances."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


@pytest.mark.parametrize(("scheme", "first"), [("light", 0), ("dark", 1)])
def test_colours_of_damage_are_told_apart_by_lightness_and_can_be_written_on(scheme, first):
    style = re.search(r"<style>(.*?)</style>", page().html, re.DOTALL)[1]
    colours = {
        kind: [re.findall(rf"--{kind}{index}: (#[0-9a-f]{{6}})", style)[first] for index in range(5)]
        for kind in ("d", "i")
    }
    lights = [luminance(colour) for colour in colours["d"]]
    assert lights == sorted(lights, reverse=scheme == "light")
    written = [contrast(back, luminance(ink)) for back, ink in zip(lights, colours["i"], strict=True)]
    assert min(written) >= 4.5  # WCAG 2.2, level AA
    assert min(contrast(one, other) for one, other in pairwise(lights)) > 1.1
