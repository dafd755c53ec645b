"""The streaming engine: the same bytes however the work is shared out, bounded memory, errors that name the sample."""

import threading
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quantlab
from quantlab import demo
from quantlab.backend import OrtBackend
from quantlab.calibration import Histogram, MinMax
from quantlab.errors import DataError, ModelError
from quantlab.graph.sizes import tensor_bytes
from quantlab.workflow.measure import Feed, grouped, measure

MODEL = quantlab.prepare_for(quantlab.load(demo.float_model())).model
TENSORS = quantlab.decide(quantlab.prepare_for(quantlab.load(demo.float_model())), quantlab.Recipe()).observed()
IMAGES = demo.digits().train_images[:60]
SAMPLES = [{"image": image[None]} for image in IMAGES]
ONE = OrtBackend(threads=1)


def state(seen):
    return {name: (s.count, s.lo, s.hi, getattr(s, "bins", None)) for name, s in seen.items()}


@pytest.mark.parametrize("empty", [MinMax(), Histogram()], ids=["min-max", "histogram"])
@pytest.mark.parametrize("workers", [2, 3, 8])
def test_any_number_of_workers_gives_the_same_bytes(empty, workers):
    start = dict.fromkeys(TENSORS, empty)
    alone = measure(ONE, MODEL, start, SAMPLES, workers=1)
    assert state(measure(ONE, MODEL, start, SAMPLES, workers=workers)) == state(alone)


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(20)), st.integers(1, 4))
def test_any_order_gives_the_same_bytes(order, workers):
    start = dict.fromkeys(TENSORS, Histogram())
    wanted = measure(ONE, MODEL, start, SAMPLES[:20], workers=1)
    found = measure(ONE, MODEL, start, [SAMPLES[index] for index in order], workers=workers)
    assert state(found) == state(wanted)


def test_a_small_budget_computes_tensors_in_several_runs_and_changes_nothing():
    opened = []

    @dataclass(frozen=True, kw_only=True)
    class Counting(OrtBackend):
        def open(self, model, tensors=None):
            opened.append(list(tensors))
            return super().open(model, tensors)

    # Fusing operators depends on which tensors are outputs, and with it the last bits: compared on the plain graph.
    backend, start = Counting(threads=1, optimize=False), dict.fromkeys(TENSORS, Histogram())
    whole = measure(backend, MODEL, start, SAMPLES[:10])
    pieces = measure(backend, MODEL, start, SAMPLES[:10], budget=20_000)
    assert opened[0] == TENSORS
    assert len(opened) > 3
    assert [name for group in opened[1:] for name in group] == TENSORS
    sizes = tensor_bytes(MODEL, {"image": (1, 1, 8, 8)}, TENSORS)
    assert all(sum(sizes[name] for name in group) <= 20_000 or len(group) == 1 for group in opened[1:])
    assert state(pieces) == state(whole)


def test_sizes_are_those_of_the_tensors():
    sizes = tensor_bytes(MODEL, {"image": (3, 1, 8, 8)}, TENSORS)
    values = ONE.open(MODEL, TENSORS)({"image": IMAGES[:3]})
    assert sizes == {name: values[name].nbytes for name in TENSORS}


def test_statistics_are_those_of_a_plain_computation():
    seen = measure(ONE, MODEL, dict.fromkeys(TENSORS, MinMax()), SAMPLES, workers=2)
    run = ONE.open(MODEL, TENSORS)
    values = [run(sample) for sample in SAMPLES]
    for name in TENSORS:
        everything = np.concatenate([np.ravel(value[name]) for value in values])
        assert (seen[name].lo, seen[name].hi, seen[name].count) == (
            everything.min(),
            everything.max(),
            everything.size,
        )


def test_a_source_that_uses_one_buffer_is_read_rightly():
    def source():
        buffer = np.empty((1, 1, 8, 8), np.float32)
        for image in IMAGES:
            buffer[0] = image
            yield {"image": buffer}

    start = dict.fromkeys(TENSORS, Histogram())
    assert state(measure(ONE, MODEL, start, source(), workers=4)) == state(measure(ONE, MODEL, start, SAMPLES))


def test_nothing_is_pulled_far_ahead():
    pulled, done = [], []

    @dataclass
    class Slow:
        inner: OrtBackend = field(default_factory=lambda: ONE)
        cores: int = 1

        def open(self, model, tensors=None):
            run = self.inner.open(model, tensors)

            def counted(batch):
                assert len(pulled) - len(done) <= 3  # one with each worker, and one being handed out
                values = run(batch)
                done.append(1)
                return values

            return counted

    def source():
        for sample in SAMPLES:
            pulled.append(1)
            yield sample

    measure(Slow(), MODEL, dict.fromkeys(TENSORS, MinMax()), source(), workers=2)
    assert len(done) == len(SAMPLES)


def nan_model():
    text = '<ir_version: 8, opset_import: ["": 13]> g (float[N] x) => (float[N] y) { t = Sqrt(x) y = Relu(t) }'
    return onnx.parser.parse_model(text)


def test_nan_names_the_tensor_and_the_first_sample():
    samples = [{"x": np.array([value], np.float32)} for value in (1, 2, -1, 3, -1)]
    for workers in (1, 2, 4):
        with pytest.raises(
            DataError, match=r"^tensor 't' contains NaN in sample 2 although the model's inputs do not: "
        ):
            measure(ONE, nan_model(), {"t": MinMax()}, samples, workers=workers)


def test_a_failing_sample_is_named():
    samples = [{"image": np.zeros((1, 1, size, 8), np.float32)} for size in (8, 8, 9)]
    with pytest.raises(ModelError, match=r"^sample 2: onnxruntime fails on a sample: "):
        measure(ONE, MODEL, {TENSORS[-1]: MinMax()}, samples, workers=2)


def test_an_error_of_the_source_comes_through():
    def source():
        yield SAMPLES[0]
        raise DataError("the second sample is missing")

    with pytest.raises(DataError, match="the second sample is missing"):
        measure(ONE, MODEL, dict.fromkeys(TENSORS, MinMax()), source(), workers=2)


def test_no_data():
    with pytest.raises(DataError, match="there is no calibration data: give at least one sample"):
        measure(ONE, MODEL, dict.fromkeys(TENSORS, MinMax()), [])


def test_a_feed_hands_out_each_sample_once():
    feed = Feed(iter([{"x": np.array(index)} for index in range(200)]))
    taken = []

    def take():
        while (found := feed.take()) is not None:
            taken.append((found[0], int(found[1]["x"])))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [(index, index) for index in range(200)]


@given(st.lists(st.integers(0, 10)), st.integers(1, 20))
def test_groups_fit_and_keep_the_order(sizes, budget):
    named = {str(index): size for index, size in enumerate(sizes)}
    groups = grouped(named, budget)
    assert [name for group in groups for name in group] == list(named)
    assert all(len(group) == 1 or sum(named[name] for name in group) <= budget for group in groups)
