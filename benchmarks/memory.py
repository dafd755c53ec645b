"""Memory over a long calibration: 10,000 random samples through MobileNetV2, one histogram a tensor.

    python -m benchmarks.memory [--samples 10000] [-o docs/images/memory.svg]

Prints the resident memory along the way, the straight line fitted through it, and draws both.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

import quantlab
from benchmarks.graphs import mobilenet_v2
from quantlab.plots import save_figure

PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY = 50
SETTLED = 0.1
"""Share of the samples after which memory pools have found their size."""


def resident() -> float:
    """Memory of this process in MB (1e6 bytes)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def samples(name: str, count: int, seen: list[tuple[int, float]]) -> Iterator[dict[str, np.ndarray]]:  # type: ignore[type-arg]
    """Yield random pictures, and note the memory now and then."""
    random = np.random.default_rng(0)
    for index in range(count):
        if index % EVERY == 0:
            seen.append((index, resident()))
        yield {name: random.normal(size=(1, 3, 224, 224)).astype(np.float32)}


def measure(count: int) -> tuple[list[tuple[int, float]], float]:
    """Calibrate on so many samples.

    Returns:
        Pairs of sample number and memory in MB, and the seconds it took.
    """
    model = quantlab.load(mobilenet_v2())
    name = model.graph.input[0].name
    recipe = quantlab.Recipe(calibrate="percentile", per_channel=True)
    prepared = quantlab.prepare_for(model, recipe)
    plan = quantlab.decide(prepared, recipe)
    seen: list[tuple[int, float]] = []
    start = perf_counter()
    quantlab.calibrate(prepared, plan, samples(name, count, seen), recipe)
    return seen, perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)
    seen, seconds = measure(options.samples)
    numbers, memory = (np.array(column, float) for column in zip(*seen, strict=True))
    late = numbers >= SETTLED * options.samples
    slope, start = np.polyfit(numbers[late], memory[late], 1)
    print(f"{options.samples:,} samples in {seconds:.0f} s, {1e3 * seconds / options.samples:.1f} ms a sample")
    print(f"memory in MB: {memory[late].min():.0f} to {memory[late].max():.0f} after the first {SETTLED:.0%}")
    print(f"growth by a straight line: {1e3 * slope:.2f} kB a sample")
    if options.output:
        draw(numbers, memory, float(slope), float(start), options.output)


def draw(numbers: np.ndarray, memory: np.ndarray, slope: float, start: float, path: Path) -> None:  # type: ignore[type-arg]
    """Draw memory over samples."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(numbers, memory, lw=1, label="resident memory")
    axes.plot(numbers, start + slope * numbers, "--", lw=1, label=f"{1e3 * slope:.2f} kB a sample")
    axes.set(xlabel="samples", ylabel="MB", ylim=(0, None), title="Calibrating MobileNetV2 with histograms")
    axes.legend(loc="lower right")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
