"""`quantlab compare`: the worst tensors first, in a table or as JSON."""

import json

import numpy as np
import pytest

from quantlab.backend import OrtBackend
from quantlab.demo import digits
from quantlab.graph.files import load


def test_json_is_clean_and_right(run, files):
    result = run("compare", files.model, files.int8, "--data", files.evaluation, "--json")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    decibels = [row["sqnr_db"] for row in found["tensors"]]
    assert decibels == sorted(decibels)
    batch = {"image": digits().test_images[:100]}
    (exact,), (rounded,) = (
        [next(iter(values.values())) for values in [OrtBackend().open(load(path))(batch)]]
        for path in (files.model, files.int8)
    )
    assert found["agreement"] == pytest.approx((exact.argmax(1) == rounded.argmax(1)).mean())
    exact = exact.astype(np.float64)
    sqnr = 10 * np.log10((exact**2).sum() / ((exact - rounded) ** 2).sum())
    assert found["outputs"][0]["sqnr_db"] == pytest.approx(sqnr, abs=0.01)


def test_table(run, files):
    out = run("compare", files.model, files.int8, "--data", files.evaluation, "--worst", "3").stdout
    assert "the worst 3 of 23 tensors (100 samples)" in out
    plain = run("compare", files.model, files.int8, "--data", files.evaluation, "--json").stdout
    worst = [row["name"] for row in json.loads(plain)["tensors"][:3]]
    first = out.splitlines()[3:6]
    assert [line.split()[0] for line in first] == worst
    assert "agreement with the float model: " in out
    out = run("compare", files.model, files.int8, "--data", files.evaluation, "--worst", "99").stdout
    assert "all 23 tensors, worst first" in out


def test_unmatched_tensors_are_listed(run, files, tmp_path):
    model = load(files.model)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "body_relu_out":
                    names[index] = "another"
    (tmp_path / "renamed.onnx").write_bytes(model.SerializeToString())
    out = run("compare", "renamed.onnx", files.int8, "--data", files.evaluation).stdout
    assert "without a partner" not in out
    next(node for node in model.graph.node if node.name == "/stem/Relu").op_type = "Sigmoid"
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    out = run("compare", "other.onnx", files.int8, "--data", files.evaluation).stdout
    assert (
        "without a partner in the float model: 'body_conv.weight_DequantizeLinear_Output': it is read by Conv "
        "'/body/Conv', and the float model has no such node there: the float model was optimized before or after"
    ) in out


def test_lines(run, files):
    plain = run("compare", files.model, files.int8, "--data", files.evaluation, "--json").stdout
    rows = {row["name"]: row for row in json.loads(plain)["tensors"]}
    out = run("compare", files.model, files.int8, "--data", files.evaluation, "--lines").stdout.splitlines()
    worst = next(iter(rows.values()))
    assert out[0] == f"Cross model error of '{worst['name']}': {worst['sqnr_db']:.3f} dB"
    assert out[1] == f"QDQ error of '{worst['name']}': {worst['local_db']:.3f} dB"
    assert sum(line.startswith("QDQ error of ") for line in out) == sum(
        row["kind"] == "activation" for row in rows.values()
    )


def test_weights_alone_and_files(run, files, tmp_path):
    out = run("compare", files.model, files.int8, "--csv", tmp_path / "a.csv", "--markdown", tmp_path / "a.md").stdout
    assert "the worst 10 of 12 tensors (weights alone, without data)" in out
    assert "outputs" not in out
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 13
    assert (tmp_path / "a.md").read_text().startswith("| tensor | kind | node | operator | type |")


def test_models_in_the_wrong_order(run, files):
    result = run("compare", files.int8, files.model, "--data", files.evaluation, code=2)
    assert result.stderr.startswith("error: the model is already quantized: ")
    result = run("compare", files.model, files.model, "--data", files.evaluation, code=2)
    assert result.stderr == (
        "error: nothing in the second model is quantized: give the float model first, the quantized one second\n"
    )
