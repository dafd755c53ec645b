"""Whole models through `quantlab preprocess` and `quantlab quantize`: networks that come with onnx, and odd ones.

The same is done with real trained models by `benchmarks.robustness`, whose own parts are tested at the end.
"""

from __future__ import annotations

import doctest
import importlib
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic
from typer.testing import CliRunner

import quantlab
from benchmarks import results
from benchmarks.model_checks import MODES, checked_outputs, difference, operators, outputs, rounding_bound, sqnr
from benchmarks.robustness import __main__ as command
from benchmarks.robustness import section, work
from benchmarks.robustness.found import DIED, Found, Step
from benchmarks.robustness.models import Source
from quantlab.cli.app import app
from tests.graph.builders import build, normal
from tests.published import published

Sample = dict[str, Any]

BRANCHES = """g (bool c, float[N,8] x) => (float[N,4] y) {
    h = MatMul(x, w) t = Relu(h)
    [if] y = If(c) <
        then_branch = a () => (float[N,4] p) { [inner] q = MatMul(t, v) p = Sigmoid(q) },
        else_branch = b () => (float[N,4] r) { s = Add(t, t) z = MatMul(s, v) r = Tanh(z) }
    >
}"""
LOOP = """g (float[N,8] x, int64 n) => (float[N,8] y, float[K,N,8] steps) {
    h = MatMul(x, w) go = Constant<value = bool {1}>()
    [loop] y, steps = Loop(n, go, h) <body = b (int64 i, bool more, float[N,8] v)
    => (bool on, float[N,8] u, float[N,8] z) {
        on = Identity(more) p = MatMul(v, w) [state] u = Tanh(p) z = Relu(u)
    }>
}"""
STATE = """g (float[6,N,8] x, float[1,N,8] h0, float[1,N,8] c0) => (float[6,N,4] y, float[1,N,8] h1, float[1,N,8] c1) {
    a = MatMul(x, w) f = Relu(a)
    all, h1, c1 = LSTM<hidden_size = 8>(f, lw, lr, lb, , h0, c0)
    one = Constant<value = int64[1] {1}>() s = Squeeze(all, one) y = MatMul(s, v)
}"""
WEIGHTS = {"w": normal(0, 8, 8) / 2, "v": normal(1, 8, 4) / 2}
CELL = {"lw": normal(2, 1, 32, 8) / 3, "lr": normal(3, 1, 32, 8) / 3, "lb": normal(4, 1, 64) / 3}
ROUNDS = 180


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A model, its samples, what the command is told besides, and samples with the states that it feeds back itself."""

    model: onnx.ModelProto
    samples: list[Sample]
    options: tuple[str, ...] = ()
    states: Sample = field(default_factory=dict)


def network(name: str) -> Whole:
    model, samples = published(name)
    return Whole(model=model, samples=samples)


def unrolled() -> Whole:
    """Make a recurrence of 1,081 nodes, as exporters unroll it."""
    step = (
        "a{0} = MatMul(x, w) b{0} = MatMul(h{0}, r) s{0} = Add(a{0}, b{0}) "
        "n{0} = Add(s{0}, b) t{0} = Tanh(n{0}) h{1} = Neg(t{0}) "
    )
    body = "".join(step.format(index, index + 1) for index in range(ROUNDS))
    constants = {**WEIGHTS, "r": normal(5, 8, 8) / 4, "b": normal(6, 8) / 4}
    model = build(
        f"g (float[N,8] x) => (float[N,8] y) {{ h0 = Neg(x) {body} y = Relu(h{ROUNDS}) }}", constants, opset=12
    )
    return Whole(model=model, samples=[{"x": normal(seed, 3, 8)} for seed in range(2)])


def branches() -> Whole:
    samples = [{"c": np.array(seed % 2 == 0), "x": normal(seed, 3, 8)} for seed in range(4)]
    return Whole(model=build(BRANCHES, WEIGHTS), samples=samples, options=("--subgraphs",))


def loop() -> Whole:
    samples = [{"n": np.array(3, np.int64), "x": normal(seed, 3, 8)} for seed in range(4)]
    return Whole(model=build(LOOP, WEIGHTS), samples=samples, options=("--subgraphs",))


def state() -> Whole:
    zeros = np.zeros((1, 2, 8), np.float32)
    return Whole(
        model=build(STATE, WEIGHTS | CELL),
        samples=[{"x": normal(seed, 6, 2, 8)} for seed in range(4)],
        options=("--state", "h1=h0", "--state", "c1=c0"),
        states={"h0": zeros, "c0": zeros},
    )


WHOLES: dict[str, Callable[[], Whole]] = {
    "squeezenet": lambda: network("squeezenet"),
    "shufflenet": lambda: network("shufflenet"),
    "unrolled": unrolled,
    "branches": branches,
    "loop": loop,
    "state": state,
}


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Type a command in an empty folder, and get what it prints."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(args))
        assert result.exit_code == code, result.stderr + result.stdout + repr(result.exception)
        return result.stderr if code else result.stdout

    return call


def write(whole: Whole, folder: Path) -> list[Sample]:
    """Write the model and its samples, and return complete samples."""
    onnx.save(whole.model, folder / "float.onnx")
    complete = [sample | whole.states for sample in whole.samples]
    for name, samples in (("samples", whole.samples), ("complete", complete)):
        (folder / name).mkdir()
        for index, sample in enumerate(samples):
            np.savez(folder / name / f"{index}.npz", **sample)
    return complete


@pytest.mark.parametrize("name", WHOLES)
def test_a_whole_model_is_prepared_quantized_and_runs(name, typed, tmp_path) -> None:
    whole = WHOLES[name]()
    samples = write(whole, tmp_path)
    exact = {mode: outputs(whole.model, samples, optimize=mode) for mode in MODES}
    typed("preprocess", "-i", "float.onnx", "-o", "ready.onnx", "--data", "complete")
    ready = onnx.load("ready.onnx")
    onnx.checker.check_model(ready, full_check=True)
    bound = rounding_bound(whole.model, difference(*exact.values()))
    assert all(difference(exact[mode], outputs(ready, samples, optimize=mode)) <= bound for mode in MODES)
    quality = {}
    for option in ("--no-per-channel", "--per-channel"):
        typed("quantize", "ready.onnx", "--data", "samples", "-o", "int8.onnx", option, *whole.options)
        made = onnx.load("int8.onnx")
        assert ("--subgraphs" in whole.options) == has_grids_inside(made)
        assert has_scales_per_channel(made) == (option == "--per-channel")
        quality[option] = sqnr(exact[True], checked_outputs(made, samples))
    assert min(quality.values()) > 0, quality  # the error is smaller than the signal


def has_grids_inside(model: onnx.ModelProto) -> bool:
    return operators(model)["DequantizeLinear"] > sum(node.op_type == "DequantizeLinear" for node in model.graph.node)


def has_scales_per_channel(model: onnx.ModelProto) -> bool:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    scales = [constants[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    return any(np.size(numpy_helper.to_array(scale)) > 1 for scale in scales)


def by_quantlab(given: str, written: str) -> None:
    quantlab.quantize_static(given, written, [{"x": normal(0, 6, 2, 8)} | state().states])


def by_onnxruntime(given: str, written: str) -> None:
    quantize_dynamic(given, written, op_types_to_quantize=["MatMul"])


@pytest.mark.parametrize(
    ("make", "evidence"), [(by_quantlab, "DequantizeLinear"), (by_onnxruntime, "DynamicQuantizeLinear")]
)
@pytest.mark.parametrize("verb", [("preprocess", "-i"), ("quantize",)])
def test_a_quantized_model_is_refused_with_what_shows_it(make, evidence, verb, typed, tmp_path) -> None:
    write(state(), tmp_path)
    make("float.onnx", "int8.onnx")
    nodes = onnx.load("int8.onnx").graph.node
    shown = [
        node
        for node in nodes
        if "QuantizeLinear" in node.op_type or "DequantizeLinear" in node.op_type or "Integer" in node.op_type
    ]
    assert shown[0].op_type == evidence
    told = typed(*verb, "int8.onnx", "--data", "complete", "-o", "out.onnx", code=2)
    assert told == (
        f"error: the model is already quantized: {len(shown)} of its {len(nodes)} nodes are quantized operators, the "
        f"first is {evidence} {shown[0].name!r}; give the float model from which it was made\n"
    )
    assert not Path("out.onnx").exists()


def test_the_benchmark_takes_a_model_through_all_steps(typed, monkeypatch) -> None:
    whole = branches()
    monkeypatch.setattr(work, "typed", lambda *words: "" if typed(*words) else "no words")
    given = Source(build=whole.model.SerializeToString, draw=lambda: whole.samples)
    monkeypatch.setattr(work, "source", lambda key: given)
    with warnings.catch_warnings():
        *_, found = work.with_quantlab("branches")
    assert found.works, found
    assert list(found.steps) == [
        "prepare", "prepared model", "per tensor", "per channel", "bodies",
        "quantlab preprocess to ready.onnx", "quantlab quantize to tensor.onnx", "quantlab quantize to channel.onnx",
    ]  # fmt: skip
    assert found.operators == {"MatMul": 3, "Relu": 1, "If": 1, "Sigmoid": 1, "Add": 1, "Tanh": 1}
    assert found.nodes == (8, 8)
    assert found.steps["per channel"].rounded < found.steps["bodies"].rounded
    again = Found.of(json.loads(json.dumps(asdict(found))))
    assert again.steps == found.steps


def test_a_process_that_takes_too_long_is_ended_and_said_so(monkeypatch) -> None:
    monkeypatch.setattr(command, "SECONDS", 0.01)
    found = command.in_own_process("onnxruntime", "magika")
    assert found.error("prepare") == "not done after 0.01 s"
    assert not found.works


def told_of(ours: Found, theirs: Found, key: str = "magika") -> str:
    return "\n".join(section.lines({key: ours}, {key: theirs}, command="some command", limit=300))


def test_the_section_tells_what_failed_and_why() -> None:
    fine = Step(seconds=1.5, memory=20, sqnr=31.04)
    ours = Found(steps={"prepare": fine, "per tensor": fine, "per channel": Step(error="ModelError: no | grid")})
    theirs = Found(steps={"prepare": Step(error="Exception"), DIED: Step(error="not done after 300 s")})
    text = told_of(ours, theirs)
    assert "0 of 1 float models come through quantlab" in text
    assert "- **magika** fails, per channel: ModelError: no / grid" in text
    assert "| magika | 1.50 s, 20 MB, 31.0 dB | 1.50 s, 20 MB, 31.0 dB | failed: ModelError: no / grid |  |" in text
    assert "| magika | failed: Exception | failed: not done after 300 s |  |" in text
    assert "pre-processing succeeds on 0, quantization per tensor gives a model that runs for 0" in " ".join(
        text.split()
    )


def test_the_section_tells_a_difference_that_is_more_than_rounding() -> None:
    ours = Found(steps={"prepare": Step(), "prepared model": Step()}, differs=1e-3, own=1e-6, bound=1e-5)
    assert "| **too much**: 1e-03 (1e-06) |" in told_of(ours, Found())
    assert not ours.works


@pytest.mark.parametrize(
    ("error", "cell"),
    [
        ("ModelError: the model is already quantized: see X", "refused: the model is already quantized: see X"),
        ("", "**not refused**: "),
    ],
)
def test_the_section_tells_whether_a_quantized_model_was_refused(error, cell) -> None:
    ours = Found(steps={"prepare": Step(error=error), "per tensor": Step(error=error)})
    assert f"| ddddocr_old | {cell}" in told_of(ours, Found(), "ddddocr_old")


def test_each_benchmark_writes_its_own_sections_only(monkeypatch, tmp_path) -> None:
    page = tmp_path / "results.md"
    monkeypatch.setattr(results, "page", lambda keys, variants: "# New\n\n## magika\n\nnew rows\n")
    monkeypatch.setattr(command, "section", lambda keys: "## Every model\n\n### Part\n\nnew models\n")
    results.main(["magika", "-o", str(page)])
    command.main(["-o", str(page)])
    written = "# New\n\n## magika\n\nnew rows\n\n## Every model\n\n### Part\n\nnew models\n"
    assert page.read_text() == written
    page.write_text(written.replace("new", "old").replace("New", "Old") + "\n## Else\n\ntext\n")
    command.main(["-o", str(page)])
    assert "old rows" in page.read_text()
    results.main(["magika", "-o", str(page)])
    assert page.read_text() == written + "\n## Else\n\ntext\n"


@pytest.mark.parametrize("module", ["pages", "model_checks"])
def test_examples_in_docstrings(module) -> None:
    result = doctest.testmod(importlib.import_module(f"benchmarks.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
