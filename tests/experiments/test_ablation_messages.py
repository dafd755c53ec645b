"""What an ablation refuses, word for word, before any work begins."""

import numpy as np
import pytest

import quantlab
from quantlab import Ablation, Sampling, Trial
from quantlab.demo import digits, float_model
from quantlab.errors import DataError, OptionError
from quantlab.experiments.trials import recipe_of

IMAGES = digits().test_images[:8]
DATA = Sampling(data={"image": IMAGES})


def ablation(**changed):
    values = {"model": float_model(), "trials": (), "calibration": DATA, "evaluation": DATA, "repeats": 0}
    return Ablation(**values | changed)


def trial(**options):
    return Trial(name="t", options=options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"per_chanel": True}, "trial 't': no option is called 'per_chanel'; did you mean 'per_channel'?"),
        ({"per_channel": "yes"}, "trial 't': per_channel must be true or false, got 'yes'"),
        (
            {"calibrate": "minmax", "calibrate_method": "MinMax"},
            "calibrate and calibrate_method say the same: keep one",
        ),
        ({"weight": {"dtype": "int8"}, "reduce_range": True}, "weight and reduce_range say the same: keep one of them"),
        ({"activation": "uint8"}, "activation must be a mapping .* got 'uint8'; for a type alone give activation_type"),
        ({"nodes_to_exclude": "a"}, "nodes_to_exclude must be a list of names, got 'a'"),
        ({"rules": {"ops": ["Relu"]}}, "rules must be a list of rules such as"),
        ({"extra_options": {"CalibMovingAvrage": True}}, "has no key 'CalibMovingAvrage'; did you mean 'CalibMovingAv"),
        ({"layout": {"integer_inputs": True}}, "with integer_inputs or integer_outputs a model is fed and answers in"),
    ],
)
def test_options(options, text):
    with pytest.raises(OptionError, match=text):
        trial(**options)


def test_trials():
    with pytest.raises(OptionError, match="'t' is the name of two trials: give each trial a name of its own"):
        ablation(trials=(trial(), trial(per_channel=True)))
    with pytest.raises(OptionError, match="'original' stands for the float model: give each trial a name of its own"):
        ablation(trials=(Trial(name="original"),))
    with pytest.raises(
        OptionError, match="trial 't': quantize is false, so there is no use for options or calibration"
    ):
        Trial(name="t", quantize=False, options={"per_channel": True})
    with pytest.raises(OptionError, match="trial 't': fuse must be 'all' or groups of nodes, got 'some'"):
        Trial(name="t", fuse="some")
    with pytest.raises(OptionError, match="a trial's name must be a text, got ''"):
        Trial(name="")


def test_measuring():
    with pytest.raises(OptionError, match="unknown task metric 'top2'; did you mean 'top1'"):
        ablation(metrics=("top2",))
    with pytest.raises(OptionError, match="unknown task metric 'msee'; did you mean 'mse'"):
        ablation(loss="msee")
    with pytest.raises(OptionError, match="threads must be an integer of at least 0, got -1"):
        ablation(threads=-1)
    with pytest.raises(OptionError, match="execution provider 'cpuu' is not in this onnxruntime; did you mean 'cpu'"):
        quantlab.ablate(ablation(device="cpuu"))
    with pytest.raises(OptionError, match="iterations must be an integer of at least 1, got 0"):
        Sampling(data=IMAGES, iterations=0)


def test_data():
    with pytest.raises(OptionError, match="evaluation needs real data: dummy data is for calibration"):
        ablation(evaluation=Sampling(data="dummy"))
    with pytest.raises(
        DataError, match=r"an ablation reads its data many times: give arrays, files, a folder or a list"
    ):
        quantlab.ablate(ablation(evaluation=Sampling(data=iter([{"image": IMAGES[:1]}]))))
    with pytest.raises(DataError, match="the labels 'label' are missing"):
        quantlab.ablate(ablation(metrics=("accuracy",)))
    with pytest.raises(DataError, match=r"'gone\.npz' does not exist"):
        quantlab.ablate(ablation(calibration=Sampling(data="gone.npz"), trials=(trial(),)))


def test_a_wrong_node_is_refused_before_any_trial_runs(tmp_path):
    one = ablation(trials=(Trial(name="good"), trial(nodes_to_exclude=["/clasifier/Gemm"])))
    with pytest.raises(
        OptionError, match="trial 't': no node is called '/clasifier/Gemm'; did you mean '/classifier/Gemm'"
    ):
        quantlab.ablate(one, folder=tmp_path)
    assert not (tmp_path / "journal.jsonl").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OptionError, match=r"taken' cannot be made \(Not a directory\): give another one"):
        quantlab.ablate(ablation(), folder=tmp_path / "taken")


def test_an_unknown_row_names_the_nearest():
    with pytest.raises(OptionError, match="no trial is called 'orignal'; did you mean 'original'"):
        quantlab.ablate(ablation()).row("orignal")


def test_options_of_both_kinds_make_one_recipe():
    names = {"calibrate": "entropy", "op_types": ["Conv"], "format": "QOperator", "activation_type": "QUInt8"}
    peers = {"calibrate_method": "Entropy", "op_types_to_quantize": ["Conv"], "quant_format": "QOperator"}
    assert recipe_of(names) == recipe_of({**peers, "activation_type": "QUInt8"})
    found = recipe_of({"rules": [{"ops": ["Relu"], "quantize": False}], "nodes_to_exclude": ["/head/*"], "bias": False})
    assert [rule.ops or rule.nodes for rule in found.rules] == [("Relu",), ("/head/*",)]
    assert not found.bias
    assert recipe_of({}) == quantlab.workflow.static.make_recipe()


def test_dummy_data_is_the_same_every_time_and_has_the_shape_of_the_real_one():
    signature = quantlab.backend.signature(quantlab.load(float_model()))
    first, second = (
        np.concatenate([b["image"] for b in Sampling(data="dummy", batch=3, iterations=4).open(signature, like=DATA)])
        for _ in range(2)
    )
    assert first.shape == (12, 1, 8, 8)
    assert (first == second).all()
    assert abs(first.mean()) < 0.2
    assert abs(first.std() - 1) < 0.2
