"""Blocked kernels beside their NumPy definitions and onnxruntime; answers are compared bit for bit before any timing.

Packing runs on all cores, as onnxruntime's C++ does; the others run on one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from quantlab_kernels import compiled, reference
from tests.kernels.block_models import block_runner, native_pack
from tests.kernels.kernel_cases import bits

Array = NDArray[Any]
PEERS = pytest.mark.parametrize("peer", ["numpy", "onnxruntime", "numba"])
BLOCK, QMIN, QMAX = 32, -128, 127
SHAPES = {"256x256": (256, 256), "768x3072": (768, 3072), "4096x4096": (4096, 4096)}


def time(benchmark: BenchmarkFixture, group: str, call: Callable[[], Any], want: Any) -> None:
    """Time one peer after checking what it answers."""
    assert bits(call()) == bits(want)
    benchmark.group = group
    benchmark(call)


@PEERS
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("size", [16, 32, 128, 256])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pack(benchmark: BenchmarkFixture, shape: str, dtype: str, size: int, symmetric: bool, peer: str) -> None:
    """The peer is given zeroed arrays to fill, as its own quantizer does, and no copy of the weight is timed."""
    weight = np.random.default_rng(0).standard_normal(SHAPES[shape], np.float32).astype(dtype)
    calls = {
        "numpy": lambda: tuple(reference.quantize_pack_4bit(weight, size, symmetric)),
        "onnxruntime": lambda: tuple(native_pack(weight, size, symmetric, pad=False)),
        "numba": lambda: tuple(compiled.quantize_pack_4bit(weight, size, symmetric)),
    }
    kept = 2 if symmetric else 3
    assert bits(calls[peer]()[:kept]) == bits(native_pack(weight, size, symmetric)[:kept])
    benchmark.group = f"quantize_pack_4bit, {shape} {dtype}, blocks of {size}, {'' if symmetric else 'a'}symmetric"
    benchmark(calls[peer])


def blocks(axis: int) -> tuple[Array, Array, Array]:
    """Normal values of shape (1024, 1024) with a scale and zero point for each block."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1024, 1024), np.float32)
    count = [1024, 1024]
    count[axis] //= BLOCK
    return x, rng.uniform(0.01, 0.1, count).astype(np.float32), rng.integers(-20, 20, count)


@PEERS
@pytest.mark.parametrize("axis", [0, 1])
def test_quantize_block(benchmark: BenchmarkFixture, axis: int, peer: str) -> None:
    x, scale, zero = blocks(axis)
    model = block_runner("q", "int8", scale, zero, axis, BLOCK)
    rest = (scale, zero, axis, BLOCK, QMIN, QMAX, np.int8)
    calls = {
        "numpy": lambda: reference.quantize_block(x, *rest),
        "onnxruntime": lambda: model(x),
        "numba": lambda: compiled.quantize_block(x, *rest),
    }
    time(benchmark, f"quantize_block, axis {axis}", calls[peer], reference.quantize_block(x, *rest))


@PEERS
@pytest.mark.parametrize("axis", [0, 1])
def test_fake_quant_block(benchmark: BenchmarkFixture, axis: int, peer: str) -> None:
    x, scale, zero = blocks(axis)
    model = block_runner("qdq", "int8", scale, zero, axis, BLOCK)
    rest = (scale, zero, axis, BLOCK, QMIN, QMAX)
    calls = {
        "numpy": lambda: reference.fake_quant_block(x, *rest),
        "onnxruntime": lambda: model(x),
        "numba": lambda: compiled.fake_quant_block(x, *rest),
    }
    time(benchmark, f"fake_quant_block, axis {axis}", calls[peer], reference.fake_quant_block(x, *rest))


@PEERS
@pytest.mark.parametrize("axis", [0, 1])
def test_dequantize_block(benchmark: BenchmarkFixture, axis: int, peer: str) -> None:
    x, scale, zero = blocks(axis)
    q = reference.quantize_block(x, scale, zero, axis, BLOCK, QMIN, QMAX, np.int8)
    model = block_runner("dq", "int8", scale, zero, axis, BLOCK)
    rest = (scale, zero, axis, BLOCK)
    calls = {
        "numpy": lambda: reference.dequantize_block(q, *rest),
        "onnxruntime": lambda: model(q),
        "numba": lambda: compiled.dequantize_block(q, *rest),
    }
    time(benchmark, f"dequantize_block, axis {axis}", calls[peer], reference.dequantize_block(q, *rest))
