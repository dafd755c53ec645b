"""One model put through one tool in this process, step by step; after each step there is a report of all so far."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.model_checks import (
    MODES,
    changes,
    checked_outputs,
    difference,
    has_bodies,
    operators,
    opset,
    outputs,
    rounding_bound,
    rungs,
    sqnr,
)
from benchmarks.real_models import Sample
from benchmarks.robustness.found import Found, described
from benchmarks.robustness.models import Source, source

PREPARE, CHECK, TENSOR, CHANNEL, BODIES = "prepare", "prepared model", "per tensor", "per channel", "bodies"
SYMBOLIC = "onnxruntime.tools.symbolic_shape_infer"
"""What both tools load on first use, which takes a second."""

FLOAT, READY = "float.onnx", "ready.onnx"


def with_quantlab(key: str) -> Iterator[Found]:
    """Prepare and quantize by the functions, which are measured, and again by the commands; check what comes out."""
    import quantlab
    from quantlab.workflow.quantize import quantize
    from quantlab.workflow.static import make_recipe

    warnings.simplefilter("ignore")
    _warm_up()
    given = source(key)
    content, samples, steps = given.build(), given.draw(), given.steps()
    engine = quantlab.Engine(state=given.state)
    model, found = quantlab.load(content), Found()
    exact = {mode: outputs(model, samples, optimize=mode) for mode in MODES}
    found.own = difference(*exact.values())
    found.bound, found.operators = rounding_bound(model, found.own), operators(model)
    prepared = None
    with found.step(PREPARE):
        prepared = quantlab.quant_pre_process(model, data=samples)
    yield found
    if prepared is not None:
        found.nodes = (sum(found.operators.values()), sum(operators(prepared.model).values()))
        found.opsets = (opset(model), opset(prepared.model))
        found.rungs, found.passes = rungs(prepared.notes), changes(prepared.notes)
        with found.step(CHECK, measured=False):
            onnx.checker.check_model(prepared.model)
            found.differs = max(
                difference(exact[mode], outputs(prepared.model, samples, optimize=mode)) for mode in MODES
            )
    yield found
    recipes = {TENSOR: make_recipe(), CHANNEL: make_recipe(per_channel=True)}
    if has_bodies(model):
        recipes[BODIES] = replace(recipes[CHANNEL], subgraphs=True)
    for name, recipe in recipes.items():
        result = None
        with found.step(name):
            result = quantize(model, steps, recipe, engine=engine)
        if result is not None:
            with found.step(name, measured=False) as step:
                step.rounded = quantized_nodes(result.plan)
                step.sqnr = sqnr(exact[True], checked_outputs(result.model, samples))
        yield found
    yield from _with_commands(given, found)


def _warm_up() -> None:
    """Load what is loaded on first use."""
    import quantlab
    from quantlab.demo import digits, float_model

    small = {"image": digits().train_images[:1]}
    quantlab.quant_pre_process(float_model(), data=small)
    quantlab.quantize_static(float_model(), None, small)
    importlib.import_module(SYMBOLIC)


def _with_commands(given: Source, found: Found) -> Iterator[Found]:
    Path(FLOAT).write_bytes(given.build())
    samples = given.draw()
    for folder, fed in (("samples", samples), ("steps", given.steps())):
        Path(folder).mkdir()
        for index, sample in enumerate(fed):
            arrays: dict[str, Any] = sample
            np.savez(f"{folder}/{index}.npz", **arrays)
    for written, command in _commands(given.state, inside=BODIES in found.steps):
        with found.step(f"quantlab {command[0]} to {written}", measured=False) as step:
            step.error = typed(*command, "-o", written)
            if not step.error:
                checked_outputs(onnx.load(written), samples)
        yield found


def typed(*words: str) -> str:
    """Run quantlab as a user does who types these words, and return its last words if it fails."""
    command = [sys.executable, "-m", "quantlab.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""


def _commands(state: Mapping[str, str], *, inside: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what a user types, with the file that it writes; what was not made ready is quantized as it is."""
    yield READY, ("preprocess", "-i", FLOAT, "-d", "samples")
    fed_back = [word for pair in state.items() for word in ("--state", "=".join(pair))]
    quantize = ("quantize", READY if Path(READY).exists() else FLOAT, "-d", "steps", *fed_back)
    yield "tensor.onnx", quantize
    yield "channel.onnx", (*quantize, "--per-channel", *(["--subgraphs"] if inside else []))


def quantized_nodes(plan: Any) -> int:
    """Count the nodes that a plan quantizes, those in bodies included."""
    own: int = sum(node.status == "quantized" for node in plan.nodes.values())
    return own + sum(quantized_nodes(body) for body in plan.bodies.values())


def with_onnxruntime(key: str) -> Iterator[Found]:
    """Do the same as a user of the peer does: pre-process, quantize what came out or else the model as it is, run."""
    from onnxruntime import quantization as peer

    class Reader(peer.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(samples)

        def get_next(self) -> Sample | None:
            return next(self.samples, None)

    importlib.import_module(SYMBOLIC)
    given = source(key)
    content, samples = given.build(), given.draw()
    found = Found(operators=operators(onnx.load_from_string(content)))
    exact = outputs(onnx.load_from_string(content), samples, optimize=True)
    Path(FLOAT).write_bytes(content)
    with found.step(PREPARE):
        peer.quant_pre_process(FLOAT, READY)
    yield found
    best = FLOAT if found.error(PREPARE) else READY
    for name in (TENSOR, CHANNEL):
        target = f"{name}.onnx"
        with found.step(name):
            peer.quantize_static(best, target, Reader(), per_channel=name == CHANNEL)
        if not found.error(name):
            try:
                found.steps[name].sqnr = sqnr(exact, outputs(onnx.load(target), samples, optimize=True))
            except Exception as error:
                found.steps[name].error = f"what it wrote does not run, {described(error)}"
        yield found
