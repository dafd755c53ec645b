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
    assert error.strip() == "error: crosscheck compares quantizer, got 'runtime'"
    error = run("crosscheck", "quantizer", files.model, *data, "--grid", "quik", code=2).stderr
    assert error.strip() == "error: unknown grid 'quik'; did you mean 'quick'? (allowed: quick, full)"
