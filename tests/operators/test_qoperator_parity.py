"""Format QOperator: the same nodes, names and bytes as onnxruntime.quantization wherever that has a valid result.

Each deviation stands in a list below with its reason, and a test shows that the peer's model is the worse one there;
whatever is not listed must agree to the last byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.quantization import QuantFormat

from quantlab import demo
from quantlab.graph.files import load
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import calibrate, decide, prepare_for, write
from tests.operators.harness import Case, Scheme, each, quantized, run, sqnr_db
from tests.operators.peer import differences, peer_model
from tests.operators.qoperator_cases import CASES, REDUCED, S8S8, SCHEMES, U8S8, U8U8, WHERE
from tests.operators.test_options_parity import edges

pytestmark = pytest.mark.filterwarnings("ignore:int8 activations in format QOperator")

Differences = dict[str, list[str]]


def _always(_: Scheme) -> bool:
    return True


def _per_channel(scheme: Scheme) -> bool:
    return scheme.per_channel


def _asymmetric(scheme: Scheme) -> bool:
    return not scheme.activation.symmetric


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Where we differ from onnxruntime.quantization, how, and why; `+` is ours alone, `-` the peer's alone."""

    cases: tuple[str, ...]
    found: Differences
    because: str
    when: Callable[[Scheme], bool] = _always
    refused: str = ""
    """What onnxruntime says of the peer's model, where it does not run it."""


_WEIGHT = ["w_quantized", "w_scale", "w_zero_point"]
_CLIP = {
    "operators": ["Clip 1 0"],
    "nodes": ["+Clip_1", "+t_DequantizeLinear", "-y_DequantizeLinear"],
    "tensors": ["+t"],
}
_FLOAT_PAD = {"nodes": ["+t_DequantizeLinear", "-y_DequantizeLinear"], "tensors": ["+t", "-y_quantized"]}

DEVIATIONS = (
    Deviation(
        cases=("gemm-alpha", "gemm-beta"),
        found={"bytes": ["b_quantized"]},
        because="QGemm adds the bias on the scale alpha * scale_x * scale_w; the peer leaves alpha out",
    ),
    Deviation(
        cases=("gemm-zero-beta",),
        found={"initializers": ["-b_quantized"]},
        because="the peer divides the bias by a scale of 0 and adds what that saturates to",
    ),
    Deviation(
        cases=("gemm-negative-alpha", "gemm-zero-alpha"),
        found={
            "operators": ["DequantizeLinear 0 1", "Gemm 1 0", "QGemm 0 1", "QuantizeLinear 0 1"],
            "nodes": ["+Gemm_0", "-Gemm_0_quant", "-x_QuantizeLinear", "-y_DequantizeLinear"],
            "tensors": ["-x_quantized", "-y_quantized"],
            "initializers": [
                "+b", "+w", "-b_quantized", "-w_quantized", "-w_scale", "-w_zero_point", "-x_scale", "-x_zero_point",
                "-y_scale", "-y_zero_point",
            ],
        },
        because="no positive scale is alpha * scale_x * scale_w, and the peer leaves alpha out",
    ),
    Deviation(
        cases=("gemm-computed-bias",),
        found={
            "operators": ["DequantizeLinear 0 1"],
            "nodes": ["-w_DequantizeLinear"],
            "tensors": ["-w"],
            "initializers": ["+w", "-w_quantized", "-w_scale", "-w_zero_point"],
        },
        because="the Gemm is computed in float all the same, and the peer has rounded its weight by then",
    ),
    Deviation(
        cases=("conv-wide-bias", "conv-many-wide-biases"),
        found={"bytes": ["b_quantized", "w_quantized", "w_scale"]},
        because="the bias does not fit into 32 bits, which the peer looks at for int8 weights only",
        when=lambda scheme: not scheme.weight.dtype.signed,
    ),
    Deviation(
        cases=("matmul-stack",),
        found={"bytes": _WEIGHT},
        because="the peer gives a stack of matrices one scale for each column of all, which the kernel does not take",
        when=_per_channel,
        refused="QLinearMatmul : weight zero point must be a scalar",
    ),
    Deviation(
        cases=("matmul-vector",),
        found={"bytes": _WEIGHT},
        because="the peer gives each element of a vector a scale, over which the sum runs",
        when=_per_channel,
        refused="QLinearMatmul : weight zero point must be a scalar",
    ),
    Deviation(
        cases=("clip-above-zero", "clip-below-zero"),
        found={**_CLIP, "initializers": ["+hi", "+lo"]},
        because="the peer removes a Clip although a grid that contains 0 does not saturate at its bounds",
        when=_asymmetric,
    ),
    Deviation(
        cases=("clip-computed",),
        found={**_CLIP, "bytes": ["t_scale", "t_zero_point"]},
        because="the peer removes a Clip whose bounds it does not know",
        when=_asymmetric,
    ),
    Deviation(
        cases=("relu-read-twice",),
        found={
            "operators": ["DequantizeLinear 2 1", "QuantizeLinear 2 1", "Relu 1 0"],
            "nodes": ["+Relu_1", "+t_DequantizeLinear", "+u_QuantizeLinear"],
            "tensors": ["+t", "+u", "+u_quantized"],
            "initializers": ["+u_scale", "+u_zero_point"],
        },
        because="the peer removes a Relu although the grid before it goes below 0 for another reader",
        when=_asymmetric,
    ),
    Deviation(
        cases=("relu-behind-pool",),
        found={
            "operators": ["Relu 1 0"],
            "nodes": ["+Relu_2", "+p_DequantizeLinear", "-y_DequantizeLinear"],
            "tensors": ["+p"],
        },
        because="the peer removes a Relu although the grid before it, that of the pool's input, goes below 0",
        when=_asymmetric,
    ),
    Deviation(
        cases=("relu-behind-output",),
        found={
            "operators": ["DequantizeLinear 1 2", "Relu 1 0"],
            "nodes": ["+Relu_1", "-y_DequantizeLinear"],
            "bytes": ["t_scale", "t_zero_point"],
        },
        because="the peer gives an output of the model the range of the Relu behind it",
        when=_asymmetric,
    ),
    Deviation(
        cases=("relu-behind-output",),
        found={"bytes": ["t_scale"]},
        because="as above",
        when=lambda scheme: scheme.activation.symmetric,
    ),
    Deviation(
        cases=("relu-clip",),
        found={
            "operators": ["Clip 1 0"],
            "nodes": ["+Clip_2", "+u_DequantizeLinear", "-y_DequantizeLinear"],
            "tensors": ["+u"],
            "initializers": ["+hi"],
            "bytes": ["t_scale"],
        },
        because="the peer removes a Clip behind a Relu, and keeps the grid of the Relu, which goes above its bound",
        when=_asymmetric,
    ),
    Deviation(
        cases=("pad-3", "pad-minus-3"),
        found={**_FLOAT_PAD, "initializers": ["+v", "-v_quantized"]},
        because="the peer pads with the nearest value of a grid of 0..1",
    ),
    Deviation(
        cases=("pad-computed",),
        found={
            "operators": ["QuantizeLinear 1 2"],
            "nodes": ["+t_DequantizeLinear", "-v_QuantizeLinear", "-y_DequantizeLinear"],
            "tensors": ["+t", "-v_quantized", "-y_quantized"],
        },
        because="as pad-3",
    ),
    Deviation(
        cases=("resize-crop",),
        found=_FLOAT_PAD,
        because="what lies outside is 5, and the peer's grid ends at 1",
    ),
    Deviation(
        cases=("resize-cubic",),
        found=_FLOAT_PAD,
        because="cubic interpolation leaves the input's range, and there is no such kernel",
        refused="Tensor type mismatch. T !=",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where onnxruntime.quantization raises instead of answering."""

    cases: tuple[str, ...]
    errors: tuple[type[Exception], ...]
    when: Callable[[Scheme], bool]


FAILURES = (
    Failure(
        cases=("gemm-bias-1-by-n", "gemm-bias-m-by-n"),
        errors=(ValueError,),
        when=lambda scheme: scheme.per_channel and scheme.weight.dtype.signed,
    ),
    Failure(
        cases=("gemm-bias-m-by-1", "gemm-bias-scalar", "gemm-bias-1"),
        errors=(ValueError, IndexError),
        when=_per_channel,
    ),
    # Unless it is forced, the peer leaves a Where with inputs that nobody makes any more.
    Failure(cases=("where-one", "where-mask"), errors=(RuntimeError,), when=_always),
)


def _deviation(case: Case, scheme: Scheme) -> Deviation | None:
    return next((d for d in DEVIATIONS if case.name in d.cases and d.when(scheme)), None)


def _peer(case: Case, scheme: Scheme, prepared: onnx.ModelProto) -> onnx.ModelProto:
    # Where is left alone, and its inputs undefined, unless that is forced.
    forced = (WHERE.name, "where-both", "where-same", "where-chain")
    extra = {"ForceQuantizeNoInputCheck": True} if case.name in forced else {}
    return peer_model(prepared, scheme, case.batches(), case.op_types, QuantFormat.QOperator, extra)


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # the peer, where alpha or beta is 0
@each(*CASES)
def test_same_as_onnxruntime_quantization(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    if failure := next((f for f in FAILURES if case.name in f.cases and f.when(scheme)), None):
        with pytest.raises(failure.errors):
            _peer(case, scheme, result.prepared.model)
        return
    peer, deviation = _peer(case, scheme, result.prepared.model), _deviation(case, scheme)
    assert differences(result.model, peer) == (deviation.found if deviation else {})
    if deviation is None:
        assert edges(result.model) == edges(peer)
        assert _attributes(result.model) == _attributes(peer)


def _attributes(model: onnx.ModelProto) -> dict[str, list[tuple[str, bytes]]]:
    """Return the attributes of every node, sorted."""
    return {
        node.name: sorted((attribute.name, attribute.SerializeToString()) for attribute in node.attribute)
        for node in model.graph.node
    }


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@each(*(replace(case, schemes=(U8U8, U8S8, S8S8, REDUCED)) for case in CASES))
def test_where_we_differ_the_peer_is_wrong(case: Case, scheme: Scheme) -> None:
    deviation = _deviation(case, scheme)
    if deviation is None:
        return
    result = quantized(case, scheme)
    peer = _peer(case, scheme, result.prepared.model)
    if deviation.refused:
        with pytest.raises(Fail, match=deviation.refused):
            run(peer, case.batches()[0])
        return
    exact = [run(case.model(), feeds) for feeds in case.batches()]
    ours, others = ([run(model, feeds) for feeds in case.batches()] for model in (result.model, peer))
    gain = max(sqnr_db(exact, ours, name) - sqnr_db(exact, others, name) for name in exact[0])
    assert gain > 3, f"only {gain:.1f} dB better"


def test_every_deviation_names_a_case() -> None:
    names = {case.name for case in CASES}
    assert {name for entry in (*DEVIATIONS, *FAILURES) for name in entry.cases} <= names


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_a_trained_network_has_the_same_bytes_and_outputs(scheme: Scheme) -> None:
    digits = demo.digits()
    data: list[dict[str, Any]] = [{"image": digits.train_images[index : index + 1]} for index in range(20)]
    recipe = scheme.recipe()
    prepared = prepare_for(load(demo.float_model()), recipe)
    plan = calibrate(prepared, decide(prepared, recipe), data, recipe, engine=Engine.like_onnxruntime())
    result = write(prepared, plan)
    peer = peer_model(prepared.model, scheme, data, None, QuantFormat.QOperator)
    assert differences(result.model, peer) == {}
    assert edges(result.model) == edges(peer)
    feeds = {"image": digits.test_images[:100]}
    for name, value in run(peer, feeds).items():
        np.testing.assert_array_equal(run(result.model, feeds)[name], value)
