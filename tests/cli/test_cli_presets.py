"""`--preset` and `--weights-only`: the grids that end up in the file, and what does not go together."""

import onnx
import pytest

from quantlab.plan import PRESETS


def grids(path):
    """Operator type to the element types of the zero points it stands with."""
    model = onnx.load(path)
    zero = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            found.setdefault(node.op_type, set()).add(onnx.TensorProto.DataType.Name(zero[node.input[2]]))
    return found


@pytest.mark.parametrize(
    ("name", "activation", "constants"),
    [
        ("cpu-x86-vnni", {"UINT8"}, {"INT8", "INT32"}),
        ("cpu-x86-avx2", {"UINT8"}, {"INT8", "INT32"}),
        ("arm", {"INT8"}, {"INT8", "INT32"}),
        ("qnn", {"UINT8"}, {"UINT8", "INT32"}),
    ],
)
def test_types_are_those_of_the_preset(run, files, name, activation, constants):
    run("quantize", files.model, "--data", files.calibration, "-o", "out.onnx", "--preset", name)
    found = grids("out.onnx")
    assert found["QuantizeLinear"] == activation
    assert found["DequantizeLinear"] == activation | constants


def test_for_a_gpu_weights_stay_float_in_front_of_a_pair_and_nothing_has_a_zero_point(run, files):
    run("quantize", files.model, "--data", files.calibration, "-o", "out.onnx", "--preset", "gpu")
    model = onnx.load("out.onnx")
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert grids("out.onnx") == {"QuantizeLinear": {"INT8"}, "DequantizeLinear": {"INT8"}}
    assert not any(values[node.input[2]].any() for node in pairs)
    assert any(node.input[0] in values for node in pairs)


def test_seven_bits_without_vnni(run, files):
    run("quantize", files.model, "--data", files.calibration, "-o", "out.onnx", "--preset", "cpu-x86-avx2")
    model = onnx.load("out.onnx")
    weights = [t for t in model.graph.initializer if t.name.endswith("weight_quantized")]
    assert weights
    assert all(abs(onnx.numpy_helper.to_array(t).astype(int)).max() <= 64 for t in weights)


def test_a_preset_and_the_types_it_sets_do_not_go_together(run, files):
    given = ("quantize", files.model, "--data", files.calibration, "-o", "out.onnx", "--preset", "qnn")
    told = run(*given, "--weight-type", "int4", "--reduce-range", code=2).stderr
    assert told == "error: --preset qnn sets the types: leave out --weight-type and --reduce-range, or the preset\n"


def test_an_unknown_preset_gets_the_nearest(run, files):
    told = run("plan", files.model, "--preset", "cpu-x86-vnn", code=2).stderr
    assert "no preset is called 'cpu-x86-vnn'; did you mean 'cpu-x86-vnni'" in told
    assert all(name in told for name in PRESETS)


def test_weights_only_takes_float8_and_leaves_activations(run, files):
    run("quantize", files.model, "--data", files.calibration, "-o", "out.onnx", "--weights-only", "--weight-type",
        "float8e4m3fn")  # fmt: skip
    assert grids("out.onnx") == {"DequantizeLinear": {"FLOAT8E4M3FN"}}
