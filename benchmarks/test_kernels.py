"""Every kernel beside the NumPy expression and the onnxruntime model for the same answer, all on one thread.

The answers are compared bit for bit before anything is timed. `copy` is `x.copy()`: what writing the result costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization.calibrate import HistogramCollector
from pytest_benchmark.fixture import BenchmarkFixture

from quantlab_kernels import compiled, reference
from quantlab_kernels.reference import MinMaxLattice
from tests.kernels.kernel_cases import bits
from tests.kernels.linear_models import runner

Array = NDArray[Any]
PEERS = pytest.mark.parametrize("peer", ["numpy", "onnxruntime", "numba"])
PEERS_AND_COPY = pytest.mark.parametrize("peer", ["copy", "numpy", "onnxruntime", "numba"])
WITHOUT_MODEL = pytest.mark.parametrize("peer", ["numpy", "numba"])
SCALE, ZERO, QMIN, QMAX, BINS, LEVELS = np.float32(0.03), 3, -128, 127, 2048, 128


def compare(benchmark: BenchmarkFixture, kernel: str, x: Array, calls: dict[str, Callable[[], Any]], want: Any) -> None:
    """Time the call of one peer, named last in the test's parameters, after checking what it answers."""
    peer = benchmark.params["peer"]
    call = calls[peer]
    assert bits(call()) == bits(x.copy() if peer == "copy" else want)
    benchmark.group = f"{kernel}, {x.size:.0e} elements"
    benchmark.extra_info["kernel"], benchmark.extra_info["size"] = kernel, x.size
    benchmark(call)


def extremes() -> Callable[[Array], Any]:
    """ReduceMin and ReduceMax over everything."""
    nodes = [helper.make_node(f"Reduce{kind}", ["x"], [kind], keepdims=0) for kind in ("Min", "Max")]
    outputs = [helper.make_tensor_value_info(kind, TensorProto.FLOAT, []) for kind in ("Min", "Max")]
    graph = helper.make_graph(nodes, "extremes", [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: tuple(session.run(None, {"x": x}))


def channels(x: Array) -> tuple[Array, Array]:
    """One scale and zero point for each entry of axis 1."""
    rng = np.random.default_rng(1)
    return rng.uniform(0.01, 0.1, x.shape[1]).astype(np.float32), rng.integers(-20, 20, x.shape[1])


@PEERS
def test_min_max(benchmark: BenchmarkFixture, activations: Array, peer: str) -> None:
    x, model = activations, extremes()
    calls = {
        "numpy": lambda: (x.min(), x.max()),
        "onnxruntime": lambda: model(x),
        "numba": lambda: tuple(compiled.min_max(x))[:2],
    }
    compare(benchmark, "min_max", x, calls, reference.min_max(x)[:2])


@WITHOUT_MODEL
def test_min_max_axis(benchmark: BenchmarkFixture, activations: Array, peer: str) -> None:
    x = activations
    calls = {
        "numpy": lambda: (x.min(axis=(0, 2)), x.max(axis=(0, 2))),
        "numba": lambda: tuple(compiled.min_max_axis(x, 1))[:2],
    }
    compare(benchmark, "min_max_axis", x, calls, reference.min_max_axis(x, 1)[:2])


@WITHOUT_MODEL
@pytest.mark.parametrize("data", ["normal", "relu"])
def test_histogram(benchmark: BenchmarkFixture, activations: Array, data: str, peer: str) -> None:
    x = np.maximum(activations, 0) if data == "relu" else activations
    lo, hi = float(x.min()), float(x.max())
    calls = {
        "numpy": lambda: np.histogram(x, BINS, range=(lo, hi))[0],
        "numba": lambda: compiled.histogram(x, lo, hi, BINS),
    }
    compare(benchmark, f"histogram of {data}", x, calls, reference.histogram(x, lo, hi, BINS))


@WITHOUT_MODEL
@pytest.mark.parametrize("data", ["normal", "relu"])
def test_lattice_histogram(benchmark: BenchmarkFixture, activations: Array, data: str, peer: str) -> None:
    x = np.maximum(activations, 0) if data == "relu" else activations
    calls = {
        "numpy": lambda: np.histogram(x, BINS, range=(-8.0, 8.0))[0],
        "numba": lambda: compiled.lattice_histogram(x, -7, -BINS // 2, BINS),
    }
    compare(benchmark, f"lattice_histogram of {data}", x, calls, reference.lattice_histogram(x, -7, -BINS // 2, BINS))


@pytest.mark.parametrize("data", ["normal", "relu"])
@pytest.mark.parametrize("size", [1_000, 10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("peer", ["numpy", "two passes", "numba"])
def test_min_max_lattice(benchmark: BenchmarkFixture, size: int, data: str, peer: str) -> None:
    x = np.random.default_rng(0).standard_normal(size, np.float32)
    x = np.maximum(x, 0) if data == "relu" else x
    lattice = (-7, -BINS // 2, BINS)
    calls = {
        "numpy": lambda: (x.min(), x.max(), np.histogram(x, BINS, range=(-8.0, 8.0))[0]),
        "two passes": lambda: (*compiled.min_max(x)[:2], compiled.lattice_histogram(x, *lattice)),
        "numba": lambda: flat(compiled.min_max_lattice(x, *lattice)),
    }
    compare(benchmark, f"min_max_lattice of {data}", x, calls, flat(reference.min_max_lattice(x, *lattice)))


def flat(found: MinMaxLattice) -> tuple[Any, ...]:
    """Both ends and the counts."""
    return found.ends.lo, found.ends.hi, found.counts


@pytest.mark.parametrize("bins", [2048, 8192])
@pytest.mark.parametrize("peer", ["onnxruntime", "numpy", "numba"])
def test_kl_divergences(benchmark: BenchmarkFixture, bins: int, peer: str) -> None:
    """The peer onnxruntime has thresholds of its own, half as many on bins of both signs: its time alone counts."""
    values = np.random.default_rng(0).standard_normal(1_000_000)
    if peer == "onnxruntime":
        ends = float(np.abs(values).max())
        counts, edges = np.histogram(values, bins, range=(-ends, ends))
        collector = HistogramCollector("entropy", True, bins, LEVELS, 99.99, None)
        seen = (counts, edges, float(values.min()), float(values.max()), ends)
        benchmark.group = f"kl_divergences, {bins:.0e} elements"
        benchmark.pedantic(collector.get_entropy_threshold, args=(seen, LEVELS), rounds=1)  # type: ignore[no-untyped-call]
        return
    counts = np.histogram(np.abs(values), bins)[0]
    calls = {
        "numpy": lambda: reference.kl_divergences(counts, LEVELS),
        "numba": lambda: compiled.kl_divergences(counts, LEVELS),
    }
    compare(benchmark, "kl_divergences", counts, calls, reference.kl_divergences(counts, LEVELS))


@pytest.mark.parametrize("levels", [16, 128, 256])
@pytest.mark.parametrize("bins", [2048, 8192])
@pytest.mark.parametrize("peer", ["one by one", "numpy", "numba"])
def test_mse_curve(benchmark: BenchmarkFixture, bins: int, levels: int, peer: str) -> None:
    """Every bin edge is tried as a threshold of |x|; `one by one` fake-quantizes the middles for each."""
    share = np.histogram(np.abs(np.random.default_rng(0).standard_normal(1_000_000)), bins)[0].astype(np.float64)
    x: NDArray[np.float64] = np.arange(0.5, bins)
    step: NDArray[np.float64] = np.arange(1.0, bins + 1) / (levels - 1)
    first, name = np.zeros(bins), f"mse_curve, {levels} levels"
    want = reference.mse_curve(x, share, step, first, levels)

    def one_by_one() -> Array:
        errors = [share @ (np.clip(np.rint(x / s), 0, levels - 1) * s - x) ** 2 for s in step]
        return np.array(errors)

    if peer == "one by one":
        # Rounding differs: the two sum in different orders.
        np.testing.assert_allclose(one_by_one(), want, rtol=0, atol=1e-12 * float(share @ x**2))
        benchmark.group = f"{name}, {bins:.0e} elements"
        benchmark.pedantic(one_by_one, rounds=3)  # type: ignore[no-untyped-call]
        return
    calls = {
        "numpy": lambda: reference.mse_curve(x, share, step, first, levels),
        "numba": lambda: compiled.mse_curve(x, share, step, first, levels),
    }
    compare(benchmark, name, x, calls, want)


@PEERS_AND_COPY
def test_fake_quant(benchmark: BenchmarkFixture, activations: Array, peer: str) -> None:
    x, model, zero = activations, runner("qdq", "int8", SCALE, ZERO), np.float32(ZERO)
    calls = {
        "copy": x.copy,
        "numpy": lambda: (np.clip(np.rint(x / SCALE) + zero, QMIN, QMAX) - zero) * SCALE,
        "onnxruntime": lambda: model(x),
        "numba": lambda: compiled.fake_quant(x, SCALE, ZERO, QMIN, QMAX),
    }
    compare(benchmark, "fake_quant", x, calls, reference.fake_quant(x, SCALE, ZERO, QMIN, QMAX))


@PEERS_AND_COPY
def test_fake_quant_axis(benchmark: BenchmarkFixture, activations: Array, peer: str) -> None:
    x = activations
    scale, zero = channels(x)
    model = runner("qdq", "int8", scale, zero, axis=1)
    step, offset = scale[:, None], zero[:, None].astype(np.float32)
    calls = {
        "copy": x.copy,
        "numpy": lambda: (np.clip(np.rint(x / step) + offset, QMIN, QMAX) - offset) * step,
        "onnxruntime": lambda: model(x),
        "numba": lambda: compiled.fake_quant_axis(x, scale, zero, 1, QMIN, QMAX),
    }
    compare(benchmark, "fake_quant_axis", x, calls, reference.fake_quant_axis(x, scale, zero, 1, QMIN, QMAX))


@PEERS
def test_quantize(benchmark: BenchmarkFixture, activations: Array, peer: str) -> None:
    x, model, zero = activations, runner("q", "int8", SCALE, ZERO), np.float32(ZERO)
    calls = {
        "numpy": lambda: np.clip(np.rint(x / SCALE) + zero, QMIN, QMAX).astype(np.int8),
        "onnxruntime": lambda: model(x),
        "numba": lambda: compiled.quantize(x, SCALE, ZERO, QMIN, QMAX, np.int8),
    }
    compare(benchmark, "quantize to int8", x, calls, reference.quantize(x, SCALE, ZERO, QMIN, QMAX, np.int8))


@PEERS
def test_quantize_axis(benchmark: BenchmarkFixture, activations: Array, peer: str) -> None:
    x = activations
    scale, zero = channels(x)
    model = runner("q", "int8", scale, zero, axis=1)
    step, offset = scale[:, None], zero[:, None].astype(np.float32)
    calls = {
        "numpy": lambda: np.clip(np.rint(x / step) + offset, QMIN, QMAX).astype(np.int8),
        "onnxruntime": lambda: model(x),
        "numba": lambda: compiled.quantize_axis(x, scale, zero, 1, QMIN, QMAX, np.int8),
    }
    compare(benchmark, "quantize_axis", x, calls, reference.quantize_axis(x, scale, zero, 1, QMIN, QMAX, np.int8))


@PEERS
def test_dequantize(benchmark: BenchmarkFixture, activations: Array, peer: str) -> None:
    q = reference.quantize(activations, SCALE, ZERO, QMIN, QMAX, np.int8)
    model, zero = runner("dq", "int8", SCALE, ZERO), np.float32(ZERO)
    calls = {
        "numpy": lambda: (q.astype(np.float32) - zero) * SCALE,
        "onnxruntime": lambda: model(q),
        "numba": lambda: compiled.dequantize(q, SCALE, ZERO),
    }
    compare(benchmark, "dequantize", q, calls, reference.dequantize(q, SCALE, ZERO))


@PEERS
def test_dequantize_axis(benchmark: BenchmarkFixture, activations: Array, peer: str) -> None:
    scale, zero = channels(activations)
    q = reference.quantize_axis(activations, scale, zero, 1, QMIN, QMAX, np.int8)
    model = runner("dq", "int8", scale, zero, axis=1)
    step, offset = scale[:, None], zero[:, None].astype(np.float32)
    calls = {
        "numpy": lambda: (q.astype(np.float32) - offset) * step,
        "onnxruntime": lambda: model(q),
        "numba": lambda: compiled.dequantize_axis(q, scale, zero, 1),
    }
    compare(benchmark, "dequantize_axis", q, calls, reference.dequantize_axis(q, scale, zero, 1))
