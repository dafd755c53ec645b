"""Time over the number of nodes: a chain prepared and quantized with given ranges, by quantlab and by its peer.

    python -m benchmarks.scaling [--nodes 1000 3000 10000] [--peer 1000 3000] [-o docs/images/scaling.svg]

The chain repeats Conv with a bias (1x1, four channels), Relu and Add, so that nearly all the time is spent on the graph
and not on numbers. Ranges are given to quantlab. The peer, `quantize_static` of onnxruntime (QDQ, min-max), has no way
to take them, so it measures them on one sample, and it reads and writes files; what running the model for that sample
takes is told apart: it is too small to matter.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

import quantlab
from quantlab.arrays import Range
from quantlab.graph import GraphView
from quantlab.graph.prepare.light import light_copy
from quantlab.plan import Calibrated, resolve
from quantlab.plots import save_figure

SHAPE = (1, 4, 2, 2)
ROUNDS = 3


def chain(count: int) -> onnx.ModelProto:
    """Build a chain of so many nodes."""
    random, nodes, constants, before = np.random.default_rng(0), [], [], "x"
    for index in range(count):
        made = "y" if index == count - 1 else f"t{index}"
        op = ("Conv", "Relu", "Add")[index % 3]
        if op == "Conv":
            shapes = {f"w{index}": (4, 4, 1, 1), f"b{index}": (4,)}
            constants += [numpy_helper.from_array(_normal(random, shape), name) for name, shape in shapes.items()]
            inputs = [before, *shapes]
        else:
            inputs = [before] * (2 if op == "Add" else 1)
        nodes.append(helper.make_node(op, inputs, [made], name=f"n{index}"))
        before = made
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _normal(random: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return (random.standard_normal(shape) / 4).astype(np.float32)


def stages(model: onnx.ModelProto) -> dict[str, float]:
    """Quantize a model with given ranges, and return the seconds of each stage."""
    recipe = quantlab.Recipe(per_channel=True)
    seconds = {}
    start = perf_counter()
    prepared = quantlab.prepare_for(model, recipe)
    seconds["prepare"] = perf_counter() - start
    start = perf_counter()
    plan = quantlab.decide(prepared, recipe)
    seconds["plan"] = perf_counter() - start
    given = Calibrated(values=Range(np.float32(-1), np.float32(3)), source="given")
    start = perf_counter()
    plan = resolve(plan, dict.fromkeys(plan.observed(), given), prepared.view)
    seconds["resolve"] = perf_counter() - start
    start = perf_counter()
    quantlab.write(prepared, plan)
    seconds["write"] = perf_counter() - start
    return seconds


def parts(model: onnx.ModelProto) -> dict[str, float]:
    """Time what stands below everything: one index of the graph, and onnx's own tools, of which inference is used."""
    light = light_copy(model)
    calls: Mapping[str, Callable[[], object]] = {
        "one view": lambda: GraphView.of(model),
        "onnx inference": lambda: onnx.shape_inference.infer_shapes(light, data_prop=True),
        "onnx checker": lambda: onnx.checker.check_model(model),
    }
    return {name: min(_timed(call) for _ in range(ROUNDS)) for name, call in calls.items()}


def _timed(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


class _OneSample:
    """What the peer reads data from."""

    def __init__(self) -> None:
        self._samples: Iterator[dict[str, npt.NDArray[np.float32]]] = iter([{"x": np.ones(SHAPE, np.float32)}])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._samples, None)


def peer(model: onnx.ModelProto) -> float:
    """Return the seconds that onnxruntime's quantize_static takes."""
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        start = perf_counter()
        quantization.quantize_static(source, target, _OneSample(), per_channel=True)
        return perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--peer", type=int, nargs="*", default=[1000, 3000])
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)
    stages(chain(30))  # imports
    columns = ("prepare", "plan", "resolve", "write", "one view", "onnx inference", "onnx checker")
    print("| nodes | " + " | ".join(columns) + " | together, s | onnxruntime, s | times |")
    print("|---:|" + "---:|" * (len(columns) + 3), flush=True)
    ours: dict[int, float] = {}
    theirs: dict[int, float] = {}
    for count in sorted({*options.nodes, *options.peer}):
        model = chain(count)
        best = min((stages(model) for _ in range(ROUNDS)), key=lambda seconds: sum(seconds.values()))
        ours[count] = sum(best.values())
        if count in options.peer:
            theirs[count] = peer(model)
        row = [f"{value:.3f}" for value in {**best, **parts(model)}.values()] + [f"{ours[count]:.2f}"]
        row += [f"{theirs[count]:.1f}", f"{theirs[count] / ours[count]:.0f}"] if count in theirs else ["", ""]
        print(f"| {count:,} | " + " | ".join(row) + " |", flush=True)
    if options.output:
        draw(ours, theirs, options.output)


def draw(ours: Mapping[int, float], theirs: Mapping[int, float], path: Path) -> None:
    """Draw seconds over nodes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for seconds, label in ((theirs, "onnxruntime.quantization"), (ours, "quantlab")):
        if seconds:
            axes.loglog(list(seconds), list(seconds.values()), "o-", label=label)
    axes.set(xlabel="nodes", ylabel="seconds", title="Quantizing a chain of Conv, Relu and Add")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


if __name__ == "__main__":
    main()
