"""Labels travel with the batches: out of stacks, folders, dicts and loaders of tuples, and no model is fed them."""

import re

import numpy as np
import onnx
import pytest

import quantlab
from quantlab.backend import OrtBackend, signature
from quantlab.data import InputSpec, Signature, batches
from quantlab.demo import digits, float_model
from quantlab.errors import DataError

MODEL = Signature(inputs=(InputSpec(name="x", dtype=np.dtype("float32"), shape=("N", 3)),))
X, Y = np.arange(15, dtype=np.float32).reshape(5, 3), np.array([4, 3, 2, 1, 0])


def read(data, **options):
    return [(batch["x"].tolist(), batch["y"].tolist()) for batch in batches(data, MODEL, labels=["y"], **options)]


WHOLE = [([row.tolist()], [label.item()]) for row, label in zip(X, Y, strict=True)]


def test_labels_are_cut_like_the_samples(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    assert read(tmp_path / "data.npz") == read({"x": X, "y": Y}) == WHOLE
    assert [labels for _, labels in read({"x": X, "y": Y}, batch_size=2)] == [[4, 3], [2, 1], [0]]
    assert [labels for _, labels in read({"x": X, "y": Y}, batch_size=2, max_samples=3)] == [[4, 3], [2]]


def test_labels_in_a_folder_of_samples_and_of_batches(tmp_path):
    for index in range(5):
        np.savez(tmp_path / f"{index}.npz", x=X[index], y=Y[index])
    assert read(tmp_path) == WHOLE
    for index in range(5):
        np.savez(tmp_path / f"{index}.npz", x=X[index : index + 1], y=Y[index : index + 1])
    assert read(tmp_path) == WHOLE


def test_labels_out_of_dicts_and_tuples():
    assert read([{"x": X[i : i + 1], "y": Y[i : i + 1]} for i in range(5)]) == WHOLE
    assert read([(X[i : i + 1], Y[i : i + 1]) for i in range(5)]) == WHOLE


def test_stacked_batches_take_their_labels_along():
    found = read({"x": X[:4].reshape(2, 2, 3), "y": Y[:4].reshape(2, 2)})
    assert [labels for _, labels in found] == [[4, 3], [2, 1]]


def test_labels_follow_the_inputs_in_their_own_type_and_an_input_may_be_named():
    batch = next(iter(batches({"y": np.array(["a", "b"]), "x": X[:2]}, MODEL, labels=["y", "x"])))
    assert list(batch) == ["x", "y"]
    assert batch["y"].dtype.kind == "U"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"x": X}, "the labels 'y' are missing; got 'x'; add an array of that name with a row a sample"),
        ({"x": X, "Y": Y, "yy": Y}, "'Y' is not an input of the model"),
        ({"x": X, "y": Y[:4]}, "labels 'y', the data (dict): got shape (4,), and there are 5 samples; give a row each"),
        ([(X[:1],)], "got 1 arrays for the 1 inputs 'x' and the labels 'y'"),
    ],
)
def test_labels_that_do_not_fit(data, words):
    with pytest.raises(DataError, match=re.escape(words)):
        read(data)


def test_zeros_are_warned_of_whatever_the_labels_are():
    with pytest.warns(quantlab.QuantlabWarning, match="all zeros"):
        read({"x": X * 0, "y": Y})


def test_a_model_is_not_fed_labels():
    model = onnx.load_from_string(float_model())
    data = {"image": digits().test_images[:8], "label": digits().test_labels[:8]}
    batch = next(iter(batches(data, signature(model), batch_size=8, labels=["label"])))
    found = next(iter(OrtBackend(threads=1).open(model)(batch).values()))
    assert (found.argmax(1) == batch["label"]).mean() > 0.8
