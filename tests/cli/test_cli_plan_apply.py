"""`quantlab plan` and `quantlab apply`: see it, edit it, apply it."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from quantlab.graph import GraphView
from quantlab.graph.quantized import rounded_tensors
from quantlab.plan import QuantPlan


def strict(text):
    """Read JSON as the standard has it, without NaN and Infinity."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def grids(path):
    found = rounded_tensors(GraphView.of(onnx.load(path)))
    return {r.before or r.integers.removesuffix("_quantized"): r.grid for r in found}


@pytest.fixture
def edit(files, tmp_path):
    """Change a plan and write it; returns its path."""

    def write(change, source=None):
        plain = strict((source or files.plan).read_text())
        change(plain["tensors"])
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(plain))
        return path

    return write


def test_json_on_standard_output_is_the_plan_and_nothing_else(run, files):
    result = run("plan", files.model, "--data", files.calibration, "--json")
    assert result.stdout == files.plan.read_text()
    assert strict(result.stdout)["quantlab_plan"] == 1
    assert run("plan", files.model, "--data", files.calibration, "-o", "-").stdout == result.stdout


def test_the_table_has_every_tensor_with_its_numbers_and_reason(run, files):
    result = run("plan", files.model, "--data", files.calibration, "--exclude", "/head/Conv")
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    plan = QuantPlan.from_json(files.plan.read_text())
    for name, tensor in plan.tensors.items():
        if name.startswith(("/head", "head_")):
            continue  # what is excluded has other neighbours, and so other reasons
        assert tensor.role in lines[name]
        assert f"{tensor.qparams.scale.item():.5g}" in lines[name]
        assert str(tensor.qparams.zero_point.item()) in lines[name]
        assert tensor.reason.split(";")[0] in lines[name]
    assert "2 of 14 nodes stay in float" in result.stdout
    assert "excluded by --exclude '/head/Conv'" in lines["/head/Conv"]


def test_without_data_activations_have_no_numbers(run, files):
    result = run("plan", files.model, "-o", "plan.json")
    assert "scales that are missing need samples: give --data" in result.stdout
    assert result.stdout.endswith("written  plan.json\n")
    tensors = strict(Path("plan.json").read_text())["tensors"]
    by_role = {role: [t for t in tensors.values() if t["role"] == role] for role in ("activation", "weight", "bias")}
    assert all("scale" in tensor for tensor in by_role["weight"])
    assert not any("scale" in tensor for tensor in (*by_role["activation"], *by_role["bias"]))


def test_applying_a_plan_gives_the_bytes_that_quantizing_gives(run, files, tmp_path):
    for plan, model in ((files.plan, files.int8), (files.per_channel_plan, files.per_channel)):
        run("apply", files.model, plan, "-o", "out.onnx")
        assert (tmp_path / "out.onnx").read_bytes() == model.read_bytes()


def test_a_plan_without_numbers_needs_data(run, files, tmp_path):
    run("plan", files.model, "-o", "plan.json")
    result = run("apply", files.model, "plan.json", "-o", "out.onnx", code=2)
    assert result.stderr == (
        "error: the plan has no range for 9 tensors, the first is 'image': "
        "give --data to measure them, or write their ranges into the plan\n"
    )
    assert not (tmp_path / "out.onnx").exists()
    result = run("apply", files.model, "plan.json", "-o", "out.onnx", "--data", files.calibration)
    assert "minmax of 200 samples for 9 tensors" in result.stdout
    assert {name: g.scale.tolist() for name, g in grids("out.onnx").items()} == {
        name: g.scale.tolist() for name, g in grids(files.int8).items()
    }


def test_an_edited_scale_is_in_the_model_and_what_follows_from_it_too(run, files, edit):
    before = grids(files.int8)

    def double(tensors):
        tensors["residual_out"]["scale"] *= 2

    result = run("apply", files.model, edit(double), "-o", "out.onnx")
    assert "edited   'residual_out' has scale 0.1" in result.stdout
    after = grids("out.onnx")
    changed = {name for name in before if not np.array_equal(before[name].scale, after[name].scale)}
    # MaxPool shares the grid of its input, and the bias of the next Conv has the product of two scales.
    assert changed == {"residual_out", "pool_out", "/head/Conv_bias"}
    for name in changed:
        assert after[name].scale == pytest.approx(2 * before[name].scale, rel=1e-6)
    said = run("explain", "out.onnx", "residual_out").stdout
    assert "source: scale and zero point given in the plan; its range gives scale" in said


def test_an_edited_zero_point_is_in_the_model(run, files, edit):
    result = run("apply", files.model, edit(lambda t: t["logits"].update(zero_point=7)), "-o", "out.onnx")
    assert "'logits'" in result.stdout
    assert grids("out.onnx")["logits_QuantizeLinear_Input"].zero_point.item() == 7


def test_an_edited_range_gives_its_scale(run, files, edit):
    def widen(tensors):
        tensors["body_relu_out"]["range"] = [0, 25.5]
        del tensors["body_relu_out"]["scale"], tensors["body_relu_out"]["zero_point"]

    run("apply", files.model, edit(widen), "-o", "out.onnx")
    assert grids("out.onnx")["body_relu_out"].scale == np.float32(0.1)
    assert "source: range given in the plan" in run("explain", "out.onnx", "body_relu_out").stdout


def test_an_edited_channel_of_a_weight(run, files, edit):
    def double(tensors):
        tensors["body_conv.weight"]["scale"][3] *= 2

    run("apply", files.model, edit(double, files.per_channel_plan), "-o", "out.onnx")
    ratio = grids("out.onnx")["body_conv.weight"].scale / grids(files.per_channel)["body_conv.weight"].scale
    assert ratio.tolist() == [2 if channel == 3 else 1 for channel in range(64)]


def test_edits_that_cannot_have_an_effect_are_warned_about(run, files, edit, tmp_path):
    result = run("apply", files.model, edit(lambda t: t["pool_out"].update(scale=1.0)), "-o", "out.onnx")
    assert result.stderr == (
        "warning: the numbers of 'pool_out' have no effect: it shares those of 'residual_out', edit these\n"
    )
    result = run("apply", files.model, edit(lambda t: t["classifier.bias"].update(scale=1.0)), "-o", "out.onnx")
    assert result.stderr == (
        "warning: the scale of bias 'classifier.bias' has no effect: "
        "it is that of 'flatten_out' times that of 'classifier.weight'\n"
    )
    assert (tmp_path / "out.onnx").read_bytes() == files.int8.read_bytes()


def test_removed_entries(run, files, edit):
    result = run("apply", files.model, edit(lambda t: t.pop("residual_out")), "-o", "out.onnx", code=2)
    assert "tensor 'pool_out' in the plan follows 'residual_out', which has no entry" in result.stderr

    def measure_again(tensors):
        for key in ("range", "scale", "zero_point"):
            del tensors["body_relu_out"][key]

    again = edit(measure_again)
    run("apply", files.model, again, "-o", "out.onnx", "--data", files.calibration)
    assert grids("out.onnx")["body_relu_out"].scale == grids(files.int8)["body_relu_out"].scale


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "the plan is not JSON: "),
        ("[]", 'the plan must be a JSON object with "quantlab_plan": 1'),
        ('{"quantlab_plan": 1}', "the plan must have an object 'tensors'"),
        ('{"quantlab_plan": 1, "nodes": {}, "tensors": {"x": {"scle": 1}}}', "tensor 'x' in the plan cannot be read: "),
        (
            '{"quantlab_plan": 1, "nodes": {}, "tensors": {"imge": {"role": "activation", "spec": {"dtype": "int8"}}}}',
            "the plan names tensor 'imge', which the model does not have; did you mean 'image'?",
        ),
    ],
)
def test_a_broken_plan(run, files, tmp_path, text, said):
    (tmp_path / "plan.json").write_text(text)
    result = run("apply", files.model, "plan.json", "-o", "out.onnx", "--data", files.calibration, code=2)
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_plan(run, files):
    result = run("apply", files.model, "plan.json", "-o", "out.onnx", code=2)
    assert result.stderr == (
        "error: plan file 'plan.json' cannot be read (No such file or directory): give what `quantlab plan -o` wrote\n"
    )


def test_types_that_need_a_newer_opset_survive_the_round_trip(run, files, tmp_path):
    options = ["--data", files.calibration, "--activation-type", "uint16"]
    run("quantize", files.model, *options, "-o", "direct.onnx")
    run("plan", files.model, *options, "-o", "plan.json")
    run("apply", files.model, "plan.json", "-o", "applied.onnx")
    assert (tmp_path / "applied.onnx").read_bytes() == (tmp_path / "direct.onnx").read_bytes()
