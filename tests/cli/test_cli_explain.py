"""`quantlab explain`: the source of every scale, and the reason of every node."""

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from quantlab.demo import digits
from quantlab.plan import QuantPlan


@pytest.fixture
def foreign(files, tmp_path):
    """The demo model as onnxruntime's own tool quantizes it."""

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = iter(digits().train_images[:4])

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"image": image[None]}

    path = tmp_path / "foreign.onnx"
    quantize_static(files.model, path, Reader(), activation_type=QuantType.QUInt8, per_channel=True)
    return path


@pytest.mark.parametrize("which", ["int8", "per_channel"])
def test_every_scale_of_the_demo_model_has_a_source(run, files, which):
    plan = QuantPlan.from_json((files.plan if which == "int8" else files.per_channel_plan).read_text())
    for name, tensor in plan.tensors.items():
        said = run("explain", getattr(files, which), name).stdout
        assert f"tensor {name!r}: {tensor.role}, {tensor.spec}\n" in said
        assert f"why: {tensor.reason}\n" in said
        assert f"source: {tensor.source}\n" in said
        scale = tensor.qparams.scale
        if scale.size == 1:
            assert f"scale: {scale.item():.9g} " in said
        else:
            assert f"scale: {scale.size} values from {scale.min():.6g} to {scale.max():.6g} " in said


def test_every_node_has_a_status_and_a_reason(run, files):
    out = run("explain", files.int8).stdout
    assert out.startswith(f"{files.int8} was quantized by quantlab:\n")
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    for name, node in QuantPlan.from_json(files.plan.read_text()).nodes.items():
        assert node.op in lines[name]
        assert node.status in lines[name]
        assert node.reason in lines[name]
        single = run("explain", files.int8, name).stdout
        assert node.reason in single
    assert "23 tensors have grids; name one, or a node, to see why" in out


def test_a_node_left_in_float(run, files):
    run("quantize", files.model, "-d", files.calibration, "-o", "out.onnx", "--exclude", "/head/Conv")
    said = run("explain", "out.onnx", "/head/Conv").stdout
    assert said == "node '/head/Conv' (Conv): left float: excluded by --exclude '/head/Conv'\n"


def test_a_float_model_says_what_would_be(run, files):
    out = run("explain", files.model).stdout
    assert out.startswith(f"{files.model} is a float model; with the default options this is what would be:\n")
    assert "'/stem/BatchNormalization' is folded into its neighbours, or removed, beforehand" in out
    said = run("explain", files.model, "stem_conv.weight").stdout
    assert "what would be:" in said
    assert "source: smallest and largest of the constant's 288 values" in said
    said = run("explain", files.model, "/stem/BatchNormalization").stdout
    assert "node '/stem/BatchNormalization': folded into its neighbours" in said


def test_another_plan(run, files):
    run("plan", files.model, "-o", "plan.json", "--exclude", "/head/Conv")
    said = run("explain", files.model, "/head/Conv", "--plan", "plan.json").stdout
    assert "left float: excluded by --exclude '/head/Conv'" in said


def test_an_unknown_name_gets_the_nearest(run, files):
    result = run("explain", files.int8, "/stem/Cov", code=2)
    assert result.stderr.startswith("error: no node or rounded tensor is called '/stem/Cov'; did you mean '/stem/Conv'")


def test_a_model_quantized_by_somebody_else_shows_its_grids(run, files, foreign):
    out = run("explain", foreign).stdout
    assert out.startswith(f"{foreign} carries no plan: it was not quantized by quantlab, or lost its metadata.")
    line = next(line for line in out.splitlines() if line.startswith("image "))
    scale = next(
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(foreign).graph.initializer
        if tensor.name == "image_scale"
    )
    assert f"{np.asarray(scale).item():.5g}" in line
    assert "uint8" in line
    assert "rounded at run time" in line
    assert any("point_conv.weight" in row and "64: " in row for row in out.splitlines())
    single = run("explain", foreign, "image").stdout
    assert "image " in single
    assert "logits" not in single
    result = run("explain", foreign, "imag", code=2)
    assert "no rounded tensor in it is called 'imag'; did you mean 'image'?" in result.stderr
