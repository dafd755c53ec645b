"""--overrides, --integer-inputs and --integer-outputs, and patterns that are regular expressions."""

import json

import onnx
import pytest

from quantlab.rewrite.provenance import embedded_plan

WEIGHT = "classifier.weight"


def test_overrides_reach_the_model_and_the_plan(run, files, tmp_path):
    given = {WEIGHT: {"quant_type": "int16"}, "residual_out": {"rmin": -4.0, "rmax": 8.0}}
    (tmp_path / "overrides.json").write_text(json.dumps(given))
    run("quantize", files.model, "-d", files.calibration, "-o", "out.onnx", "--overrides", "overrides.json")
    model = onnx.load("out.onnx")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types[f"{WEIGHT}_quantized"] == onnx.TensorProto.INT16
    assert embedded_plan(model).tensors["residual_out"].values.hi == 8.0
    run("plan", files.model, "-o", "plan.json", "--overrides", "overrides.json")
    assert json.loads((tmp_path / "plan.json").read_text())["tensors"][WEIGHT]["spec"]["dtype"] == "int16"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "--overrides 'overrides.json' cannot be read: Expecting property name"),
        (json.dumps({WEIGHT: {"scale": 0.5}}), f"override of tensor '{WEIGHT}': there is scale without zero_point"),
        (json.dumps({"residual_ou": {"symmetric": True}}), "there is an override of tensor 'residual_ou', which the"),
    ],
)
def test_bad_overrides_are_one_line(run, files, tmp_path, text, message):
    (tmp_path / "overrides.json").write_text(text)
    arguments = ("quantize", files.model, "-d", files.calibration, "-o", "out.onnx", "--overrides", "overrides.json")
    assert run(*arguments, code=2).stderr.startswith(f"error: {message}")
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_file_of_overrides_is_one_line(run, files):
    arguments = ("quantize", files.model, "-d", files.calibration, "-o", "out.onnx", "--overrides", "no.json")
    assert run(*arguments, code=2).stderr.startswith("error: --overrides 'no.json' cannot be read: ")


def test_ends_become_integers(run, files):
    run("quantize", files.model, "-d", files.calibration, "-o", "out.onnx", "--integer-inputs", "--integer-outputs")
    graph = onnx.load("out.onnx").graph
    kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert kinds == {onnx.TensorProto.UINT8}


def test_nodes_are_chosen_by_regular_expressions(run, files):
    options = ("--exclude", r"re:/(head|classifier)/.*", "-o", "out.onnx")
    run("quantize", files.model, "-d", files.calibration, *options)
    nodes = embedded_plan(onnx.load("out.onnx")).nodes
    left = {name for name, node in nodes.items() if "excluded by --exclude 're:" in node.reason}
    assert left == {name for name in nodes if name.startswith(("/head/", "/classifier/"))}
    wrong = run("quantize", files.model, "-d", files.calibration, "--only", "re:(", "-o", "no.onnx", code=2)
    assert wrong.stderr.startswith("error: 're:(' is no regular expression: ")


def test_only_and_op_types_narrow_each_other(run, files):
    options = ("--only", "/head/*", "--op-types", "Conv", "-o", "out.onnx")
    run("quantize", files.model, "-d", files.calibration, *options)
    nodes = embedded_plan(onnx.load("out.onnx")).nodes
    assert {node.op for node in nodes.values() if node.status != "float"} == {"Conv"}
    options = ("--only", "/classifier/Gemm", "--op-types", "Conv", "-o", "no.onnx")
    wrong = run("quantize", files.model, "-d", files.calibration, *options, code=2)
    assert wrong.stderr == (
        "error: node '/classifier/Gemm' is chosen by name, and it is a Gemm, while only Conv are chosen by operator "
        "type: add the type, or leave the name out\n"
    )
