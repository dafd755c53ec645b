"""onnxruntime beside onnx's reference evaluator."""

import re

import numpy as np
import onnx
import pytest

import quantlab
from quantlab.backend.reference import ReferenceBackend
from quantlab.debug.engines import compare_engines
from quantlab.demo import digits, float_model
from quantlab.errors import DataError, ModelError
from quantlab.plan.options import Layout

MODEL = onnx.load_from_string(float_model())
SAMPLES = [{"image": digits().test_images[:10]}, {"image": digits().test_images[10:20]}]


def quantized(**options):
    return quantlab.quantize(MODEL, [{"image": digits().train_images[:100]}], quantlab.Recipe(**options)).model


def test_a_float_model_differs_in_its_last_bits():
    (found,) = compare_engines(MODEL, SAMPLES)
    # The longest sum, of the 64 channels of a 3x3 kernel, in another order: at most that many units in the last place.
    logits = [ReferenceBackend().open(MODEL)(sample)["logits"] for sample in SAMPLES]
    assert 0 < found.largest < 64 * 9 * np.finfo(np.float32).eps * np.abs(logits).max()
    assert (found.name, found.step, found.steps, found.count) == ("logits", None, {}, 200)


@pytest.mark.parametrize("integers", [False, True])
def test_a_quantized_model_is_compared_in_steps(integers):
    (found,) = compare_engines(quantized(layout=Layout(integer_outputs=integers)), SAMPLES)
    assert found.dtype == ("uint8" if integers else "float32")
    assert sum(found.steps.values()) == found.count == 200
    assert max(map(abs, found.steps)) <= 1
    assert found.largest <= found.step * 1.001


class Off:
    """An engine that is wrong by a known number of steps."""

    cores = 1

    def __init__(self, by):
        self.by = by

    def signature(self, model):
        return ReferenceBackend().signature(model)

    def open(self, model, tensors=None):
        run = ReferenceBackend().open(model, tensors)
        return lambda batch: {name: self.by(value) for name, value in run(batch).items()}


def test_the_histogram_counts_steps_with_their_sign():
    def one_row_lower(value):
        off = value.astype(np.int64)
        off[0] -= 3
        return np.clip(off, 0, 255).astype(value.dtype)

    model = quantized(layout=Layout(integer_outputs=True))
    (found,) = compare_engines(model, SAMPLES, engine=Off(one_row_lower))
    assert found.steps == {-3: 20, 0: 180}
    assert (found.largest, found.differing) == (3.0, 20)


def test_nan_and_infinities_are_equal_to_themselves_alone():
    def with_odd_ones(value):
        odd = value.copy()
        odd[0, 0] = np.nan
        return odd

    (found,) = compare_engines(MODEL, SAMPLES, engine=Off(with_odd_ones))
    assert (found.largest, found.differing) == (np.inf, 2)
    (found,) = compare_engines(MODEL, SAMPLES, engine=Off(with_odd_ones), reference=Off(with_odd_ones))
    assert (found.largest, found.differing) == (0.0, 0)


def test_what_cannot_be_compared():
    with pytest.raises(DataError, match="no data: give at least one sample to run"):
        compare_engines(MODEL, [])
    with pytest.raises(ModelError, match="onnx's reference evaluator does not load the model: Node type 'QLinearAdd'"):
        compare_engines(quantized(format="QOperator"), SAMPLES)
    with pytest.raises(DataError, match=re.escape("output 'logits' is float64 (10, 10) in onnxruntime and float32")):
        compare_engines(MODEL, SAMPLES, engine=Off(lambda value: value.astype(np.float64)))
    with pytest.raises(ModelError, match="onnx's reference evaluator fails on a sample"):
        ReferenceBackend().open(MODEL)({"image": np.zeros((1, 5, 8, 8), np.float32)})
