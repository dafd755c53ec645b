"""Bad input: one line, exit code 2, no traceback, and no file anywhere."""

import numpy as np
import pytest

from quantlab.demo import digits
from quantlab.errors import ModelError
from quantlab.workflow import quantize as flow

IMAGES = digits().train_images[:4]


def poisoned():
    images = IMAGES.copy()
    images[2, 0, 3, 3] = np.nan
    return images


MODELS = {
    "missing": (None, "model file 'model.onnx' does not exist"),
    "empty": (lambda whole: b"", "model file 'model.onnx' is empty"),
    "truncated": (lambda whole: whole[: len(whole) // 2], "model file 'model.onnx' is not an ONNX model"),
    "text": (lambda whole: b"hello, world\n" * 9, "model file 'model.onnx' is not an ONNX model"),
    "noise": (lambda whole: bytes(range(256)) * 9, "model file 'model.onnx' is not an ONNX model"),
}
DATA = {
    "wrong name": ({"imag": IMAGES}, "'imag' is not an input of the model; did you mean 'image'?"),
    "missing input": ({}, "input 'image' is missing"),
    "wrong shape": (
        {"image": IMAGES[..., :7]},
        "got shape (1, 1, 8, 7), allowed (N, 1, 8, 8): axis 3 is 7 instead of 8",
    ),
    "wrong rank": ({"image": IMAGES[0, 0]}, "got a stack of shape (8, 8)"),
    "wrong dtype": ({"image": (IMAGES * 255).astype(np.uint8)}, "got dtype uint8, allowed float32"),
    "no samples": ({"image": IMAGES[:0]}, "no data: input 'image'"),
    "NaN": ({"image": poisoned()}, "input 'image', sample 2: the value at (0, 0, 3, 3) is nan"),
}
OPTIONS = {
    "unknown node": (["--exclude", "/stem/Cov"], "no node is called '/stem/Cov'; did you mean '/stem/Conv'"),
    "unknown node to keep": (["--only", "/stem/Cov"], "no node is called '/stem/Cov'; did you mean '/stem/Conv'"),
    "unknown operator": (["--op-types", "Cnov"], "unknown operator type 'Cnov'; did you mean 'Conv'"),
    "unknown rule": (["--calibrate", "minmx"], "unknown range rule 'minmx'; did you mean 'minmax'?"),
    "option of another rule": (["--percent", "99"], "range rule 'minmax' has no option 'percent'"),
    "impossible percent": (["--calibrate", "percentile", "--percent", "200"], "percent"),
    "unknown type": (["--weight-type", "itn8"], "unknown type 'itn8'; did you mean 'int8'"),
    "types without a kernel": (["--activation-type", "int8", "--weight-type", "uint8"], "make the weights signed"),
    "image options for arrays": (["--size", "8"], "goes with picture files"),
    "no size": (["--size", "8y8"], "--size '8y8' is no size: give 224, or height x width such as 224x320"),
    "no number": (
        ["--mean", "0.5,x"],
        "--mean 'x' is no number: give numbers such as 0.485, or fractions such as 1/255",
    ),
    "division by zero": (["--scale", "1/0"], "--scale '1/0' is no number"),
    "unknown layout": (["--layout", "NHCW"], "layout='NHCW' is not allowed; did you mean 'NHWC'"),
}


def refused(run, tmp_path, unchanged, said, *arguments):
    with unchanged(tmp_path):
        result = run(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("verb", ["quantize", "plan", "apply", "explain", "compare"])
@pytest.mark.parametrize("kind", MODELS)
def test_models(run, files, tmp_path, unchanged, verb, kind):
    change, said = MODELS[kind]
    if change is not None:
        (tmp_path / "model.onnx").write_bytes(change(files.model.read_bytes()))
    arguments = {
        "quantize": ["--data", files.calibration, "-o", "out.onnx"],
        "plan": ["-o", "plan.json"],
        "apply": [files.plan, "-o", "out.onnx"],
        "explain": [],
        "compare": [files.int8, "--data", files.evaluation],
    }
    refused(run, tmp_path, unchanged, said, verb, "model.onnx", *arguments[verb])


@pytest.mark.parametrize("verb", ["quantize", "plan", "apply"])
def test_a_model_that_is_quantized_already(run, files, tmp_path, unchanged, verb):
    more = {"quantize": ["-d", files.calibration], "plan": [], "apply": [files.plan]}[verb]
    said = "the model is already quantized: "
    refused(run, tmp_path, unchanged, said, verb, files.int8, *more, "-o", "out.onnx")


@pytest.mark.parametrize("verb", ["quantize", "plan", "compare"])
@pytest.mark.parametrize("kind", DATA)
def test_data(run, files, tmp_path, unchanged, verb, kind):
    arrays, said = DATA[kind]
    np.savez(tmp_path / "data.npz", **arrays)
    more = [files.int8] if verb == "compare" else ["-o", "out.onnx"]
    refused(run, tmp_path, unchanged, said, verb, files.model, *more, "--data", "data.npz")


def test_data_that_is_not_there(run, files, tmp_path, unchanged):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "data.txt").write_text("1 2 3")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    for path, said in (
        ("missing.npz", "'missing.npz' does not exist"),
        ("nothing", "no data: folder 'nothing' has no files of a known kind"),
        ("data.txt", "file 'data.txt' is of no known kind"),
        ("broken.npz", "file 'broken.npz' cannot be read"),
    ):
        refused(run, tmp_path, unchanged, said, "quantize", files.model, "--data", path, "-o", "out.onnx")


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("verb", ["quantize", "plan"])
def test_options(run, files, tmp_path, unchanged, verb, kind):
    options, said = OPTIONS[kind]
    refused(run, tmp_path, unchanged, said, verb, files.model, "--data", files.calibration, "-o", "out.onnx", *options)


def outputs(tmp_path):
    (tmp_path / "folder").mkdir()
    yield "missing/out.onnx", "cannot write 'missing/out.onnx': there is no folder "
    yield "folder", "cannot write 'folder': it is a directory; give the name of a file"
    yield "model.onnx", "'model.onnx' is the same file as MODEL: give another name"
    yield "folder/../model.onnx", "is the same file as MODEL: give another name"
    yield "data.npz", "'data.npz' is the same file as --data: give another name"
    yield "plan.json", "--plan-out 'plan.json' is the same file as --output: give another name"


def test_outputs_are_tried_before_calibration_begins(run, files, tmp_path, unchanged, monkeypatch):
    def never(*args, **options):
        raise AssertionError("calibration began")

    monkeypatch.setattr(flow, "calibrate", never)
    (tmp_path / "model.onnx").write_bytes(files.model.read_bytes())
    np.savez(tmp_path / "data.npz", image=IMAGES)
    common = ["quantize", "model.onnx", "--data", "data.npz"]
    for out, said in outputs(tmp_path):
        refused(run, tmp_path, unchanged, said, *common, "-o", out, "--plan-out", "plan.json")
    said = "cannot write 'missing/plan.json': there is no folder"
    refused(run, tmp_path, unchanged, said, *common, "-o", "out.onnx", "--plan-out", "missing/plan.json")
    refused(run, tmp_path, unchanged, said, "plan", "model.onnx", "--data", "data.npz", "-o", "missing/plan.json")


def test_a_symbolic_link_to_the_input_is_the_input(run, files, tmp_path, unchanged):
    (tmp_path / "model.onnx").write_bytes(files.model.read_bytes())
    (tmp_path / "link.onnx").symlink_to(tmp_path / "model.onnx")
    said = "--output 'link.onnx' is the same file as MODEL"
    refused(run, tmp_path, unchanged, said, "quantize", "model.onnx", "-d", files.calibration, "-o", "link.onnx")


def test_an_older_output_outlives_a_failure(run, files, tmp_path, unchanged):
    (tmp_path / "out.onnx").write_bytes(b"old")
    np.savez(tmp_path / "data.npz", image=poisoned())
    refused(
        run, tmp_path, unchanged, "sample 2: the value", "quantize", files.model, "-d", "data.npz", "-o", "out.onnx"
    )


def test_the_input_stays_as_it_is(run, files, unchanged):
    with unchanged(files.model.parent):
        run("quantize", files.model, "-d", files.calibration, "-o", "out.onnx")
        run("apply", files.model, files.plan, "-o", "out.onnx")
        run("explain", files.model)
        run("compare", files.model, files.int8, "-d", files.evaluation)


def test_ctrl_c_leaves_nothing_behind(run, files, tmp_path, unchanged, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "calibrate", interrupted)
    with unchanged(tmp_path):
        result = run("quantize", files.model, "-d", files.calibration, "-o", "out.onnx", code=130)
    assert result.stderr == "error: interrupted; no output file was written\n"


def test_a_traceback_on_demand(run, monkeypatch):
    monkeypatch.setenv("QUANTLAB_TRACEBACK", "1")
    result = run("explain", "missing.onnx", code=2)
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith("error: model file 'missing.onnx' does not exist: check the path\n")


def test_a_message_of_many_lines_becomes_one(run, files, monkeypatch):
    def fail(*args, **options):
        raise ModelError("onnxruntime says:\n  first\n\n  second")

    monkeypatch.setattr(flow, "calibrate", fail)
    result = run("quantize", files.model, "-d", files.calibration, "-o", "out.onnx", code=2)
    assert result.stderr == "error: onnxruntime says: first second\n"


def test_warnings_are_one_line_on_standard_error(run, files, tmp_path):
    np.savez(tmp_path / "zeros.npz", image=np.zeros_like(IMAGES))
    result = run("quantize", files.model, "-d", "zeros.npz", "-o", "out.onnx")
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: all 4 samples are all zeros: ")
