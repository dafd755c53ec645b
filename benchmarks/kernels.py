"""What the kernels are meant to reach and what they reach here, in one table of Markdown.

    python -m benchmarks.kernels [--largest 64e6] [--seconds 3]

Answers are compared before anything is timed. The two sides of a row take turns on one thread, in processor time, to
which other work on the machine adds nothing but its share of caches and memory; packing alone runs on all cores and is
timed by the clock. The ratio is the median over the turns, with the first and the third quartile in parentheses.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

from benchmarks.calibration import environment
from quantlab import kernels
from tests.kernels.block_models import block_runner, native_pack
from tests.kernels.kernel_cases import bits
from tests.kernels.linear_models import runner

Array = NDArray[Any]
Call = Callable[[], Any]
BINS, LEVELS, QMIN, QMAX = 2048, 128, -128, 127
HEADS = ("kernel", "data", "beside", "ms", "beside, ms", "beside / kernel", "goal")


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One row.

    Attributes:
        kernel: What is called.
        data: On what.
        beside: What it is compared with.
        ours: The call.
        theirs: The other call.
        goal: How many times longer the other one is meant to take, at least; None where nothing was aimed at.
        same: Whether both give the same bits; otherwise the row's maker has compared them, or they are no twins.
        clock: What tells the time, in seconds.
    """

    kernel: str
    data: str
    beside: str
    ours: Call
    theirs: Call
    goal: float | None = None
    same: bool = True
    clock: Callable[[], float] = time.thread_time


def by_numpy(x: Array, lo: float, hi: float) -> Array:
    """Counts of equal bins."""
    return np.histogram(x, BINS, range=(lo, hi))[0]


def histograms(size: int, goals: tuple[float, float]) -> Iterator[Promise]:
    """Lattice bins, and equal bins between the ends, of normal data and of data that is half zeros.

    Args:
        size: How many float32 numbers.
        goals: For the lattice and for equal bins.
    """
    normal = np.random.default_rng(0).standard_normal(size, np.float32)
    for name, x in (("normal", normal), ("half zeros", np.maximum(normal, 0))):
        ends = float(x.min()), float(x.max())
        lattice = partial(kernels.lattice_histogram, x, -7, -BINS // 2, BINS)
        equal = partial(kernels.histogram, x, *ends, BINS)
        rows = (
            ("lattice_histogram", lattice, partial(by_numpy, x, -8.0, 8.0), goals[0]),
            ("histogram", equal, partial(by_numpy, x, *ends), goals[1]),
        )
        for kernel, ours, theirs, goal in rows:
            data = f"{size:,} {name}, {BINS} bins"
            yield Promise(kernel=kernel, data=data, beside="np.histogram", ours=ours, theirs=theirs, goal=goal)


def affine(size: int) -> Iterator[Promise]:
    """Fake-quantization beside the copy of the same array, and quantization beside onnxruntime."""
    x = np.random.default_rng(0).standard_normal((1000, size // 1000), np.float32)
    out, data, grid = np.zeros_like(x), f"{size:,} normal", (np.float32(0.03), 3, QMIN, QMAX)
    scale, zero = np.linspace(0.01, 0.1, 1000, dtype=np.float32), np.arange(1000) % 7
    calls: tuple[tuple[str, Call, Call, float | None], ...] = (
        ("fake_quant(out=)", partial(kernels.fake_quant, x, *grid, out=out), partial(np.copyto, out, x), 1 / 1.1),
        (
            "fake_quant_axis(out=)",
            partial(kernels.fake_quant_axis, x, scale, zero, 0, QMIN, QMAX, out=out),
            partial(np.copyto, out, x),
            1 / 1.4,
        ),
        ("fake_quant", partial(kernels.fake_quant, x, *grid), x.copy, None),
    )
    for kernel, ours, theirs, goal in calls:
        beside = "x.copy()" if theirs == x.copy else "np.copyto"
        yield Promise(kernel=kernel, data=data, beside=beside, ours=ours, theirs=theirs, goal=goal, same=False)
    yield Promise(
        kernel="quantize(out=) to int8",
        data=data,
        beside="onnxruntime",
        ours=partial(kernels.quantize, x, *grid, np.int8, out=np.zeros(x.shape, np.int8)),
        theirs=partial(runner("q", "int8", *grid[:2]), x),
        goal=1 / 1.1,
    )


def sweeps() -> Iterator[Promise]:
    """Clip thresholds of histograms of |x|."""
    values = np.random.default_rng(0).standard_normal(1_000_000)
    for bins, times in ((2048, 150.0), (8192, 800.0)):
        ends = float(np.abs(values).max())
        counts, edges = np.histogram(values, bins, range=(-ends, ends))
        collector = HistogramCollector("entropy", True, bins, LEVELS, 99.99, None)
        seen = (counts, edges, float(values.min()), float(values.max()), ends)
        yield Promise(
            kernel="kl_divergences",
            data=f"{bins} bins",
            beside="get_entropy_threshold of onnxruntime",
            ours=partial(kernels.kl_divergences, np.histogram(np.abs(values), bins)[0], LEVELS),
            theirs=partial(collector.get_entropy_threshold, seen, LEVELS),
            goal=times,
            same=False,  # it tries thresholds of its own, half as many on bins of both signs
        )
    for bins, times in ((2048, None), (8192, 50.0)):
        share = np.histogram(np.abs(values), bins)[0].astype(np.float64)
        yield from (curve(share, levels, times) for levels in (16, 128, 256))


def curve(share: Array, levels: int, goal: float | None) -> Promise:
    """Every bin edge as a threshold, beside one fake-quantization of the middles for each."""
    x: Array = np.arange(0.5, share.size)
    step = np.arange(1.0, share.size + 1) / (levels - 1)
    first = np.zeros(share.size)

    def one_by_one() -> Array:
        return np.array([share @ (np.clip(np.rint(x / s), 0, levels - 1) * s - x) ** 2 for s in step])

    # The two sum in different orders.
    error = np.abs(one_by_one() - kernels.mse_curve(x, share, step, first, levels)).max()
    if not error <= 1e-12 * float(share @ x**2):
        raise ValueError(f"mse_curve is off by {error}")
    return Promise(
        kernel=f"mse_curve, {levels} levels",
        data=f"{share.size} bins",
        beside="a fake-quant a threshold",
        ours=lambda: kernels.mse_curve(x, share, step, first, levels),
        theirs=one_by_one,
        goal=goal,
        same=False,
    )


def blocks(size: int, axis: int) -> Iterator[Promise]:
    """A matrix (1024, 1024) in blocks, beside onnxruntime's operators."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1024, 1024), np.float32)
    count = [1024, 1024]
    count[axis] //= size
    scale, zero = rng.uniform(0.01, 0.1, count).astype(np.float32), rng.integers(-20, 20, count)
    rest = (scale, zero, axis, size)
    q = kernels.quantize_block(x, *rest, QMIN, QMAX, np.int8)
    calls: tuple[tuple[str, str, Array, Call], ...] = (
        ("quantize_block", "q", x, partial(kernels.quantize_block, x, *rest, QMIN, QMAX, np.int8)),
        ("dequantize_block", "dq", q, partial(kernels.dequantize_block, q, *rest)),
        ("fake_quant_block", "qdq", x, partial(kernels.fake_quant_block, x, *rest, QMIN, QMAX)),
    )
    for kernel, ops, given, ours in calls:
        theirs = partial(block_runner(ops, "int8", *rest), given)
        data = f"1024 x 1024, blocks of {size} on axis {axis}"
        yield Promise(kernel=kernel, data=data, beside="onnxruntime", ours=ours, theirs=theirs)


def packing() -> Promise:
    """Weights for MatMulNBits, on all cores on both sides."""
    weight = np.random.default_rng(0).standard_normal((4096, 4096), np.float32)
    return Promise(
        kernel="quantize_pack_4bit",
        data="4096 x 4096, blocks of 32",
        beside="onnxruntime, all cores",
        ours=lambda: tuple(kernels.quantize_pack_4bit(weight, 32, symmetric=False)),
        theirs=lambda: tuple(native_pack(weight, 32, False, pad=False)),
        goal=7.0,
        clock=time.perf_counter,
    )


def promises(largest: int) -> Iterator[Promise]:
    """Make the rows one by one, so that their arrays are freed in between."""
    yield from histograms(1_000_000, (20.0, 8.0))
    yield from histograms(largest, (12.0, 8.0))
    yield from affine(largest)
    yield from sweeps()
    for size in (16, 32, 128):
        yield from blocks(size, 1)
    yield from blocks(32, 0)
    yield packing()


def timed(call: Call, clock: Callable[[], float]) -> float:
    """Return the seconds of one call."""
    start = clock()
    call()
    return clock() - start


def measured(promise: Promise, seconds: float) -> str:
    """Measure a row for about so many seconds, and for five turns at least."""
    ours, theirs = promise.ours(), promise.theirs()
    if promise.same and bits(ours)[-1] != bits(theirs)[-1]:
        raise ValueError(f"{promise.kernel} and {promise.beside} differ on {promise.data}")
    del ours, theirs
    turns: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(turns) < 5 or time.perf_counter() < end:
        turns.append((timed(promise.ours, promise.clock), timed(promise.theirs, promise.clock)))
    own, other = np.median(turns, axis=0) * 1e3
    low, ratio, high = np.percentile([there / here for here, there in turns], [25, 50, 75])
    goal = "" if promise.goal is None else f"{promise.goal:.3g} {'met' if ratio >= promise.goal else 'missed'}"
    cells = (promise.kernel, promise.data, promise.beside, f"{own:.3g}", f"{other:.3g}")
    return " | ".join([*cells, f"{ratio:.3g} ({low:.3g}-{high:.3g})", goal])


FIRST_USE = """
import sys, time
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import numpy as np
from quantlab import kernels
kernels.fake_quant(np.zeros(100_000, np.float32), 0.1, 0, -128, 127)
print(time.process_time())
"""


def first_use(*missing: str) -> float:
    """Return the median processor seconds of a fresh process from its start to the first result of a twin.

    The first of the processes leaves machine code in the cache and does not count.

    Args:
        missing: Modules that are to look as if they were not installed.
    """
    command = [sys.executable, "-c", FIRST_USE, *missing]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(12)]
    return float(np.median([float(text) for text in runs[1:]]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--largest", type=float, default=64e6, help="elements of the largest arrays")
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a row is measured")
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else list(arguments)
    print(f"- Command: `{' '.join(['python -m benchmarks.kernels', *given])}`\n{environment()}")
    print(f"| {' | '.join(HEADS)} |\n|---|---|---|{'---:|' * (len(HEADS) - 3)}", flush=True)
    with kernels.using("numba"):
        for promise in promises(int(options.largest)):
            print(f"| {measured(promise, options.seconds)} |", flush=True)
    print(
        "\nFirst use in a fresh process, imports and warm cache included (goal 0.5 s): "
        f"{first_use('scipy'):.2f} s where SciPy is not installed, {first_use():.2f} s where it is."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
