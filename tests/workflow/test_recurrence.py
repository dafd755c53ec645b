"""Models whose outputs are fed back: the states of a plain loop, restarts, checkpoints, and what is refused."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import quantlab
from quantlab.backend import OrtBackend, signature
from quantlab.calibration import Histogram, MinMax
from quantlab.errors import DataError, OptionError
from quantlab.workflow.checkpoint import Checkpoint

HIDDEN, FEATURES, STEPS = 5, 3, 12
STATE = {"hn": "h0", "cn": "c0"}


def lstm_model():
    """An LSTM of one step and a linear layer; the batch axis is named `B`."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(1, 4 * HIDDEN, FEATURES)),
        "r": random.normal(size=(1, 4 * HIDDEN, HIDDEN)),
        "b": random.normal(size=(1, 8 * HIDDEN)),
        "v": random.normal(size=(HIDDEN, 2)),
        "axes": [0],
    }
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b", "", "h0", "c0"], ["", "hn", "cn"], "lstm", hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["hn", "axes"], ["h"], "squeeze"),
        helper.make_node("MatMul", ["h", "v"], ["y"], "head"),
    ]

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", 1, "B", FEATURES), value("h0", 1, "B", HIDDEN), value("c0", 1, "B", HIDDEN)],
        [value("y", "B", 2), value("hn", 1, "B", HIDDEN), value("cn", 1, "B", HIDDEN)],
        [
            numpy_helper.from_array(np.asarray(array, np.int64 if name == "axes" else np.float32), name)
            for name, array in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def steps(count=STEPS, batch=2):
    return [{"x": x} for x in np.random.default_rng(1).normal(size=(count, 1, batch, FEATURES)).astype(np.float32)]


def looped(model, samples, batch=2):
    """Run the model step by step by hand; return every value of `h0` and `hn`, and what is fed to each step."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    state = {name: np.zeros((1, batch, HIDDEN), np.float32) for name in ("h0", "c0")}
    fed, made = [], []
    for sample in samples:
        feed = {**state, **sample}
        _, hn, cn = session.run(["y", "hn", "cn"], feed)
        fed.append(feed)
        made.append(hn)
        state = {"h0": hn, "c0": cn}
    return fed, made


def measured(samples, empty=None, model=None, **engine):
    engine = {"state": STATE, "backend": OrtBackend(threads=1), **engine}
    start = dict.fromkeys(["x", "h0", "c0", "hn", "cn", "h", "y"], empty or Histogram())
    return quantlab.Engine(**engine).measure(model or lstm_model(), start, samples)


def test_the_states_are_those_of_a_plain_loop():
    fed, made = looped(lstm_model(), steps())
    seen = measured(steps(), MinMax())
    for name in ("x", "h0", "c0"):
        values = np.concatenate([feed[name].ravel() for feed in fed])
        assert (seen[name].lo, seen[name].hi, seen[name].count) == (values.min(), values.max(), values.size)
    assert (seen["hn"].lo, seen["hn"].hi) == (np.min(made), np.max(made))
    # Without the state, every step would start from zeros.
    alone = np.concatenate([looped(lstm_model(), [step])[1][0].ravel() for step in steps()])
    assert (alone.min(), alone.max()) != (np.min(made), np.max(made))


def test_handing_in_the_states_by_hand_gives_the_same_bytes():
    fed, _ = looped(lstm_model(), steps())
    wanted = measured(fed, state={})
    assert measured(steps()) == wanted
    assert measured(fed) == wanted
    assert measured(steps(), workers=4) == wanted
    assert measured(iter(steps())) == wanted


def test_a_budget_that_cuts_the_tensors_changes_nothing():
    backend = OrtBackend(threads=1, optimize=False)
    assert measured(steps(), backend=backend, budget=50) == measured(steps(), backend=backend)


def test_only_what_is_asked_for_is_counted():
    seen = quantlab.Engine(state=STATE).measure(lstm_model(), {"y": MinMax(), "cn": MinMax()}, steps())
    assert {name: statistic.count for name, statistic in seen.items()} == {
        "y": STEPS * 2 * 2,
        "cn": STEPS * 2 * HIDDEN,
    }


def test_a_sample_that_brings_the_state_restarts_it():
    first, second = steps()[:5], steps()[5:]
    start = {name: np.full((1, 2, HIDDEN), 0.25, np.float32) for name in ("h0", "c0")}
    zeros = {name: np.zeros((1, 2, HIDDEN), np.float32) for name in ("h0", "c0")}
    wanted = looped(lstm_model(), [{**first[0], **start}, *first[1:]])[0]
    wanted += looped(lstm_model(), second)[0]
    found = measured([{**first[0], **start}, *first[1:], {**second[0], **zeros}, *second[1:]])
    assert found == measured(wanted, state={})


@pytest.mark.parametrize("kind", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_states_of_other_types(kind):
    code = {2: 10, 8: 11}[np.dtype(kind).itemsize] if kind is not ml_dtypes.bfloat16 else 16
    text = (
        f'<ir_version: 8, opset_import: ["": 19]> g (float[1] x, {TensorProto.DataType.Name(code).lower()}[1] s) '
        f"=> (float[1] y, {TensorProto.DataType.Name(code).lower()}[1] next) "
        f"{{ wide = Cast<to=1>(s) y = Add(x, wide) next = Cast<to={code}>(y) }}"
    )
    model = onnx.parser.parse_model(text)
    xs = np.array([0.1, 0.23, 0.456, 0.7891], np.float32)
    total, wanted = np.zeros(1, kind), []
    for x in xs:
        wanted.append(total.astype(np.float64)[0])
        total = (x + total.astype(np.float32)).astype(kind)
    engine = quantlab.Engine(state={"next": "s"})
    seen = engine.measure(model, {"s": MinMax(), "next": MinMax()}, [{"x": np.array([x])} for x in xs])
    assert (seen["s"].count, seen["s"].hi) == (4, max(wanted))
    assert seen["next"].hi == total.astype(np.float64)[0]


def test_sizes_that_nothing_names_are_those_of_the_batch():
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 3] x, float[?, 3] s, float[M, 3] t) => '
        "(float[N, 3] y, float[N, 3] u) { y = Add(x, s) u = Add(y, t) }"
    )
    model = onnx.parser.parse_model(text.replace("?", "K"))
    seen = quantlab.Engine(state={"y": "s", "u": "t"}).measure(
        model, {"s": MinMax(), "t": MinMax()}, [{"x": np.ones((4, 3), np.float32)}] * 3
    )
    assert (seen["s"].count, seen["s"].hi, seen["t"].hi) == (36, 2.0, 3.0)


def test_quantize_static_asks_for_no_state(tmp_path):
    xs = np.concatenate([step["x"] for step in steps(batch=1)])
    np.savez(tmp_path / "data.npz", x=xs)
    engine = quantlab.Engine(state=STATE)
    result = quantlab.quantize_static(lstm_model(), None, tmp_path / "data.npz", engine=engine)
    h = result.plan.tensors["h"]
    fed, made = looped(lstm_model(), steps(batch=1), batch=1)
    assert (float(h.values.lo), float(h.values.hi)) == (np.min(made), np.max(made))
    everything = [(feed["x"], feed["h0"], feed["c0"]) for feed in fed]  # in the model's order
    for data in ({"x": xs}, [step["x"] for step in steps(batch=1)], everything):
        assert quantlab.quantize_static(lstm_model(), None, data, engine=engine).plan == result.plan
    with pytest.raises(DataError, match=r"input 'h0' is missing; got 'x'; give every input of the model: 'x', 'h0'"):
        quantlab.quantize_static(lstm_model(), None, [{"x": xs[:1]}])


def test_compare_feeds_each_model_its_own_state():
    result = quantlab.quantize_static(lstm_model(), None, steps(), engine=quantlab.Engine(state=STATE))
    found = quantlab.compare(lstm_model(), result.model, steps(), state=STATE)
    fed, _ = looped(lstm_model(), steps())
    exact = quantlab.compare(lstm_model(), result.model, fed)
    # Here nothing in front of the state is quantized, so that both models have the same.
    assert found.outputs == exact.outputs
    assert found.samples == STEPS


SCRIPT = """
import sys, time, quantlab
from tests.workflow.test_recurrence import STATE, lstm_model, steps

def slowly():
    for step in steps(60):
        time.sleep(0.01)
        yield step

engine = quantlab.Engine(checkpoint=sys.argv[1], every=0.02, state=STATE)
result = quantlab.quantize_static(lstm_model(), None, slowly(), calibrate_method="percentile", engine=engine)
quantlab.save(result.model, sys.argv[2])
"""


def test_killed_and_started_again_it_goes_on_with_the_state(tmp_path):
    checkpoint, out = tmp_path / "calibration.npz", tmp_path / "int8.onnx"
    wanted = quantlab.quantize_static(
        lstm_model(), None, steps(60), calibrate_method="percentile", engine=quantlab.Engine(state=STATE)
    )
    kills = 0
    while not out.exists():
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(checkpoint), str(out)])
        if kills >= 2:
            assert process.wait(timeout=60) == 0
            break
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns > before:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    assert out.read_bytes() == wanted.model.SerializeToString()


def test_a_checkpoint_holds_the_state_and_belongs_to_its_pairs(tmp_path):
    path = tmp_path / "c.npz"
    wanted = measured(steps())
    with pytest.raises(KeyboardInterrupt):
        measured(broken(steps(), 7), checkpoint=path, every=0)
    position = Checkpoint(path=path).load()
    fed, _ = looped(lstm_model(), steps())
    assert position.samples == 7
    assert {name: array.tobytes() for name, array in position.state.items()} == {
        name: fed[7][name].tobytes() for name in ("h0", "c0")
    }
    assert measured(steps(), checkpoint=path, every=0) == wanted
    with pytest.raises(DataError, match="was made with another options"):
        measured(looped(lstm_model(), steps())[0], checkpoint=path, state={"hn": "h0"})


def broken(samples, stop):
    yield from samples[:stop]
    raise KeyboardInterrupt


def test_messages():
    with ThreadPoolExecutor(1) as pool, pytest.raises(OptionError) as error:
        quantlab.Engine(state=STATE, executor=pool)
    assert str(error.value) == (
        "a model whose outputs are fed back takes its samples one after the other, so they cannot be shared out: "
        "leave out the executor or the state"
    )
    for state, text in (
        ({"cnn": "c0"}, r"^state output 'cnn' is no tensor that the model makes; did you mean 'cn'"),
        ({"hn": "h"}, r"^state input 'h' is not an input of the model; did you mean 'h0'\? \(allowed: 'x', 'h0', 'c0'"),
        ({"hn": "h0", "cn": "h0"}, r"^state input 'h0' gets two outputs, 'hn' and 'cn': keep one$"),
    ):
        with pytest.raises(OptionError, match=text):
            measured(steps(), state=state)
    with pytest.raises(DataError, match=r"^'h1' is not an input of the model \(allowed: 'x', 'h0', 'c0'\)"):
        quantlab.quantize_static(lstm_model(), None, steps(), engine=quantlab.Engine(state={"hn": "h1"}))
    assert signature(lstm_model()).with_optional(["h0"]).listed == "'x', 'h0' (may be left out), 'c0'"
