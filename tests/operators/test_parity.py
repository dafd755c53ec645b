"""The same nodes, names and bytes as onnxruntime.quantization wherever that has a valid result.

Each deviation stands in a list below with its reason; whatever is not listed must agree to the last byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.operators import (
    test_clipping,
    test_conv,
    test_conv_transpose,
    test_gather,
    test_gemm,
    test_matmul,
    test_movement,
    test_normalization,
    test_on_request,
    test_pad,
    test_pointwise,
    test_resize,
    test_selection,
    test_softmax,
)
from tests.operators.harness import Case, Scheme, each, quantized
from tests.operators.peer import differences, peer_model

_FILES = (
    test_clipping, test_conv, test_conv_transpose, test_gather, test_gemm, test_matmul, test_movement,
    test_normalization, test_on_request, test_pad, test_pointwise, test_resize, test_selection, test_softmax,
)  # fmt: skip
CASES = tuple(case for file in _FILES for case in file.CASES)

Differences = dict[str, list[str]]


def _per_channel(scheme: Scheme) -> bool:
    return scheme.per_channel


def _asymmetric(scheme: Scheme) -> bool:
    return not scheme.activation.symmetric


def _always(_: Scheme) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Where we differ from onnxruntime.quantization, how, and why; `+` is ours alone, `-` the peer's alone."""

    cases: tuple[str, ...]
    found: Differences
    because: str
    when: Callable[[Scheme], bool] = _always


DEVIATIONS = (
    Deviation(
        cases=("gemm-beta", "gemm-negative-alpha", "gemm-zero-alpha", "gemm-zero-beta"),
        found={
            "operators": ["DequantizeLinear 3 4"],
            "nodes": ["-b_DequantizeLinear"],
            "tensors": ["-b"],
            "initializers": ["+b", "-b_quantized", "-b_quantized_scale", "-b_quantized_zero_point"],
        },
        because="the peer drops beta, ignores alpha, and divides by a scale of 0; we keep both and the bias in float",
    ),
    Deviation(
        cases=("gemm-alpha",),
        found={"bytes": ["b_quantized", "b_quantized_scale"]},
        because="QGemm adds the bias on the scale alpha * scale_x * scale_w; the peer leaves alpha out",
    ),
    Deviation(
        cases=("matmul-left", "matmul-stack"),
        found={"bytes": ["w_quantized", "w_scale", "w_zero_point"]},
        because="the peer puts channels on axis 1, where sums run over them: no integer kernel can apply these scales",
        when=_per_channel,
    ),
    Deviation(
        cases=("matmul-two-constants",),
        found={"bytes": ["t_quantized", "t_scale", "t_zero_point"]},
        because="the peer takes a bit from a constant that is added (the product of both) as from a weight",
        when=lambda scheme: scheme.weight.reduce_range,
    ),
    Deviation(
        cases=("clip-above-zero", "clip-below-zero"),
        found={
            "operators": ["Clip 1 0", "DequantizeLinear 4 3", "QuantizeLinear 3 2"],
            "nodes": ["+Clip_1", "+t_DequantizeLinear", "+t_QuantizeLinear"],
            "tensors": ["+t", "+t_DequantizeLinear_Output", "+t_QuantizeLinear_Output"],
            "initializers": ["+hi", "+lo", "+t_scale", "+t_zero_point"],
        },
        because="the peer removes a Clip although a grid that contains 0 does not saturate at its bounds",
        when=_asymmetric,
    ),
    Deviation(
        cases=("clip-computed",),
        found={
            "operators": ["Clip 1 0"],
            "nodes": [
                "+Clip_1", "+t_DequantizeLinear", "+t_QuantizeLinear", "-y_DequantizeLinear", "-y_QuantizeLinear",
            ],
            "tensors": [
                "+t", "+t_DequantizeLinear_Output", "+t_QuantizeLinear_Output",
                "-y_QuantizeLinear_Input", "-y_QuantizeLinear_Output",
            ],
            "initializers": ["+t_scale", "+t_zero_point", "-y_scale", "-y_zero_point"],
        },
        because="the peer removes a Clip whose bounds it does not know",
        when=_asymmetric,
    ),
    Deviation(
        cases=("clip-computed",),
        found={
            "operators": ["DequantizeLinear 3 4", "QuantizeLinear 2 3"],
            "nodes": ["-y_DequantizeLinear", "-y_QuantizeLinear"],
            "tensors": ["-y_QuantizeLinear_Input", "-y_QuantizeLinear_Output"],
            "initializers": ["-y_scale", "-y_zero_point"],
        },
        because="what a float node makes is rounded for quantized readers only",
        when=lambda scheme: scheme.activation.symmetric,
    ),
    Deviation(
        cases=("pad-zero", "pad-3", "pad-minus-3"),
        found={
            "operators": ["DequantizeLinear 3 4"],
            "nodes": ["-v_DequantizeLinear"],
            "tensors": ["-v_DequantizeLinear_Output"],
            "initializers": ["+v", "-v_quantized", "-v_scale", "-v_zero_point"],
        },
        because="a single number gains nothing from a grid of its own",
    ),
    Deviation(
        cases=("pad-computed",),
        found={
            "operators": ["DequantizeLinear 3 4", "QuantizeLinear 3 4"],
            "nodes": ["-v_DequantizeLinear", "-v_QuantizeLinear"],
            "tensors": ["-v_DequantizeLinear_Output", "-v_QuantizeLinear_Output"],
            "initializers": ["-v_scale", "-v_zero_point"],
        },
        because="as pad-zero",
    ),
    Deviation(
        cases=("resize-cubic", "resize-crop"),
        found={"initializers": ["+y_scale", "+y_zero_point"]},
        because="these leave the input's range, where the grid that the peer shares would cut them off",
    ),
    Deviation(
        cases=("reducemax", "reducemin"),
        found={"initializers": ["-y_scale", "-y_zero_point"]},
        because="an extreme is a value of the input, on whose grid it lies; the peer rounds it once more, onto another",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where onnxruntime.quantization raises instead of answering."""

    cases: tuple[str, ...]
    errors: tuple[type[Exception], ...]
    when: Callable[[Scheme], bool]


def _per_channel_int8(scheme: Scheme) -> bool:
    return scheme.per_channel and scheme.weight.dtype.bits > 4 and scheme.weight.dtype.signed


FAILURES = (
    Failure(cases=("conv-transpose-groups",), errors=(ValueError,), when=_per_channel),
    Failure(cases=("gemm-bias-1-by-n", "gemm-bias-m-by-n"), errors=(ValueError,), when=_per_channel_int8),
    Failure(
        cases=("gemm-bias-m-by-1", "gemm-bias-scalar", "gemm-bias-1"),
        errors=(ValueError, IndexError),
        when=_per_channel,
    ),
)


def _expected(case: Case, scheme: Scheme) -> Differences:
    deviation = next((d for d in DEVIATIONS if case.name in d.cases and d.when(scheme)), None)
    return {} if deviation is None else deviation.found


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # the peer, where alpha is 0
@each(*CASES)
def test_same_as_onnxruntime_quantization(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    failure = next((f for f in FAILURES if case.name in f.cases and f.when(scheme)), None)
    if failure is not None:
        with pytest.raises(failure.errors):
            peer_model(result.prepared.model, scheme, case.batches(), case.op_types)
        return
    peer = peer_model(result.prepared.model, scheme, case.batches(), case.op_types)
    assert differences(result.model, peer) == _expected(case, scheme)


def test_every_deviation_names_a_case() -> None:
    names = {case.name for case in CASES}
    assert {name for entry in (*DEVIATIONS, *FAILURES) for name in entry.cases} <= names
