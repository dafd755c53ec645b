"""The networks that benchmarks run on: sound, finite, reproducible, and of the published size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from benchmarks.graphs import GRAPHS, bert, mobilenet_v2, resnet50, samples
from quantlab.graph.expose import expose

SMALL: dict[str, Callable[..., bytes]] = {
    "mobilenet_v2": partial(mobilenet_v2, size=64, width=0.25, last=64, classes=10),
    "resnet50": partial(resnet50, size=64, width=8, classes=10),
    "bert": partial(bert, layers=2, tokens=12, width=48, heads=4, inner=96),
}
SHAPES = {"mobilenet_v2": (2, 3, 64, 64), "resnet50": (2, 3, 64, 64), "bert": (2, 12, 48)}
ANSWERS = {"mobilenet_v2": (2, 10), "resnet50": (2, 10), "bert": (2, 12, 48)}


def test_every_network_is_tested() -> None:
    assert SMALL.keys() == GRAPHS.keys()


@pytest.mark.parametrize("name", SMALL)
def test_it_passes_the_checker_at_the_stated_versions(name: str) -> None:
    model = onnx.load_from_string(SMALL[name]())
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]


@pytest.mark.parametrize("name", SMALL)
def test_every_activation_is_finite_and_of_natural_size(name: str) -> None:
    model = onnx.load_from_string(SMALL[name]())
    inner = [output for node in model.graph.node for output in node.output]
    session = onnxruntime.InferenceSession(expose(model, inner).SerializeToString(), providers=["CPUExecutionProvider"])
    (sample,) = samples(SHAPES[name], 1)
    values = dict(zip(inner, session.run(inner, {model.graph.input[0].name: sample}), strict=True))
    assert values[model.graph.output[0].name].shape == ANSWERS[name]
    for tensor, value in values.items():
        assert np.isfinite(value).all(), tensor
        # A Softmax over many tokens is the smallest on purpose, and a vanished or exploded layer far outside.
        assert 1e-3 < np.abs(value).max() < 1e3, tensor


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_gives_the_same_bytes_and_another_seed_others(name: str) -> None:
    build = SMALL[name]
    assert build(seed=3) == build(seed=3)
    assert build(seed=3) != build(seed=4)


def test_bert_has_as_many_layers_as_asked_for() -> None:
    counts = []
    for layers in (1, 3):
        model = onnx.load_from_string(bert(layers=layers, tokens=4, width=16, heads=2, inner=16))
        counts.append(sum(node.op_type == "Softmax" for node in model.graph.node))
    assert counts == [1, 3]


# The papers' and torchvision's numbers of parameters; folding batch normalization (two parameters and no bias before,
# one bias after) leaves one parameter a channel less: 17,056 channels in MobileNetV2, 26,560 in ResNet-50.
@pytest.mark.parametrize(("build", "parameters"), [(mobilenet_v2, 3_504_872 - 17_056), (resnet50, 25_557_032 - 26_560)])
def test_it_has_the_parameters_of_the_published_network(build: Callable[[], bytes], parameters: int) -> None:
    model = onnx.load_from_string(build())
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert sum(array.size for array in arrays if array.ndim) == parameters


def test_samples_do_not_depend_on_how_many_are_drawn() -> None:
    few, many = samples((1, 3), 2), samples((1, 3), 4)
    assert all(np.array_equal(one, other) for one, other in zip(few, many[:2], strict=True))
