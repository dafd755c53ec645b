"""The file of an ablation: what it becomes, and what is refused with line and key."""

import numpy as np
import pytest

from quantlab.config.ablation import Resources, example, read_ablation
from quantlab.demo import float_model
from quantlab.errors import OptionError

LEAST = """\
model: m.onnx
data: d.npz
trials:
  - name: a
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m.onnx").write_bytes(float_model())
    np.savez(tmp_path / "d.npz", image=np.zeros((4, 1, 8, 8), np.float32))
    return tmp_path


@pytest.fixture
def declared(folder):
    def make(text):
        (folder / "a.yaml").write_text(text)
        return read_ablation(folder / "a.yaml")

    return make


def test_the_least_file(declared, folder):
    found = declared(LEAST)
    assert found.ablation.model == folder / "m.onnx"
    assert found.ablation.calibration.data == found.ablation.evaluation.data == folder / "d.npz"
    assert [trial.name for trial in found.ablation.trials] == ["a"]
    assert (found.ablation.repeats, found.ablation.threads, found.resources) == (3, 1, Resources())


def test_everything(declared, folder):
    found = declared("""\
model: m.onnx
calibration: {data: d.npz, batch: 2, samples: 4}
evaluation: {data: d.npz, batch: 4, iterations: 1}
images: {size: 8, mean: 0.5, std: [0.5], channels: L}
device: CPUExecutionProvider
threads: 2
repeats: 0
metrics: [top1, "accuracy:labels=y"]
loss: cross_entropy:labels=y
defaults: {per_channel: true, extra_options: {CalibMovingAverage: true}}
trials:
  - {name: one, extra_options: {CalibTensorRangeSymmetric: true}, calibration: {data: dummy, iterations: 3}}
  - {name: two, per_channel: false}
  - {name: three, quantize: false, fuse: [[Conv, BatchNormalization]]}
resources: {executor: processes, workers: 3}
""")
    one, two, three = found.ablation.trials
    assert one.recipe.per_channel
    assert one.recipe.calibrate_options == {"symmetric": True, "moving_average": True}
    assert (one.calibration.is_dummy, one.calibration.iterations) == (True, 3)
    assert not two.recipe.per_channel
    assert (three.recipe, three.options, three.fuse) == (None, {}, (("Conv", "BatchNormalization"),))
    calibration, evaluation = found.ablation.calibration, found.ablation.evaluation
    assert (calibration.batch, calibration.iterations, evaluation.batch, evaluation.iterations) == (2, 2, 4, 1)
    assert (calibration.images.size, calibration.images.mean, calibration.images.std) == ((8, 8), (0.5,), (0.5,))
    assert found.ablation.labels == ("y",)
    assert found.resources == Resources(executor="processes", workers=3)


def test_a_grid_is_a_product(declared):
    text = (
        LEAST.partition("trials")[0]
        + """\
defaults: {extra_options: {CalibTensorRangeSymmetric: true}}
trials:
  grid:
    per_channel: [false, true]
    extra_options.CalibMovingAverage: [false, true]
"""
    )
    trials = declared(text).ablation.trials
    assert [trial.name for trial in trials] == [
        "per_channel=false, CalibMovingAverage=false",
        "per_channel=false, CalibMovingAverage=true",
        "per_channel=true, CalibMovingAverage=false",
        "per_channel=true, CalibMovingAverage=true",
    ]
    assert [trial.recipe.per_channel for trial in trials] == [False, False, True, True]
    assert trials[3].options["extra_options"] == {"CalibTensorRangeSymmetric": True, "CalibMovingAverage": True}


def test_a_grid_beside_other_trials(declared):
    text = (
        LEAST
        + "  - {name: types, reduce_range: true, grid: {weight_type: [QInt8, QUInt8], activation_type: [QUInt8]}}\n"
    )
    trials = declared(text).ablation.trials
    assert [trial.name for trial in trials][1:] == [
        "types, weight_type=QInt8, activation_type=QUInt8",
        "types, weight_type=QUInt8, activation_type=QUInt8",
    ]
    assert all(trial.recipe.weight.reduce_range for trial in trials[1:])


def test_the_example_declares_the_eleven_configurations():
    names = [f"model {number}" for number in range(1, 12)]
    assert all(f"name: {name}" in example() for name in names)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("data: d", "dta: d", "line 2, dta: unknown key 'dta'; did you mean 'data'? (allowed: model, data, images,"),
        ("model: m", "model: n", "line 1, model: '"),
        ("  - name: a", "  - nme: a", "line 4, trials[0].nme: unknown key 'nme'; did you mean 'name'"),
        ("  - name: a", "  - per_channel: true", "line 4, trials[0]: a trial needs a name"),
        ("  - name: a", "  []", "line 4, trials: there is no trial: give at least one"),
        (
            "  - name: a",
            "  - name: a\n    bias: 1",
            "line 5, trials[0].bias: trial 'a': bias must be true or false, got 1",
        ),
        (
            "  - name: a",
            "  - name: a\n    grid: {bia: [true]}",
            "line 5, trials[0].grid.bia: no option is called 'bia'; ",
        ),
        ("  - name: a", "  - name: a\n  - name: a", "line 4, trials: 'a' is the name of two trials: give each"),
        ("  - name: a", "  - name: 3", "line 4, trials[0].name: this must be a text, got 3"),
        (
            "  - name: a",
            "  - name: a\n    extra_options: {CalibMovingAvrage: true}",
            "line 5, trials[0].extra_options: trial 'a': extra_options has no key 'CalibMovingAvrage'; did you mean",
        ),
        ("data: d", "threads: -1\ndata: d", "line 2, threads: this must be at least 0, got -1"),
        ("data: d", "repeats: many\ndata: d", "line 2, repeats: this must be an integer, got 'many'"),
        ("data: d", "loss: mes\ndata: d", "line 2, loss: unknown task metric 'mes'; did you mean 'nme' or 'mse'?"),
        ("data: d", "metrics: [top1, tap1]\ndata: d", "line 2, metrics[1]: unknown task metric 'tap1'; did you mean"),
        ("data: d", "metrics: top1\ndata: d", "line 2, metrics: this must be a list, got 'top1'"),
        (
            "data: d",
            "device: cpuu\ndata: d",
            "line 2, device: execution provider 'cpuu' is not in this onnxruntime; did",
        ),
        (
            "data: d",
            "calibration: {iteration: 3}\ndata: d",
            "line 2, calibration.iteration: unknown key 'iteration'; did",
        ),
        (
            "data: d",
            "calibration: {samples: 3, iterations: 3}\ndata: d",
            "line 2, calibration.samples: iterations and samples say the same: keep one of them",
        ),
        (
            "data: d",
            "calibration: {samples: 3, batch: 2}\ndata: d",
            "line 2, calibration.samples: 3 samples do not fill batches of 2: give a multiple of it",
        ),
        ("data: d", "evaluation: {data: dummy}\ndata: d", "line 2, evaluation.data: dummy data is for calibration"),
        ("data: d.npz", "evaluation: {data: d.npz}", "line 1: there is no data for calibration: give calibration.data"),
        (
            "data: d",
            "resources: {executor: thread}\ndata: d",
            "line 2, resources.executor: unknown executor 'thread'; did",
        ),
        ("data: d", "resources: {workers: 0}\ndata: d", "line 2, resources.workers: this must be at least 1, got 0"),
        ("data: d", "images: {layout: NCWH}\ndata: d", "line 2, images.layout: layout='NCWH' is not allowed; did you"),
        ("data: d", "images: {scale: 1/255}\ndata: d", "line 2, images.scale: this must be a number, got '1/255'"),
        ("model: m.onnx\n", "", "line 1: the key 'model' is missing"),
    ],
)
def test_errors_name_line_and_key(declared, old, new, text):
    with pytest.raises(OptionError) as error:
        declared(LEAST.replace(old, new))
    assert str(error.value).startswith(f"a.yaml, {text}")
