"""Random graphs of supported operators: valid, runnable, the same twice, and independent of the order in the file."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quantlab.plan import QuantPlan
from quantlab.workflow.quantize import quantize
from tests.operators.harness import (
    INT8,
    INT8_CHANNELS,
    SYMMETRIC,
    UINT8_CHANNELS,
    Case,
    Scheme,
    normal,
    oracle,
    quantized,
    run,
)

SHAPE = (1, 4, 6, 6)
UNARY = (
    "Relu({0})", "Clip({0}, zero, six)", "Clip({0}, , six)", "Sigmoid({0})", "LeakyRelu({0})", "Erf({0})",
    "HardSwish({0})", "Softmax({0})", "Conv<pads=[1,1,1,1]>({0}, w, b)", "Conv({0}, v)", "Conv({0}, v, b)",
    "Transpose<perm=[0,1,3,2]>({0})", "MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>({0})",
    "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>({0})", "Reshape({0}, shape)", "MatMul({0}, m)", "Add({0}, b)",
    "Mul({0}, six)", "MatMul(m, {0})",
)  # fmt: skip
BINARY = ("Add({0}, {1})", "Mul({0}, {1})", "Sub({0}, {1})", "MatMul({0}, {1})", "Max({0}, {1})")
CONSTANTS = {
    "w": normal(4, 4, 3, 3) / np.float32(6),
    "v": normal(4, 4, 1, 1, seed=1) / np.float32(2),
    "b": normal(4, seed=2).reshape(4),
    "m": normal(6, 6, seed=3) / np.float32(6),
    "zero": np.asarray(0, np.float32),
    "six": np.asarray(6, np.float32),
    "shape": np.array(SHAPE, np.int64),
}
SCHEMES = (INT8, INT8_CHANNELS, UINT8_CHANNELS, SYMMETRIC)


@st.composite
def graphs(draw: st.DrawFn) -> Case:
    """Draw up to eight nodes, each of which reads what came before; up to two tensors are outputs."""
    made = ["x"]
    lines = []
    for index in range(draw(st.integers(1, 8))):
        calls = UNARY if len(made) == 1 else UNARY + BINARY
        call = draw(st.sampled_from(calls)).replace("Add({0}, b)", "Add({0}, bias)")
        inputs = [draw(st.sampled_from(made)) for _ in range(2)]
        lines.append(f"t{index} = {call.format(*inputs)}")
        made.append(f"t{index}")
    outputs = sorted({made[-1], draw(st.sampled_from(made[1:]))})
    wanted = ", ".join(f"float[1,4,6,6] {name}" for name in outputs)
    constants = {**CONSTANTS, "bias": CONSTANTS["b"].reshape(4, 1, 1)}
    text = f"g (float[1,4,6,6] x) => ({wanted}) {{ {' '.join(lines)} }}"
    return Case(name="random", text=text, feeds={"x": SHAPE}, constants=constants)


@settings(deadline=None, max_examples=60)
@given(graphs(), st.sampled_from(SCHEMES))
def test_quantized_graphs_are_valid_and_run(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    onnx.checker.check_model(result.model, full_check=True)
    for feeds in case.batches(2):
        wanted = oracle(result, feeds)
        # As written, each node does in onnxruntime what it does alone: rounding between them is all there is.
        found = run(result.model, feeds)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        fused = run(result.model, feeds, optimize=True)
        assert all(np.isfinite(value).all() and value.shape == wanted[name].shape for name, value in fused.items())
    read = {name for node in result.model.graph.node for name in node.input}
    assert {tensor.name for tensor in result.model.graph.initializer} <= read
    assert set(result.plan.nodes) == {node.name for node in result.prepared.model.graph.node}


def _numbers(plan: QuantPlan) -> dict[str, Any]:
    """Strip what follows from the order of the file: the order in which nodes are named."""
    return {
        name: replace(tensor, reason="", readers=None if tensor.readers is None else tuple(sorted(tensor.readers)))
        for name, tensor in plan.tensors.items()
    }


@settings(deadline=None, max_examples=25)
@given(graphs(), st.sampled_from(SCHEMES), st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter(case: Case, scheme: Scheme, chance: random.Random) -> None:
    model = case.model()
    for index, node in enumerate(model.graph.node):
        node.name = f"node{index}"
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(model)
    nodes = list(shuffled.graph.node)
    chance.shuffle(nodes)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(nodes)
    one, other = (quantize(each, case.batches(), scheme.recipe()) for each in (model, shuffled))
    # Where nodes want different things of one constant, the first in the file has its way, and a note says so.
    assume(not one.plan.notes)
    assert _numbers(one.plan) == _numbers(other.plan)
    assert {name: node.status for name, node in one.plan.nodes.items()} == {
        name: node.status for name, node in other.plan.nodes.items()
    }


@settings(deadline=None, max_examples=15)
@given(graphs(), st.sampled_from(SCHEMES))
def test_twice_the_same_bytes(case: Case, scheme: Scheme) -> None:
    one, other = (quantized(case, scheme).model.SerializeToString(deterministic=True) for _ in range(2))
    assert one == other
