"""`--state` and `--nonfinite`."""

import json

import numpy as np
import onnx
import pytest

import quantlab

TEXT = (
    '<ir_version: 8, opset_import: ["": 17]> g (float[N, 4] x, float[N, 4] total) => (float[N, 4] y, float[N, 4] next) '
    "{ next = Add(x, total) u = Sigmoid(next) t = Sqrt(next) v = Sigmoid(t) y = Mul(u, v) }"
)


@pytest.fixture
def model(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((5, 4), np.float32) * np.arange(1, 6, dtype=np.float32)[:, None])
    return tmp_path / "model.onnx"


def quantized(run, *options):
    return run("quantize", "model.onnx", "-d", "data.npz", "-o", "out.onnx", "--plan-out", "p.json", *options)


def test_a_state_is_fed_back(run, model, tmp_path):
    result = quantized(run, "--state", "next=total", "--op-types", "Sigmoid")
    assert "minmax of 5 samples" in result.stdout
    assert json.loads((tmp_path / "p.json").read_text())["tensors"]["next"]["range"] == [1.0, 15.0]
    run("plan", "model.onnx", "-d", "data.npz", "--state", "next=total", "--op-types", "Sigmoid", "-o", "q.json")
    assert (tmp_path / "q.json").read_text() == (tmp_path / "p.json").read_text()
    plan = json.loads((tmp_path / "p.json").read_text())
    for name in ("range", "scale", "zero_point"):
        del plan["tensors"]["next"][name]
    (tmp_path / "edited.json").write_text(json.dumps(plan))
    run("apply", "model.onnx", "edited.json", "-o", "again.onnx", "-d", "data.npz", "--state", "next=total")
    tensor = quantlab.load(tmp_path / "again.onnx")
    assert tensor.graph == quantlab.load(tmp_path / "out.onnx").graph
    found = run("compare", "model.onnx", "out.onnx", "-d", "data.npz", "--state", "next=total", "--json")
    rows = {row["name"]: row for row in json.loads(found.stdout)["outputs"]}
    assert rows["y"]["sqnr_db"] > 30


def test_without_it_the_input_is_asked_for(run, model):
    result = run("quantize", "model.onnx", "-d", "data.npz", "-o", "out.onnx", code=2)
    assert "input 'total' is missing" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["next"], "--state 'next' is no pair: give the output and the input it becomes, as in hn=h0"),
        (["=total"], "--state '=total' is no pair"),
        (["next=total", "next=x"], "--state names the output 'next' twice: keep one pair"),
        (["next=totl"], "'totl' is not an input of the model; did you mean 'total'?"),
        (["nxt=total"], "state output 'nxt' is no tensor that the model makes; did you mean 'next'?"),
    ],
)
def test_messages(run, model, words, said):
    options = [part for word in words for part in ("--state", word)]
    result = run("quantize", "model.onnx", "-d", "data.npz", "-o", "out.onnx", *options, code=2)
    assert said in result.stderr.replace("\n", " ")


def test_nan_and_infinities(run, model, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones((5, 4), np.float32) * np.array([[4], [1], [-9], [1], [30]], np.float32))
    options = ("--state", "next=total", "--op-types", "Sigmoid")
    for policy in ("refuse-nan", "refuse"):
        result = run(
            "quantize", "model.onnx", "-d", "data.npz", "-o", "out.onnx", *options, "--nonfinite", policy, code=2
        )
        assert "tensor 't' contains NaN in sample 2" in result.stderr
    result = quantized(run, *options, "--nonfinite", "count")
    assert "warning: " in result.stderr
    assert "'t': 8 NaN and 0 infinite of 20 values" in result.stderr.replace("\n", " ")
    plan = json.loads((tmp_path / "p.json").read_text())
    assert plan["tensors"]["t"]["source"].endswith("; 8 NaN left out")
    result = run("plan", "model.onnx", "--nonfinite", "skip", code=2)
    assert "nonfinite 'skip' is unknown (allowed: refuse-nan, refuse, count)" in result.stderr
