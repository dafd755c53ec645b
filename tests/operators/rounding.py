"""Quantized models held against the oracle and their floor, on grids whose steps are even and on those of float8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np

from quantlab.arrays import QParams
from quantlab.plan import TensorPlan
from quantlab.workflow.quantize import QuantResult
from tests.operators.harness import FLOAT8, Array, Case, noise_floor, oracle, run, sqnr_db, walk


def _spread(grid: QParams, values: Array) -> Array:
    """Return the scale in a shape that broadcasts with the values."""
    axis, scale = grid.spec.axis, grid.scale.astype(np.float64)
    if axis is None:
        return scale
    if grid.spec.block_size is None:
        return scale.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    return np.repeat(scale, grid.spec.block_size, axis)[tuple(map(slice, values.shape))]


def step_at(tensor: TensorPlan | None, values: Array) -> Array:
    """Return how far apart two neighbours of a tensor's grid are at each value; 0 where it has no grid."""
    if tensor is None or tensor.qparams is None:
        return np.zeros(())
    scale = _spread(tensor.qparams, values)
    if not tensor.spec.dtype.is_float:
        return scale
    info = ml_dtypes.finfo(FLOAT8[tensor.spec.dtype.onnx_code])
    exponent = np.floor(np.log2(np.maximum(np.abs(values) / scale, float(info.smallest_normal))))
    return np.asarray(scale * 2.0 ** (exponent - info.nmant))


def floor_of_bits(result: QuantResult, batches: Sequence[Mapping[str, Array]]) -> dict[str, float]:
    """Return the least SQNR in dB of each output.

    On grids of integers it follows from bit widths and data alone, see `noise_floor`. The steps of float8 are as wide
    as the number is large: there, noise even over the step at each value is put on every tensor, and at worst the error
    is three times as strong. Nothing is cut off, so that a grid that ends too early falls below.
    """
    if not any(tensor.spec.dtype.is_float for tensor in result.plan.tensors.values()):
        return noise_floor(result, batches)
    rng = np.random.default_rng(1)

    def disturb(_: str, tensor: TensorPlan, values: Array) -> Array:
        if tensor.role == "bias":
            return values
        return np.asarray(values + rng.uniform(-0.5, 0.5, values.shape) * step_at(tensor, values), values.dtype)

    exact = [walk(result.prepared, result.plan, feeds, lambda _, __, values: values) for feeds in batches]
    noisy = [walk(result.prepared, result.plan, feeds, disturb) for feeds in batches]
    return {name: sqnr_db(exact, noisy, name) - 10 * np.log10(3) for name in exact[0]}


def samples_for(case: Case) -> int:
    """Return how many samples make a floor: it is a mean, about which few numbers scatter."""
    values = min(value.size for value in run(case.model(), case.batches(1)[0]).values())
    return max(2, min(16, -(-64 // values)))


def keeps_to_its_bits(case: Case, result: QuantResult, batches: Sequence[Mapping[str, Array]], what: str) -> None:
    """Assert that a model equals the float model with rounded tensors to a step of each output, and keeps its floor.

    Args:
        case: The float model.
        result: The quantized one.
        batches: Samples.
        what: How it was quantized, for the texts.
    """
    exact = [run(case.model(), feeds) for feeds in batches]
    found = [run(result.model, feeds) for feeds in batches]
    for got, feeds in zip(found, batches, strict=True):
        for name, want in oracle(result, feeds).items():
            step = step_at(result.plan.tensors.get(name), want)
            slack = step + 2 * np.finfo(np.float32).eps * np.abs(want) if step.any() else 1e-5 * np.abs(want).max()
            error = np.abs(got[name].astype(np.float64) - want)
            assert (error <= slack).all(), f"{what}: {name!r} is off by {error.max():g}, a step is {step.max():g}"
    for name, floor in floor_of_bits(result, batches).items():
        if exact[0][name].dtype.kind != "f":  # places, not values: the oracle has said whether they are right
            continue
        has = sqnr_db(exact, found, name)
        assert has >= floor, f"{what}: {name!r} has {has:.1f} dB, its bits give {floor:.1f}"
