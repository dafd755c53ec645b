"""`quantlab quantize` and the options it shares with `plan`."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from quantlab.demo import digits
from quantlab.graph import GraphView
from quantlab.graph.quantized import rounded_tensors
from quantlab.rewrite.provenance import embedded_plan


def grids(path):
    return {r.before or r.integers.removesuffix("_quantized"): r.grid for r in rounded_tensors(view(path))}


def view(path):
    return GraphView.of(onnx.load(path))


def quantize(run, files, *options, data=None):
    return run("quantize", files.model, "--data", data or files.calibration, "-o", "out.onnx", *options)


def test_summary(run, files):
    options = ("--exclude", "/head/*", "--op-types", "Conv,Relu,MaxPool,Add,GlobalAveragePool,Flatten")
    result = quantize(run, files, *options, "--plan-out", "plan.json")
    lines = result.stdout.splitlines()
    assert lines[0] == "nodes    14: 8 quantized, 3 absorbed, 3 left in float"
    assert "         2 x excluded by --exclude '/head/*' ('/head/Conv', ...)" in lines
    assert "         1 x operator Gemm is not among op_types ('/classifier/Gemm')" in lines
    assert any(line.startswith("ranges   minmax of 200 samples in ") for line in lines)
    assert any(line.startswith("size     207.8 KiB -> ") and line.endswith(" times smaller") for line in lines)
    assert lines[-2:] == ["written  out.onnx", "written  plan.json"]
    assert result.stderr == ""


def test_what_is_written_runs_and_carries_its_plan(run, files, tmp_path):
    quantize(run, files, "--plan-out", "plan.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "plan.json"]
    model = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert embedded_plan(model).nodes["/stem/Conv"].status == "quantized"


@pytest.mark.parametrize("word", ["qoperator", "QOperator"])
def test_operators_on_integers(run, files, tmp_path, word):
    result = quantize(run, files, "--format", word, "--plan-out", "plan.json")
    assert result.stderr == ""
    model = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {
        "QuantizeLinear", "QLinearConv", "QLinearAdd", "MaxPool", "QLinearGlobalAveragePool", "Flatten", "QGemm",
        "DequantizeLinear",
    }  # fmt: skip
    run("apply", files.model, "plan.json", "-o", "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()


def test_a_format_that_does_not_exist(run, files):
    result = run("quantize", files.model, "--data", files.calibration, "-o", "out.onnx", "--format", "qlinear", code=2)
    assert "format 'qlinear' is unknown" in result.stderr
    assert "(allowed: QDQ, QOperator)" in result.stderr


def test_ranges_measured_for_operators_on_integers(run, files, tmp_path):
    options = ("--format", "qoperator")
    quantize(run, files, *options)
    run("calibrate", files.model, "--data", files.calibration, "-o", "ranges.json", "--quant-format", "qoperator")
    run("quantize", files.model, "--ranges", "ranges.json", "-o", "kept.onnx", *options)
    kept, measured = (onnx.load(tmp_path / name) for name in ("kept.onnx", "out.onnx"))
    assert list(kept.graph.initializer) == list(measured.graph.initializer)


def test_a_checkpoint_is_gone_on_with(run, files, tmp_path):
    quantize(run, files, "--checkpoint", "calibration.npz")
    first = (tmp_path / "out.onnx").read_bytes()
    stored = (tmp_path / "calibration.npz").read_bytes()
    quantize(run, files, "--checkpoint", "calibration.npz")
    assert (tmp_path / "out.onnx").read_bytes() == first
    assert (tmp_path / "calibration.npz").read_bytes() == stored
    refused = run(
        "quantize",
        files.model,
        "--data",
        files.calibration,
        "-o",
        "o.onnx",
        "--checkpoint",
        "calibration.npz",
        "--calibrate",
        "entropy",
        code=2,
    )
    assert "checkpoint 'calibration.npz' was made with another options: its hash is " in refused.stderr


def test_types_and_granularity(run, files):
    quantize(run, files, "--per-channel", "--activation-type", "int8", "--weight-type", "int8")
    found = grids("out.onnx")
    assert found["body_conv.weight"].scale.shape == (64,)
    assert found["image"].spec.dtype.name == "int8"
    quantize(run, files)
    found = grids("out.onnx")
    assert found["body_conv.weight"].scale.shape == ()
    assert found["image"].spec.dtype.name == "uint8"
    quantize(run, files, "--activation-type", "uint16", "--weight-type", "int8")
    assert grids("out.onnx")["image"].spec.dtype.name == "uint16"


def test_reduce_range_gives_one_bit_of_the_weights_away(run, files):
    quantize(run, files)
    full = grids("out.onnx")["head_conv.weight"]
    quantize(run, files, "--reduce-range")
    reduced = grids("out.onnx")["head_conv.weight"]
    assert reduced.scale.item() == pytest.approx(full.scale.item() * 254 / 128, rel=1e-6)


def test_percentile_narrows_ranges(run, files):
    quantize(run, files, "--calibrate", "percentile", "--percent", "99")
    assert 0 < grids("out.onnx")["body_relu_out"].scale < grids(files.int8)["body_relu_out"].scale


def test_only_and_op_types_and_exclude(run, files):
    quantize(run, files, "--only", "/stem/*", "--only", "/body/Conv", "--exclude", "/stem/Relu")
    nodes = embedded_plan(onnx.load("out.onnx")).nodes
    assert {name for name, node in nodes.items() if node.status != "float"} == {"/stem/Conv", "/body/Conv"}
    assert nodes["/stem/Relu"].reason == "excluded by --exclude '/stem/Relu'"
    assert nodes["/head/Conv"].reason == "not listed by --only"
    quantize(run, files, "--op-types", "Gemm,Add", "--op-types", "MaxPool")
    nodes = embedded_plan(onnx.load("out.onnx")).nodes
    assert {node.op for node in nodes.values() if node.status == "quantized"} == {"Gemm", "Add", "MaxPool"}


def test_a_pattern_that_matches_nothing_is_noted(run, files):
    result = quantize(run, files, "--exclude", "/nothing*")
    assert "note: pattern '/nothing*' matches no node" in result.stdout


def test_max_samples(run, files):
    result = quantize(run, files, "--max-samples", "50", "--threads", "1")
    assert "minmax of 50 samples" in result.stdout
    folder = files.calibration.parent / "folder"
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(digits().train_images[:6]):
        np.savez(folder / f"{index}.npz", image=image[None])
    assert "minmax of 4 samples" in quantize(run, files, "--max-samples", "4", data=folder).stdout


def test_verbose_says_what_preparing_changed(run, files):
    result = quantize(run, files, "-v")
    folded = "folded BatchNormalization '/stem/BatchNormalization' into Conv '/stem/Conv'"
    assert folded in result.stderr
    assert all(line.startswith("note: ") for line in result.stderr.splitlines())
    assert folded not in result.stdout


def test_images_equal_arrays(run, files, tmp_path):
    """Pictures of the digits give the model that the digits themselves give, when the options undo the encoding."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    some = digits().train_images[:20]
    for index, image in enumerate(some):
        pixels = np.rint(image[0] * 16 * 15).astype(np.uint8)
        Image.fromarray(pixels, mode="L").save(pictures / f"{index:03}.png")
    np.savez(tmp_path / "arrays.npz", image=some)
    options = ("--layout", "nchw", "--size", "8", "--channels", "L", "--scale", "1/240", "--mean", "0", "--std", "1")
    quantize(run, files, *options, "--plan-out", "pictures.json", data=pictures)
    quantize(run, files, "--plan-out", "arrays.json", data=tmp_path / "arrays.npz")
    scales = [
        [row["scale"] for row in json.loads((tmp_path / f"{name}.json").read_text())["tensors"].values()]
        for name in ("pictures", "arrays")
    ]
    for one, other in zip(*scales, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_output_replaces_an_older_one(run, files, tmp_path):
    (tmp_path / "out.onnx").write_bytes(b"old")
    quantize(run, files)
    assert (tmp_path / "out.onnx").read_bytes() == files.int8.read_bytes()
