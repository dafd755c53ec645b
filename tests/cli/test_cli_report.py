"""`quantlab report`: a page is written, or nothing is."""

import json
import re


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def test_a_page_is_written(run, files, tmp_path):
    result = run("report", files.model, files.int8, "--data", files.evaluation, "-o", "r.html", "--max-samples", "20")
    assert re.fullmatch(r"r\.html: \d+\.\d KiB, made of 20 samples\n", result.stdout)
    shown = data_of(tmp_path / "r.html")
    assert shown["title"] == files.int8.name
    assert shown["attribution"] is None


def test_the_title_and_the_attribution_can_be_asked_for(run, files, tmp_path):
    options = ("--title", "A & B", "--attribute", "--max-samples", "2")
    run("report", files.model, files.int8, "--data", files.evaluation, "-o", "r.html", *options)
    assert "<title>A &amp; B</title>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert data_of(tmp_path / "r.html")["attribution"]["samples"] == 2


def test_models_are_never_overwritten_and_folders_must_exist(run, files):
    data = ("--data", files.evaluation)
    found = run("report", files.model, files.int8, *data, "-o", files.int8, code=2)
    assert f"--output '{files.int8}' is the same file as QUANTIZED: give another name" in found.stderr
    found = run("report", files.model, files.int8, *data, "-o", "nowhere/r.html", code=2)
    assert "cannot write 'nowhere/r.html': there is no folder" in found.stderr


def test_models_in_the_wrong_order_are_refused(run, files, tmp_path):
    found = run("report", files.int8, files.model, "--data", files.evaluation, "-o", "r.html", code=2)
    assert found.stderr.startswith("error: ")
    assert not (tmp_path / "r.html").exists()
