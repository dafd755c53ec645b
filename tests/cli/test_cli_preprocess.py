"""`quantlab preprocess`: its flags, in both spellings, its files and its report."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

from quantlab.cli.preprocess import normalized
from quantlab.workflow.preprocess import is_pre_processed
from tests.graph.builders import build

UNKNOWN = "g (float[N,3,3] x) => (float[A,B,C] y) { t = com.microsoft.Inverse(x) u = Relu(t) y = Neg(u) }"


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture
def unknown(tmp_path):
    onnx.save(build(UNKNOWN, domains={"com.microsoft": 1}), tmp_path / "unknown.onnx")
    squares = np.eye(3, dtype=np.float32) * np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1)
    np.savez(tmp_path / "data.npz", x=squares)
    return tmp_path


def test_a_file_and_a_folder_as_output_give_the_same_bytes(run, files, tmp_path):
    (tmp_path / "folder").mkdir()
    run("preprocess", "--input", files.model, "--output", "out.onnx")
    shown = run("preprocess", "--input", files.model, "--output", "folder").stdout
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "folder" / "float-infer.onnx").read_bytes()
    assert is_pre_processed(onnx.load(tmp_path / "out.onnx"))
    lines = [line.split(maxsplit=1) for line in shown.splitlines()]
    assert ["written", "folder/float-infer.onnx"] in lines
    assert any(line[0] == "infer-shapes" and line[1].startswith("onnx found types and shapes of ") for line in lines)
    assert any(line[0] == "nodes" and line[1].startswith("18 became ") for line in lines)
    assert any(line[0] == "time" and line[1].endswith(" s") for line in lines)


def test_it_is_a_module_too(run, files, tmp_path):
    run("preprocess", "--input", files.model, "--output", "out.onnx")
    command = [sys.executable, "-m", "quantlab.preprocess", "--input", str(files.model), "--output"]
    done = subprocess.run([*command, "module.onnx"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "infer-shapes" in done.stdout
    assert (tmp_path / "module.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()
    missing = subprocess.run([sys.executable, "-m", "quantlab.preprocess"], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "Missing option '--input'" in missing.stderr


def test_what_comes_out_can_be_quantized(run, files):
    run("preprocess", "-i", files.model, "-o", "out.onnx")
    run("quantize", "out.onnx", "--data", files.calibration, "-o", "int8.onnx")


@pytest.mark.parametrize(
    ("given", "skipped"),
    [
        (["--skip_optimization"], True),
        (["--skip-optimization"], True),
        (["--skip_optimization", "True"], True),
        (["--skip_optimization=true"], True),
        (["--skip_optimization", "False"], False),
        (["--skip-optimization=0"], False),
        ([], False),
    ],
)
def test_switches_parse_what_they_say(run, files, given, skipped):
    run("preprocess", *given, "--input", files.model, "--output", "out.onnx")
    assert ("BatchNormalization" in operators("out.onnx")) is skipped


def test_every_option_of_the_peer_is_taken_as_it_is_spelled_there(run, files, tmp_path):
    run(
        "preprocess", "--input", files.model, "--output", "out.onnx", "--skip_onnx_shape", "False",
        "--skip_symbolic_shape", "True", "--auto_merge", "--int_max", "1000", "--guess_output_rank", "--verbose", "1",
        "--save_as_external_data", "--all_tensors_to_one_file", "--external_data_location", "w.data",
        "--external_data_size_threshold", "2048",
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"out.onnx", "w.data"}


def test_values_and_other_words_are_left_alone():
    assert normalized(["--external_data_location", "a_b.data"]) == ["--external-data-location", "a_b.data"]
    assert normalized(["-i", "my_model.onnx", "--skip_onnx_shape"]) == [
        "-i",
        "my_model.onnx",
        "--skip-onnx-shape",
        "true",
    ]


def test_data_is_the_third_rung(run, unknown):
    without = run("preprocess", "--input", "unknown.onnx", "--output", "a.onnx").stdout
    assert "2 of 3 tensors have no known shape, the first is 't' made by Inverse" in without
    with_data = run("preprocess", "--input", "unknown.onnx", "--output", "b.onnx", "--data", "data.npz").stdout
    assert "running the model on 4 samples found types and shapes of 2 tensors: 't', 'u'" in with_data


def test_quantizing_warns_once_in_one_line(run, unknown):
    done = run("quantize", "unknown.onnx", "--data", "data.npz", "-o", "q.onnx")
    (line,) = [line for line in done.stderr.splitlines() if "no known type" in line]
    assert line.startswith("warning: 2 tensors have no known type and stay in float, the first is 't'")


def test_onnxruntime_optimizes_on_request(run, files):
    shown = run("preprocess", "--input", files.model, "--output", "out.onnx", "--ort-optimize").stdout
    assert "onnxruntime-optimize" in shown


def test_long_reports_are_shortened(run, tmp_path):
    nodes = " ".join(f"t{index} = Identity(t{index - 1})" for index in range(1, 9))
    onnx.save(build(f"g (float[2] t0) => (float[2] y) {{ {nodes} y = Relu(t8) }}"), tmp_path / "long.onnx")
    short = run("preprocess", "-i", "long.onnx", "-o", "out.onnx").stdout
    assert "and 3 more, which --verbose 1 shows" in short
    assert "more, which" not in run("preprocess", "-i", "long.onnx", "-o", "out.onnx", "--verbose", "1").stdout


def test_bad_input_is_one_line(run, files, tmp_path):
    def error(*args):
        return run("preprocess", *args, code=2).stderr

    assert "Missing option '--input'" in error("--output", "out.onnx")
    assert "Missing option '--output'" in error("--input", files.model)
    assert error("--input", files.model, "--output", "out.onnx", "--skip_optimization", "maybe") == (
        "error: --skip-optimization 'maybe' is neither true nor false: give one of them, or nothing for true\n"
    )
    switches = ["--skip_optimization", "--skip_onnx_shape", "--skip_symbolic_shape"]
    assert error("--input", files.model, "--output", "out.onnx", *switches) == (
        "error: skip_optimization, skip_onnx_shape and skip_symbolic_shape together leave nothing to do: drop one of "
        "them\n"
    )
    assert error("--input", "gone.onnx", "--output", "out.onnx") == (
        "error: model file 'gone.onnx' does not exist: check the path\n"
    )
    (tmp_path / "m.onnx").write_bytes(files.model.read_bytes())
    assert error("--input", "m.onnx", "--output", "m.onnx") == (
        "error: --output 'm.onnx' is the same file as --input: give another name\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx"}
