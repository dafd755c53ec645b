"""Observers attached to the tensors of a model see what onnxruntime computes there."""

import numpy as np
import pytest

import quantlab
from quantlab.arrays import UINT8, QuantSpec
from quantlab.calibration import RecordingObserver, min_max_observer, per_channel_min_max_observer
from quantlab.errors import DataError, OptionError
from tests.graph.builders import build, run

TEXT = "g (float[2,3] x) => (float[2,3] y) { t = Relu(x) u = Neg(t) k = Shape(x) y = Exp(u) }"
SAMPLES = [{"x": np.random.default_rng(seed).standard_normal((2, 3)).astype(np.float32)} for seed in range(4)]


def test_observers_see_inputs_inner_tensors_and_outputs():
    model = build(TEXT)
    observers = {name: RecordingObserver() for name in ("x", "t", "y")}
    assert quantlab.observe(model, SAMPLES, observers) == 4
    for index, sample in enumerate(SAMPLES):
        assert np.array_equal(observers["x"].arrays[index], sample["x"])
        assert np.array_equal(observers["t"].arrays[index], np.maximum(sample["x"], 0))
        assert np.array_equal(observers["y"].arrays[index], run(model, sample)["y"])


def test_the_grid_is_that_of_the_values():
    seen = min_max_observer(QuantSpec(dtype=UINT8))
    channels = per_channel_min_max_observer(QuantSpec(dtype=UINT8, axis=1))
    quantlab.observe(build(TEXT), iter(SAMPLES), {"t": seen, "x": channels})
    largest = max(float(sample["x"].max()) for sample in SAMPLES)
    assert seen.qparams().scale == np.float32(np.float64(np.float32(largest)) / 255)
    assert channels.range().hi.tolist() == np.max([sample["x"].max(axis=0) for sample in SAMPLES], axis=0).tolist()


@pytest.mark.parametrize(
    ("observers", "text"),
    [
        (
            {"tt": RecordingObserver()},
            "no tensor 'tt' to attach an observer to; did you mean 't'?",
        ),
        (
            {"k": RecordingObserver()},
            "tensor 'k' holds INT64, and observers take floats; attach it to a float tensor",
        ),
        ({}, "no observer was given; name at least one tensor, such as {'x': min_max_observer(spec)}"),
    ],
)
def test_what_cannot_be_observed(observers, text):
    with pytest.raises(OptionError) as error:
        quantlab.observe(build(TEXT), SAMPLES, observers)
    assert str(error.value) == text


def test_data_that_does_not_do():
    with pytest.raises(DataError, match="there is no sample to observe; give at least one"):
        quantlab.observe(build(TEXT), [], {"t": RecordingObserver()})
    with pytest.raises(DataError, match=r"tensor 't', sample 0: an array of shape \(2, 3\) has no axis 2"):
        quantlab.observe(build(TEXT), SAMPLES, {"t": per_channel_min_max_observer(QuantSpec(dtype=UINT8, axis=2))})
