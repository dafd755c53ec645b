"""Benchmarks: what is counted and recorded is asserted, what is fast is not."""

import json
import re

import numpy as np
import onnx
import pytest

import quantlab
from quantlab.demo import digits, float_model
from quantlab.errors import OptionError
from quantlab.experiments import bench, timing
from quantlab.experiments.bench import BenchSettings, benchmark

MODEL = onnx.load_from_string(float_model())
QUICK = BenchSettings(runs=2, rounds=3, warm_up=1)


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "model.onnx"
    found.write_bytes(float_model())
    return found


class Clock:
    """A session that takes known times, in a clock of its own, and remembers who ran when."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log = name, iter(seconds), log

    def run(self, _, feed):
        self.log.append(self.name)
        Clock.now += next(self.seconds)

    now = 0.0


def test_models_take_turns_and_ratios_are_medians_within_a_round(monkeypatch):
    monkeypatch.setattr("quantlab.backend.ort.perf_counter", lambda: Clock.now)
    log = []
    # One warm-up and three runs in each of two rounds; the second round is twice as slow for both.
    a = Clock("a", [9, 2, 2, 5, 9, 4, 4, 9], log)
    b = Clock("b", [9, 1, 1, 8, 9, 2, 2, 7], log)
    seconds = timing.interleaved([a, b], [{}, {}], rounds=range(2), runs=3, warm_up=1)
    assert "".join(log) == "aaaabbbbaaaabbbb"
    np.testing.assert_allclose(seconds, [[[2, 2, 5], [1, 1, 8]], [[4, 4, 9], [2, 2, 7]]])
    first, second = timing.ratios(seconds)
    assert (first.low, first.median, first.high) == (1, 1, 1)
    assert second.median == pytest.approx(2)


def test_numbers_of_a_timing_are_those_of_its_runs():
    runs = [3.0, 1.0, 2.0, 10.0]
    one = bench.Timing(
        name="m",
        megabytes=1.0,
        parameters=9,
        inputs={},
        milliseconds=tuple(runs),
        ratio=timing.Ratio(median=1, low=1, high=1),
        samples_per_second=None,
    )
    assert (one.mean, one.median) == (4.0, 2.5)
    assert one.std == pytest.approx((sum((run - 4) ** 2 for run in runs) / 4) ** 0.5)
    assert one.p95 == pytest.approx(3 + 0.85 * 7)  # between the last two, linearly
    assert list(one.lines()) == [
        "run 1: 3.000 ms",
        "run 2: 1.000 ms",
        "run 3: 2.000 ms",
        "run 4: 10.000 ms",
        "Avg: 4.000 ms",
    ]


def test_everything_that_times_depend_on_is_recorded(path):
    report = quantlab.benchmark([path, MODEL, float_model()], QUICK)
    assert [one.name for one in report.models] == [str(path), "model 2", "model 3"]
    assert [len(one.milliseconds) for one in report.models] == [6, 6, 6]
    assert report.models[0].inputs == {"image": (1, 1, 8, 8)}
    assert report.models[0].megabytes == path.stat().st_size / 1e6
    plain = json.loads(json.dumps(report.to_json()))
    assert plain["settings"] == {
        "runs": 2,
        "rounds": 3,
        "warm_up": 1,
        "threads": 1,
        "provider": "CPUExecutionProvider",
        "batch_size": None,
        "shapes": {},
        "fill": "random",
        "seed": 0,
        "max_samples": None,
    }
    assert {"processor", "system", "python", "versions", "threads", "providers"} <= set(plain["environment"])
    assert plain["environment"]["versions"]["onnxruntime"] == "1.31.1"
    assert plain["environment"]["processor"]["cores"] >= 1
    assert plain["models"][0]["ratio"]["median"] == 1
    assert plain["data"] is None


def test_size_counts_external_data(tmp_path):
    quantlab.save(MODEL, tmp_path / "external.onnx", external_above=0)
    report = benchmark(tmp_path / "external.onnx", QUICK)
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    assert report.models[0].megabytes == sum(file.stat().st_size for file in files) / 1e6


def test_throughput_is_measured_on_all_the_data_and_without_loading_it(monkeypatch):
    images = digits().test_images[:10]
    clock = [0.0]
    monkeypatch.setattr(bench, "perf_counter", lambda: clock[0])
    real = bench.OrtBackend.session

    def session(self, model):
        inner = real(self, model)

        class Ticking:
            def run(self, names, feed):
                clock[0] += 0.25
                return inner.run(names, feed)

        return Ticking()

    class Slow(list):
        def __iter__(self):
            for item in super().__iter__():
                clock[0] += 100
                yield item

    monkeypatch.setattr(bench.OrtBackend, "session", session)
    data = Slow([{"image": images[:6]}, {"image": images[6:]}])
    report = benchmark({"a": MODEL, "b": MODEL}, QUICK, data=lambda: iter(data))
    assert report.data == 10
    assert [one.samples_per_second for one in report.models] == [20.0, 20.0]
    assert report.models[0].inputs == {"image": (6, 1, 8, 8)}
    assert report.table().rows[1][0] == "b"
    assert report.words()[0].endswith("; 10 samples")


def test_batch_size_and_shapes_reach_the_inputs():
    assert benchmark(MODEL, BenchSettings(runs=1, rounds=1, batch_size=3)).models[0].inputs == {"image": (3, 1, 8, 8)}
    report = benchmark(MODEL, BenchSettings(runs=1, rounds=1, shapes={"N": 2}, fill="zeros"))
    assert report.models[0].inputs == {"image": (2, 1, 8, 8)}
    assert report.words()[0].endswith("zeros inputs")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: benchmark([]), "there is no model to time: give one or more"),
        (lambda: BenchSettings(runs=0), "runs=0 is not allowed; give a whole number of 1 or more"),
        (lambda: BenchSettings(warm_up=-1), "warm_up=-1 is not allowed; give a whole number of 0 or more"),
        (
            lambda: benchmark(MODEL, BenchSettings(provider="cuda")),
            "execution provider 'cuda' is not in this onnxruntime (it has: ",
        ),
        (
            lambda: benchmark(MODEL, BenchSettings(provider="cpi")),
            "execution provider 'cpi' is not in this onnxruntime; did you mean 'cpu'? (it has: ",
        ),
        (
            lambda: benchmark(MODEL, BenchSettings(shapes={"N": 2}), data=[{"image": digits().test_images[:1]}]),
            "shapes go with inputs that are made up: leave them out, the data has its own",
        ),
    ],
)
def test_refusals(act, words):
    with pytest.raises(OptionError, match=re.escape(words)):
        act()


def test_a_provider_may_be_named_in_full():
    report = benchmark(MODEL, BenchSettings(runs=1, rounds=1, provider="CPUExecutionProvider"))
    assert report.settings.provider == "CPUExecutionProvider"
