"""`quantlab compare --attribute --suggest`, and `quantlab quantize --exclude @FILE`: the loop on the command line."""

import json
import re

import numpy as np
import onnx
import pytest

from tests.debug.faults import hot_channel, samples


@pytest.fixture
def planted(run, tmp_path):
    """A model with one culprit, its samples, and its quantized version."""
    onnx.save(hot_channel(), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate([sample["x"] for sample in samples(8)]))
    run("quantize", "model.onnx", "-d", "data.npz", "--per-channel", "-o", "int8.onnx")
    return tmp_path


def test_the_loop_closes(run, planted):
    result = run("compare", "model.onnx", "int8.onnx", "-d", "data.npz", "--attribute", "--suggest", "out.json")
    table = result.stdout.split("what the outputs' error comes from")[1]
    assert re.match(r"\s+tensor\s+error\s+alone.*\n.*\n\s*hot\s+rounding\s+\d+\.\d%", table)
    assert "dB = " in table
    assert "% requantization" in table
    assert "leave nodes 'hot_node', 'middle_node' in float (--exclude)" in table
    gain = float(re.search(r"note: out.json: leaving 2 nodes in float gains (\d+\.\d) dB", result.stderr)[1])
    run("quantize", "model.onnx", "-d", "data.npz", "--per-channel", "--exclude", "@out.json", "-o", "better.onnx")
    before, after = (
        json.loads(run("compare", "model.onnx", name, "-d", "data.npz", "--json").stdout)["outputs"][0]["sqnr_db"]
        for name in ("int8.onnx", "better.onnx")
    )
    assert after - before > 20
    assert after - before == pytest.approx(gain, abs=1)
    assert "of the output error: rounding, tensor 'hot'" in run("explain", "better.onnx", "hot_node").stdout


def test_json_holds_the_attribution(run, planted):
    result = run("compare", "model.onnx", "int8.onnx", "-d", "data.npz", "--suggest", "out.json", "--json")
    found = json.loads(result.stdout)["attribution"]
    assert found["sources"][0]["tensor"] == "hot"
    assert found["sources"][0]["nodes"] == ["hot_node", "middle_node"]
    assert (planted / "out.json").exists()


def test_without_data_there_is_nothing_to_attribute(run, planted):
    result = run("compare", "model.onnx", "int8.onnx", "--attribute", code=2)
    assert result.stderr == "error: --attribute and --suggest run the models: give --data\n"


def test_outputs_are_not_fed_back(run, tmp_path):
    x = onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, (4, 16))
    model = hot_channel()
    model.graph.node.append(onnx.helper.make_node("Add", ["y", "h"], ["next"], name="next_node"))
    model.graph.input.append(x)
    model.graph.output.append(onnx.helper.make_tensor_value_info("next", onnx.TensorProto.FLOAT, (4, 16)))
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate([sample["x"] for sample in samples(3)]))
    run("quantize", "model.onnx", "-d", "data.npz", "--state", "next=h", "-o", "int8.onnx")
    result = run("compare", "model.onnx", "int8.onnx", "-d", "data.npz", "--state", "next=h", "--attribute", code=2)
    assert result.stderr == (
        "error: --attribute and --suggest do not feed outputs back: leave --state out and put the state into the "
        "samples\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "error: --exclude '@list.json' cannot be read: "),
        ("{", "error: --exclude '@list.json' cannot be read: "),
        ('["a"]', "error: --exclude '@list.json' must be a JSON object with the rules of a recipe, got ['a']"),
        (
            '{"rules": [{"nodes": ["hot_node"]}]}',
            "error: --exclude '@list.json' has a rule that leaves nothing in",
        ),
        ('{"ruels": []}', "error: unknown recipe field 'ruels'; did you mean 'rules'?"),
    ],
)
def test_files_that_exclude_nothing(run, planted, text, message):
    if text is not None:
        (planted / "list.json").write_text(text)
    arguments = ("quantize", "model.onnx", "-d", "data.npz", "--exclude", "@list.json", "-o", "x.onnx")
    assert run(*arguments, code=2).stderr.startswith(message)
