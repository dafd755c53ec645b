"""`quantlab plot`: each picture is written, and what cannot be drawn is refused in a sentence."""

import json
import re

import numpy as np
import pytest


def text_of(path):
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


@pytest.fixture
def values(tmp_path):
    np.save(tmp_path / "values.npy", np.random.default_rng(0).standard_normal(2000).astype(np.float32))
    return tmp_path / "values.npy"


def test_graphs_stand_side_by_side(run, files, tmp_path):
    done = run("plot", "graph", files.model, files.int8, "-o", "graphs.svg")
    size = (tmp_path / "graphs.svg").stat().st_size
    assert done.stdout == f"written  graphs.svg, {size:,} bytes\n"
    words = text_of(tmp_path / "graphs.svg")
    assert "float.onnx: 18 nodes" in words
    assert "int8.onnx: 44 nodes" in words
    run("plot", "graph", files.int8, files.int8, "-o", "twice.svg")
    assert text_of(tmp_path / "twice.svg").count("image") == 1  # one model is drawn once


def test_errors_are_those_of_compare(run, files, tmp_path):
    data = ["--data", files.evaluation, "--max-samples", 20]
    run("plot", "sqnr", files.model, files.int8, *data, "-o", "sqnr.svg", "--worst", 3)
    shown = run("compare", files.model, files.int8, *data, "--json").stdout
    plain = json.loads(shown)
    rows = sorted(plain["tensors"] + plain["outputs"], key=lambda row: row["sqnr_db"])
    words = text_of(tmp_path / "sqnr.svg")
    assert [name for name in words if name in {row["name"] for row in rows}] == [row["name"] for row in rows[:3]]
    assert f"the worst 3 of {len(rows)} tensors" in words


def test_histogram_of_an_activation_with_its_grid(run, files, tmp_path):
    data = ["--data", files.calibration]
    run("plot", "histogram", files.model, "residual_out", *data, "--quantized", files.int8, "-o", "a.svg")
    words = text_of(tmp_path / "a.svg")
    assert any(word.startswith("uint8: scale ") for word in words)
    assert any(word.startswith("819,200 values from ") for word in words)  # 200 images, 64 channels, 8 x 8
    run("plot", "histogram", files.model, "residual_out", *data, "-o", "b.png", "--log")
    assert (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_a_constant_needs_no_samples(run, files, tmp_path):
    run("plot", "histogram", files.model, "classifier.weight", "-o", "a.svg")
    assert any(word.startswith("480 values from ") for word in text_of(tmp_path / "a.svg"))


def test_channels_take_the_axis_of_the_operator(run, files, tmp_path):
    run("plot", "channels", files.model, "classifier.weight", "--quantized", files.per_channel, "-o", "a.svg")
    words = text_of(tmp_path / "a.svg")
    assert any(word.startswith("10 channels of axis 0: ") for word in words)
    assert any(word.startswith("int8, a scale for each channel, from ") for word in words)
    run("plot", "channels", files.model, "classifier.weight", "--axis", 1, "-o", "b.svg")
    assert any(word.startswith("48 channels of axis 1: ") for word in text_of(tmp_path / "b.svg"))


def test_rules_beside_each_other(run, values, tmp_path):
    run("plot", "observers", values, "--rules", "minmax, mse", "--type", "int8", "--symmetric", "-o", "a.svg")
    words = text_of(tmp_path / "a.svg")
    assert [word.split(":")[0] for word in words if ": scale " in word] == ["minmax", "mse"]
    assert all(word.endswith("zero point 0") for word in words if ": scale " in word)


def test_a_mapping_of_a_range_with_a_negative_end(run, tmp_path):
    run("plot", "mapping", "--range", "-1,3", "--type", "int4", "-o", "a.svg")
    assert "int4, asymmetric, per tensor: scale 0.266667, zero point -4" in text_of(tmp_path / "a.svg")


def test_messages(run, files, values, tmp_path):
    def refused(*args):
        text = run("plot", *args, code=2).stderr
        return " ".join(text.split())

    out = ("-o", "a.svg")
    data = ("--data", files.calibration)
    assert refused("graph", files.model, "-o", "a.gif") == "error: picture 'a.gif' must be named *.svg or *.png"
    histogram = ("histogram", files.model)
    assert "tensor 'residual_out' is computed: give samples to run the model on with --data" in refused(
        *histogram, "residual_out", *out
    )
    assert "the model has no tensor 'residual_ou'; did you mean 'residual_out'" in refused(
        *histogram, "residual_ou", *data, *out
    )
    assert "has no grid for a tensor 'residual_ou'; did you mean 'residual_out'" in refused(
        *histogram, "residual_ou", *data, "--quantized", files.int8, *out
    )
    assert "the model has no constant 'classifier.weigh'; did you mean 'classifier.weight'" in refused(
        "channels", files.model, "classifier.weigh", *out
    )
    assert "is no .npy file of numbers: give an array that numpy.save wrote" in refused("observers", files.model, *out)
    assert "there is no file 'none.npy'" in refused("observers", "none.npy", *out)
    assert "unknown range rule 'minmix'; did you mean 'minmax'" in refused(
        "observers", values, "--rules", "minmix", *out
    )
    assert "--range '1' is no range: give its two ends, as in --range -1,3" in refused("mapping", "--range", "1", *out)
    assert "range [3.0, 1.0] must be finite with its lower end first" in refused("mapping", "--range", "3,1", *out)
    assert not list(tmp_path.glob("*.svg"))
