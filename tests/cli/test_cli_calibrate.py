"""`quantlab calibrate`, and the ways back from its files: `--ranges` and `--statistics`."""

import json

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import load_tensors_data

from quantlab.calibration import load_ranges, load_statistics


def calibrate(run, files, *options):
    return run("calibrate", files.model, "--data", files.calibration, *options)


def test_summary(run, files, tmp_path):
    result = calibrate(run, files, "-o", "ranges.json", "--statistics-out", "seen.npz", "--calibrate", "percentile")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ranges   percentile of 200 samples in ")
    assert lines[0].endswith(" s for 9 tensors")
    assert lines[1].startswith("written  ranges.json, ")
    assert lines[2].startswith("written  seen.npz, ")
    assert len(lines) == 3
    assert result.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ranges.json", "seen.npz"]
    meta = json.loads((tmp_path / "ranges.json").read_text())["meta"]
    assert (meta["rule"], meta["options"], meta["samples"]) == ("percentile", {}, 200)
    assert load_statistics("seen.npz").meta == meta


@pytest.mark.parametrize("file", ["ranges.json", "ranges.npz", "cache.onnxruntime"])
@pytest.mark.parametrize("flag", ["--per-channel", "--no-per-channel"])
def test_quantizing_from_the_file_gives_the_model_that_the_data_gives(run, files, tmp_path, file, flag):
    calibrate(run, files, "-o", file, *(("--format", "onnxruntime") if file.startswith("cache") else ()))
    result = run("quantize", files.model, "--ranges", file, "-o", "out.onnx", flag, "--plan-out", "plan.json")
    assert f"ranges   read from '{file}'" in result.stdout.splitlines()
    assert result.stderr == ""
    wanted = files.per_channel if flag == "--per-channel" else files.int8
    assert (tmp_path / "out.onnx").read_bytes() == wanted.read_bytes()
    plan = files.per_channel_plan if flag == "--per-channel" else files.plan
    assert (tmp_path / "plan.json").read_bytes() == plan.read_bytes()


def test_another_rule_is_tried_without_running_the_model_again(run, files, tmp_path):
    calibrate(run, files, "-o", "ranges.json", "--calibrate", "entropy", "--statistics-out", "seen.npz")
    for rule in ("minmax", "entropy", "percentile", "mse"):
        run("quantize", files.model, "-d", files.calibration, "-o", "direct.onnx", "--calibrate", rule)
        result = run("quantize", files.model, "--statistics", "seen.npz", "-o", "kept.onnx", "--calibrate", rule)
        assert f"ranges   {rule} of the statistics 'seen.npz'" in result.stdout.splitlines()
        assert (tmp_path / "kept.onnx").read_bytes() == (tmp_path / "direct.onnx").read_bytes()
        run("calibrate", files.model, "--statistics", "seen.npz", "-o", "again.npz", "--calibrate", rule)
        run("quantize", files.model, "--ranges", "again.npz", "-o", "kept.onnx")
        assert (tmp_path / "kept.onnx").read_bytes() == (tmp_path / "direct.onnx").read_bytes()


def test_a_plan_from_kept_ranges(run, files, tmp_path):
    calibrate(run, files, "-o", "ranges.json", "--statistics-out", "seen.npz")
    for given in (("--ranges", "ranges.json"), ("--statistics", "seen.npz")):
        run("plan", files.model, *given, "-o", "plan.json")
        assert (tmp_path / "plan.json").read_bytes() == files.plan.read_bytes()


def test_the_formats_of_others(run, files):
    calibrate(run, files, "-o", "ranges.json")
    wanted = load_ranges("ranges.json").ranges
    most = {name: max(abs(float(one.lo)), abs(float(one.hi))) for name, one in wanted.items()}
    assert min(float(one.lo) for one in wanted.values()) < 0
    for file_format in ("onnxruntime-flatbuffers", "onnxruntime-text", "tensorrt"):
        result = calibrate(run, files, "-o", "other", "--format", file_format)
        assert "note: the format keeps one number a tensor; read back, its range is that to both sides" in result.stdout
        found = {name: float(one.hi) for name, one in load_ranges("other").ranges.items()}
        # TensorRT keeps a 127th of it, in float32.
        kept = {name: float(np.float32(one) / np.float32(127) * np.float32(127)) for name, one in most.items()}
        assert found == (kept if file_format == "tensorrt" else most)
        run("quantize", files.model, "--ranges", "other", "-o", "out.onnx")
        onnx.checker.check_model(onnx.load("out.onnx"), full_check=True)
    calibrate(run, files, "-o", "other", "--format", "onnxruntime-text", "--maximum", "onnxruntime")
    theirs = {name: float(one.hi) for name, one in load_ranges("other").ranges.items()}
    assert theirs == {name: max(float(one.lo), float(one.hi)) for name, one in wanted.items()}
    calibrate(run, files, "-o", "cache.json", "--format", "onnxruntime")
    assert set(load_tensors_data("cache.json").keys()) == set(wanted)


def test_only_some_nodes_and_some_samples(run, files):
    calibrate(run, files, "-o", "ranges.json", "--only", "/stem/*", "--max-samples", "50", "--op-types", "Conv")
    assert "image" in load_ranges("ranges.json").ranges
    refused = run("quantize", files.model, "--ranges", "ranges.json", "-o", "out.onnx", code=2)
    assert refused.stderr.startswith("error: the ranges lack ")
    run("quantize", files.model, "--ranges", "ranges.json", "-o", "out.onnx", "--only", "/stem/*", "--op-types", "Conv")


def test_ranges_of_another_model_are_warned_of(run, files):
    calibrate(run, files, "-o", "ranges.json", "--statistics-out", "seen.npz")
    model = onnx.load(files.model)
    model.doc_string = "exported again"
    onnx.save(model, "again.onnx")
    for kind, file in (("ranges", "ranges.json"), ("statistics", "seen.npz")):
        result = run("quantize", "again.onnx", f"--{kind}", file, "-o", "out.onnx")
        assert result.stderr.startswith(f"warning: the {kind} were measured on another model: its hash is ")
        assert result.stderr.count("warning:") == 1


REFUSED = [
    ("quantize", (), "nothing tells the ranges: give --data, --ranges or --statistics"),
    ("quantize", ("--data", "DATA", "--ranges", "r.json"), "--data and --ranges exclude each other: give one of them"),
    (
        "plan",
        ("--ranges", "r.json", "--statistics", "s.npz"),
        "--ranges and --statistics exclude each other: give one of them",
    ),
    (
        "quantize",
        ("--ranges", "r.json", "--calibrate", "entropy"),
        "the range rule 'entropy' has no effect with --ranges, which are ranges already: leave out --calibrate and "
        "--percent, or give --statistics, to which any rule can be applied",
    ),
    (
        "plan",
        ("--ranges", "r.json", "--max-samples", "3"),
        "--max-samples has no effect with --ranges, for which no sample is read: leave it out",
    ),
    (
        "quantize",
        ("--statistics", "s.npz", "--size", "224"),
        "an image option has no effect with --statistics, for which no sample is read: leave it out",
    ),
    (
        "calibrate",
        ("--statistics", "s.npz", "--statistics-out", "t.npz"),
        "--statistics-out has no effect with --statistics, for which no sample is read: leave it out",
    ),
    ("calibrate", (), "nothing tells the ranges: give --data or --statistics"),
    (
        "calibrate",
        ("--data", "DATA", "--maximum", "onnxruntime"),
        "--maximum has no effect in the format 'json', which keeps both ends: leave it out",
    ),
    (
        "calibrate",
        ("--data", "DATA", "--maximum", "max"),
        "maximum must be one of 'absolute', 'onnxruntime', got 'max'",
    ),
    (
        "calibrate",
        ("--data", "DATA", "--format", "trt"),
        "unknown format of ranges 'trt' (allowed: json, npz, onnxruntime, onnxruntime-flatbuffers, onnxruntime-text, "
        "tensorrt)",
    ),
    ("quantize", ("--ranges", "none.json"), "range file 'none.json' cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("verb", "options", "text"), REFUSED)
def test_what_is_refused_leaves_no_file(run, files, tmp_path, verb, options, text):
    given = [files.calibration if word == "DATA" else word for word in options]
    result = run(verb, files.model, *given, "-o", "out.json", code=2)
    assert result.stderr == f"error: {text}\n"
    assert not list(tmp_path.iterdir())


def test_a_file_is_not_its_own_input(run, files):
    calibrate(run, files, "-o", "seen.json", "--statistics-out", "seen.npz")
    result = run("calibrate", files.model, "--statistics", "seen.npz", "-o", "seen.npz", code=2)
    assert result.stderr == "error: --output 'seen.npz' is the same file as --statistics: give another name\n"


def test_a_format_must_be_named_where_the_ending_does_not(run, files):
    result = calibrate(run, files, "-o", "calibration.json")
    assert "written  calibration.json" in result.stdout
    refused = run("calibrate", files.model, "-d", files.calibration, "-o", "calibration.cache", code=2)
    assert refused.stderr == (
        "error: the ending of 'calibration.cache' stands for no format of ranges (those that do: .json, .npz, "
        ".flatbuffers): name the format, one of json, npz, onnxruntime, onnxruntime-flatbuffers, onnxruntime-text, "
        "tensorrt\n"
    )


def test_statistics_are_kept_though_the_ranges_cannot_be_written(run, files):
    model = onnx.load(files.model)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name.replace("residual_out", "residual\nout") for name in names]
    for value in model.graph.value_info:
        value.name = value.name.replace("residual_out", "residual\nout")
    onnx.save(model, "odd.onnx")
    options = ("--format", "tensorrt", "-o", "table", "--statistics-out", "seen.npz")
    result = run("calibrate", "odd.onnx", "-d", files.calibration, *options, code=2)
    assert result.stderr.startswith(
        "error: tensor 'residual\\nout' cannot be named in the format 'tensorrt', because of "
    )
    run("calibrate", "odd.onnx", "--statistics", "seen.npz", "-o", "ranges.json")
    assert "residual\nout" in load_ranges("ranges.json").ranges
