"""`quantlab crosscheck`: a table of outcomes, JSON, and what it refuses."""

import json


def test_a_table_and_a_summary(run, files):
    shown = run("crosscheck", "quantizer", files.model, "--data", files.calibration, "--max-samples", 2).stdout
    assert "quantlab and onnxruntime.quantization (9 option sets)" in shown
    assert shown.splitlines()[-1] == "identical: 9 of 9; different for a known reason: 0; otherwise: 0"


def test_json_for_machines(run, files):
    data = ("--data", files.calibration, "--max-samples", 2)
    shown = run("crosscheck", "quantizer", files.model, *data, "--grid", "full", "--as-is", "--json").stdout
    verdicts = {entry["name"]: entry for entry in json.loads(shown)}
    assert len(verdicts) >= 24
    assert verdicts["entropy"]["meaning"] == "the same nodes, and the same bytes in every initializer"
    different = verdicts["symmetric calibration"]
    assert different["outcome"] == "graph"
    assert "Relu 4 0" in different["graph"]
    assert different["known"][0].startswith("a Relu or Clip stays where the grid behind it reaches past its bounds")


def test_what_is_not_there(run, files):
    data = ("--data", files.calibration)
    error = run("crosscheck", "runtime", files.model, *data, code=2).stderr
    assert error.strip() == "error: crosscheck compares quantizer or engines, got 'runtime'"
    error = run("crosscheck", "quantizer", files.model, *data, "--grid", "quik", code=2).stderr
    assert error.strip() == "error: unknown grid 'quik'; did you mean 'quick'? (allowed: quick, full)"


def test_engines_are_compared_in_steps_of_the_grid(run, files):
    given = ("crosscheck", "engines", files.int8, "--data", files.evaluation, "--max-samples", 5)
    shown = run(*given, "--tolerance", 1).stdout
    assert "onnxruntime and onnx's reference (5 samples)" in shown
    (row,) = json.loads(run(*given, "--json").stdout)
    assert (row["name"], row["count"]) == ("logits", 50)
    assert sum(row["steps"].values()) == 50


def test_a_difference_beyond_the_tolerance_ends_with_1(run, files):
    given = ("crosscheck", "engines", files.model, "--data", files.evaluation, "--max-samples", 5)
    error = run(*given, "--tolerance", 0, code=1).stderr
    assert error.startswith("error: output 'logits' differs by ")
    assert error.strip().endswith("and --tolerance is 0")
    error = run("crosscheck", "quantizer", *given[2:], "--tolerance", 1, code=2).stderr
    assert error.startswith("error: --tolerance goes with crosscheck engines")
