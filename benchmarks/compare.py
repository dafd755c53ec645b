"""Comparing two models beside running them: what `quantlab.compare` costs, and the peer's debugger beside it.

    python -m benchmarks.compare [--models mobilenet_v2 resnet50] [--samples 16] [--rounds 5] [--peer] [--memory]

The yardstick is plain inference of both models on the same samples, one thread a sample and as many samples at once as
there are cores, which is how `compare` runs them. Rounds are interleaved, each on few samples and on many; the
difference is the cost of the further samples, free of what opening and matching the models costs once. Times are CPU
seconds of the process, which other work on the machine disturbs less than those of the clock; ratios are of medians.
The peer's debugger keeps what both models compute for all samples, and compares with its own functions.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import process_time

import onnx

import quantlab
from benchmarks.graphs import GRAPHS, samples
from benchmarks.real_models import Sample
from quantlab.backend import OrtBackend, Runner, usable_cores

MODELS = ("mobilenet_v2", "resnet50")
MEMORY_SAMPLES = (50, 400)
Work = Callable[[Sequence[Sample]], object]


def models(name: str) -> tuple[onnx.ModelProto, onnx.ModelProto, list[Sample]]:
    """Build a float model, its quantized version, and a few samples."""
    model = onnx.load_from_string(GRAPHS[name]())
    given = model.graph.input[0]
    shape = tuple(dim.dim_value or 1 for dim in given.type.tensor_type.shape.dim)
    data: list[Sample] = [{given.name: sample} for sample in samples(shape, 4)]
    return model, quantlab.quantize(model, data, quantlab.Recipe(per_channel=True)).model, data


def inference(runners: Sequence[Runner]) -> Work:
    """The yardstick."""

    def work(feed: Sequence[Sample]) -> None:
        for run in runners:
            with ThreadPoolExecutor(usable_cores()) as pool:
                list(pool.map(run, feed))

    return work


def with_peer(exact: onnx.ModelProto, rounded: onnx.ModelProto, folder: Path) -> Work:
    """The peer's functions in the order of its example."""
    from onnxruntime.quantization import qdq_loss_debug as peer

    paths = [str(folder / name) for name in ("float.onnx", "qdq.onnx")]
    for model, path in zip((exact, rounded), paths, strict=True):
        onnx.save(model, path)

    def work(feed: Sequence[Sample]) -> None:
        saved = []
        for path in paths:
            peer.modify_model_output_intermediate_tensors(path, path + ".saved")
            saved.append(peer.collect_activations(path + ".saved", iter(feed)))
        peer.compute_activation_error(peer.create_activation_matching(saved[1], saved[0]))

    return work


def cost(work: Work, data: Sequence[Sample], count: int) -> float:
    """CPU seconds of each further sample."""
    seconds = []
    for size in (count, 3 * count):
        start = process_time()
        work([data[index % len(data)] for index in range(size)])
        seconds.append(process_time() - start)
    return (seconds[1] - seconds[0]) / (2 * count)


def times(name: str, count: int, rounds: int, peer: bool) -> Iterator[str]:
    """Yield lines with what one model's comparison costs."""
    exact, rounded, data = models(name)
    backend = OrtBackend(threads=1)
    works: dict[str, Work] = {
        "inference of both": inference([backend.open(model) for model in (exact, rounded)]),
        "quantlab.compare": lambda feed: quantlab.compare(exact, rounded, feed),
    }
    with tempfile.TemporaryDirectory() as folder:
        if peer:
            works["onnxruntime's qdq_loss_debug"] = with_peer(exact, rounded, Path(folder))
        for work in works.values():
            work(data[:1])
        found: dict[str, list[float]] = {label: [] for label in works}
        for _ in range(rounds):
            for label, work in works.items():
                found[label].append(cost(work, data, 1 if work is works.get("onnxruntime's qdq_loss_debug") else count))
    base = median(found["inference of both"])
    for label, seconds in found.items():
        yield f"{name:14} {label:30} {1e3 * median(seconds):8.1f} ms a sample  {median(seconds) / base:5.2f} times"


def peak(name: str, count: int) -> float:
    """Compare on so many samples and return the peak memory of this process in MB (1e6 bytes)."""
    exact, rounded, data = models(name)
    quantlab.compare(exact, rounded, (data[index % len(data)] for index in range(count)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in options.models:
        if options.peak:
            print(f"{peak(name, options.peak):.0f}")
            continue
        for line in times(name, options.samples, options.rounds, options.peer):
            print(line)
        for count in MEMORY_SAMPLES if options.memory else ():
            command = [sys.executable, "-m", "benchmarks.compare", "--models", name, "--peak", str(count)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            print(f"{name:14} peak memory over {count} samples: {found} MB")


if __name__ == "__main__":
    main()
