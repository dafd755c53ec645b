"""`quantlab demo`: what it prints is what a plain computation finds, and what it leaves is complete."""

import json
import time

import numpy as np
import onnxruntime
import pytest

from quantlab.demo import digits, float_model
from quantlab.plan import QuantPlan


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The report as JSON, with the folder and the seconds it took."""
    from typer.testing import CliRunner

    from quantlab.cli.app import app

    folder = tmp_path_factory.mktemp("demo") / "inner" / "quantlab-demo"
    start = time.perf_counter()
    result = CliRunner().invoke(app, ["demo", "--folder", str(folder), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), folder, time.perf_counter() - start


def logits(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = digits().test_images
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


def test_the_report_agrees_with_a_plain_computation(told):
    report, folder, _ = told
    reference, rounded = logits(folder / "digits_float.onnx"), logits(folder / "digits_int8.onnx")
    labels = digits().test_labels
    assert report["measured_on"] == len(labels) == 899
    assert report["calibrated_on"] == 898
    assert report["float_top1"] == pytest.approx((reference.argmax(1) == labels).mean())
    assert report["int8_top1"] == pytest.approx((rounded.argmax(1) == labels).mean())
    assert report["agreement"] == pytest.approx((reference.argmax(1) == rounded.argmax(1)).mean())
    exact = reference.astype(np.float64)
    sqnr = 10 * np.log10((exact**2).sum() / ((exact - rounded) ** 2).sum())
    # The report runs the prepared float model, whose folded weights round differently in the last bit.
    assert report["output_sqnr_db"] == pytest.approx(sqnr, abs=0.01)


def test_the_demo_keeps_its_promises(told):
    report, _, seconds = told
    assert seconds < 30
    assert report["int8_top1"] > report["float_top1"] - 0.01
    assert report["output_sqnr_db"] > 30
    assert report["float_bytes"] / report["int8_bytes"] > 2.5
    assert len(report["worst"]) == 5
    decibels = [row["sqnr_db"] for row in report["worst"]]
    assert decibels == sorted(decibels)
    latency = report["latency"]
    assert latency["threads"] == 1
    assert latency["batch_size"] == 32
    assert latency["float_ms"] > 0
    assert latency["int8_ms"] > 0


def test_the_folder_holds_both_models_and_the_plan(told):
    report, folder, _ = told
    assert sorted(path.name for path in folder.iterdir()) == ["digits_float.onnx", "digits_int8.onnx", "plan.json"]
    assert (folder / "digits_float.onnx").read_bytes() == float_model()
    assert QuantPlan.from_json((folder / "plan.json").read_text()).resolved
    assert report["float_bytes"] == (folder / "digits_float.onnx").stat().st_size
    assert report["int8_bytes"] == (folder / "digits_int8.onnx").stat().st_size


def test_no_layer_of_the_int8_model_falls_back_to_float(told, tmp_path):
    """onnxruntime turns every Conv and Add of the demo into its integer twin."""
    import onnx

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(told[1] / "digits_int8.onnx", options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert not kinds & {"Conv", "FusedConv", "Gemm", "Add"}
    assert "QLinearConv" in kinds


def test_the_table(run):
    result = run("demo", "--no-per-channel", "--calibrate", "percentile", "--percent", "99.9")
    for words in (
        "uint8 activations, int8 weights, a scale per tensor, ranges by percentile of 898 others",
        "file size",
        "top-1",
        "same answer",
        "output SQNR",
        "higher means less error",
        "median latency",
        "(batch 32, 1 thread)",
        "The 5 tensors that moved most",
        "left in quantlab-demo:",
        "quantlab-demo/digits_int8.onnx",
    ):
        assert words in result.stdout
    assert result.stderr == ""


def test_a_file_in_the_place_of_the_folder_is_refused(run, tmp_path, unchanged):
    (tmp_path / "taken").write_text("mine")
    with unchanged(tmp_path):
        result = run("demo", "--folder", "taken", code=2)
    assert result.stderr == "error: cannot make the folder 'taken' (File exists): give another --folder\n"
