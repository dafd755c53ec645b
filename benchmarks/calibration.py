"""Calibration from end to end, beside plain float inference of the same samples and onnxruntime.quantization.

    python -m benchmarks.calibration [--models mobilenet_v2 ...] [--rules minmax ...] [--samples 16] [--peer]

Every contestant lives in a process of its own and has calibrated once before anything is timed, which loads what it
needs and compiles its kernels. Rounds are interleaved: one contestant at a time, in an order that rotates, calibrates
on few samples and on many. The difference is the time of the further samples, free of what a calibration costs once
(opening the graph, computing ranges from statistics). Ratios are of medians over the rounds. Peak memory is measured in
the same way, in processes that calibrate once.

Other work on the machine harms plain inference the most, since its threads wait for each other at every operator. So
the share of the processors that other work took is measured with every calibration; one that was disturbed is repeated,
and the quietest of a few attempts counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import IO, cast

import onnx

from benchmarks.graphs import GRAPHS, samples
from benchmarks.real_models import Sample

RULES = ("minmax", "percentile", "entropy")
FLOAT = "float inference"
TOOLS = ("quantlab", "onnxruntime.quantization")
FURTHER = {"onnxruntime.quantization": 1}
"""Further samples of the longer timed run, in multiples of the shorter one. The peer keeps all activations: few."""
FURTHER_BY_DEFAULT = 4
MEMORY_SAMPLES = {"quantlab": 100, "onnxruntime.quantization": 8}
"""Samples of the first memory run; the second has twice as many."""
DISTURBED = 0.05
"""Share of the processors in other hands above which a measurement is repeated."""
ATTEMPTS = 6
PEAK_RESET = "5"
"""What Linux takes in /proc/self/clear_refs to start the peak anew."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One calibration.

    Attributes:
        seconds: From start to ranges.
        peak_mb: Peak memory of the process since the request for the second sample, in MB (1e6 bytes).
        others: Share of all processors' time that other work took meanwhile, 0 to 1.
    """

    seconds: float
    peak_mb: float
    others: float


class Feed:
    """Hands out samples once, and starts the peak of memory anew at the second, when the graph is open."""

    def __init__(self, given: Sequence[Sample]) -> None:
        self._given = given

    def __length_hint__(self) -> int:
        return len(self._given)

    def __iter__(self) -> Iterator[Sample]:
        yield self._given[0]
        reset_peak()
        yield from self._given[1:]


Calibration = Callable[[Feed], object]
"""Does all the work on one feed."""


def float_inference(path: Path) -> Calibration:
    """The yardstick: the optimized graph on all cores, its outputs fetched."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feed: [session.run(None, sample) for sample in feed]


def with_quantlab(path: Path, rule: str) -> Calibration:
    """Calibrate a model that is prepared and planned already, in quantlab's native mode."""
    import quantlab

    recipe = quantlab.Recipe(calibrate=rule)
    prepared = quantlab.prepare_for(onnx.load(path), recipe)
    plan = quantlab.decide(prepared, recipe)
    return lambda feed: quantlab.calibrate(prepared, plan, feed, recipe)


def with_peer(path: Path, rule: str) -> Calibration:
    """Calibrate as `onnxruntime.quantization.quantize_static` does it, with each method's own defaults."""
    from onnxruntime import quantization as peer
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    class Reader(peer.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, feed: Feed) -> None:
            self.left = iter(feed)

        def get_next(self) -> Sample | None:
            return next(self.left, None)

    methods = {
        "minmax": peer.CalibrationMethod.MinMax,
        "percentile": peer.CalibrationMethod.Percentile,
        "entropy": peer.CalibrationMethod.Entropy,
    }
    operators = sorted({*QLinearOpsRegistry, *QDQRegistry})

    def calibrate(feed: Feed) -> object:
        with tempfile.TemporaryDirectory() as folder:
            augmented = str(Path(folder, "augmented.onnx"))
            calibrator = create_calibrator(path, operators, augmented, calibrate_method=methods[rule])
            calibrator.collect_data(Reader(feed))
            return calibrator.compute_data()

    return calibrate


def contestant(name: str, path: Path) -> Calibration:
    """Return the calibration that a name such as "quantlab percentile" stands for."""
    if name == FLOAT:
        return float_inference(path)
    tool, rule = name.split()
    return {"quantlab": with_quantlab, "onnxruntime.quantization": with_peer}[tool](path, rule)


def timed(calibration: Calibration, given: Sequence[Sample]) -> Timing:
    """Calibrate once."""
    busy, own, start = busy_seconds(), time.process_time(), time.perf_counter()
    calibration(Feed(given))
    seconds = time.perf_counter() - start
    others = (busy_seconds() - busy) - (time.process_time() - own)
    share = min(max(others / seconds / (os.cpu_count() or 1), 0.0), 1.0)
    return Timing(seconds=seconds, peak_mb=peak_mb(), others=share)


def busy_seconds() -> float:
    """Return how long all processors together have worked or were taken away, in seconds; 0 where nobody tells."""
    place = Path("/proc/stat")
    if not place.exists():
        return 0.0
    user, nice, system, _, _, interrupt, soft, stolen = map(int, place.read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + interrupt + soft + stolen) / os.sysconf("SC_CLK_TCK")


def reset_peak() -> None:
    """Start the peak anew where the system can; `getrusage` alone would hide growth below an earlier peak."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text(PEAK_RESET)


def peak_mb() -> float:
    """Return the peak memory since `reset_peak` in MB, or NaN where the system does not tell."""
    place = Path("/proc/self/status")
    lines = place.read_text().splitlines() if place.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), float("nan"))


def inputs(path: Path, count: int) -> list[Sample]:
    """Draw samples of batch 1 for a model with one input."""
    (given,) = onnx.load(path).graph.input
    sizes = [dimension.dim_value or 1 for dimension in given.type.tensor_type.shape.dim]
    return [{given.name: array} for array in samples(tuple(sizes), count)]


def serve(name: str, path: Path, drawn: int) -> None:
    """Be a contestant: for every number that comes in, calibrate on as many samples and print the timing."""
    given = inputs(path, drawn)
    calibration = contestant(name, path)
    timed(calibration, given[:3])
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(timed(calibration, given[: int(line)]))), flush=True)


class Worker:
    """A contestant in a process of its own, ready to calibrate on request."""

    def __init__(self, name: str, path: Path, drawn: int) -> None:
        command = [sys.executable, "-m", "benchmarks.calibration", "--serve", name, str(path), str(drawn)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self._stdin, self._stdout = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        self._line()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def calibrate(self, count: int) -> Timing:
        """Ask for one calibration on so many samples."""
        self._stdin.write(f"{count}\n")
        self._stdin.flush()
        return Timing(**json.loads(self._line()))

    def _line(self) -> str:
        # onnxruntime.quantization prints its own progress.
        while line := self._stdout.readline():
            if line.startswith(("ready", "{")):
                return line
        raise RuntimeError(f"the process of a contestant ended with {self._process.wait()}; its error stands above")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one contestant's calibrations took in one round.

    Attributes:
        each: Time of one further sample, in seconds.
        once: What is left of the shorter run when its samples are taken off, in seconds.
        others: Share of all processors' time that other work took meanwhile, the larger of both runs.
    """

    each: float
    once: float
    others: float


def race(names: Sequence[str], path: Path, count: int, rounds: int) -> dict[str, list[Cost]]:
    """Time every contestant in interleaved rounds."""
    further = {name: count * FURTHER.get(name.split(maxsplit=1)[0], FURTHER_BY_DEFAULT) for name in names}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, path, count + further[name])) for name in names}
        taken: dict[str, list[Cost]] = {name: [] for name in names}
        for turn in range(rounds):
            shift = turn % len(names)
            for name in (*names[shift:], *names[:shift]):
                short, long = (quietly(workers[name], n) for n in (count, count + further[name]))
                each = (long.seconds - short.seconds) / further[name]
                others = max(short.others, long.others)
                taken[name].append(Cost(each=each, once=short.seconds - count * each, others=others))
    return taken


def quietly(worker: Worker, count: int) -> Timing:
    """Time a calibration, again if it was disturbed, and return the quietest attempt."""
    attempts = [worker.calibrate(count)]
    while attempts[-1].others > DISTURBED and len(attempts) < ATTEMPTS:
        attempts.append(worker.calibrate(count))
    return min(attempts, key=lambda timing: timing.others)


def growth_mb(name: str, path: Path) -> float:
    """Return by how much the peak grows with each further sample, in MB; both runs hold the same samples."""
    count = MEMORY_SAMPLES[name.split(maxsplit=1)[0]]
    peaks = []
    for used in (count, 2 * count):
        with Worker(name, path, 2 * count) as worker:
            peaks.append(worker.calibrate(used).peak_mb)
    return (peaks[1] - peaks[0]) / count


def rows(model: str, names: Sequence[str], count: int, rounds: int) -> Iterator[str]:
    """Measure on one model and yield the rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{model}.onnx")
        path.write_bytes(GRAPHS[model]())
        taken = race([FLOAT, *names], path, count, rounds)
        unit = median(cost.each for cost in taken[FLOAT])
        others = {name: median(cost.others for cost in costs) for name, costs in taken.items()}
        yield f"| {model} | {FLOAT} | {1000 * unit:.2f} | 1 | | {100 * others[FLOAT]:.0f} | |"
        for name in names:
            print(f"{model}: memory of {name}", file=sys.stderr, flush=True)
            ratios = sorted(cost.each / base.each for cost, base in zip(taken[name], taken[FLOAT], strict=True))
            each, once = median(cost.each for cost in taken[name]), median(cost.once for cost in taken[name])
            yield (
                f"| {model} | {name} | {1000 * each:.2f} | {each / unit:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) "
                f"| {1000 * once:.0f} | {100 * others[name]:.0f} | {growth_mb(name, path):.3f} |"
            )


def environment() -> str:
    """Describe machine and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "onnx", "onnxruntime"))
    return (
        f"- Date: {datetime.now(UTC):%Y-%m-%d}\n- Machine: {os.cpu_count()} cores of {cpu}\n"
        f"- Versions: Python {platform.python_version()}, {versions}\n"
    )


HEADS = (
    "model",
    "contestant",
    "ms per further sample",
    "multiple of float inference (least-most of the rounds)",
    "ms once",
    "% of the machine in other hands",
    "peak MB per further sample",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=list(GRAPHS), default=list(GRAPHS))
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--samples", type=int, default=16, help="of the shorter of the timed calibrations")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="store_true", help="measure onnxruntime.quantization too")
    parser.add_argument("--serve", nargs=3, metavar=("NAME", "PATH", "DRAWN"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        name, path, drawn = options.serve
        serve(name, Path(path), int(drawn))
        return 0
    tools = TOOLS if options.peer else TOOLS[:1]
    names = [f"{tool} {rule}" for tool in tools for rule in options.rules]
    given = sys.argv[1:] if arguments is None else list(arguments)
    print(f"- Command: `{' '.join(['python -m benchmarks.calibration', *given])}`\n{environment()}")
    print(f"| {' | '.join(HEADS)} |\n|---|---|{'---:|' * (len(HEADS) - 2)}", flush=True)
    for model in options.models:
        for row in rows(model, names, options.samples, options.rounds):
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
