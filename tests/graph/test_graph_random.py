"""Random valid graphs with hostile names, shuffled nodes, shared weights and captures: preparing never changes outputs.

The graphs are in double precision, so that rounding (1e-16 of the values) and mistakes (about the values themselves)
are 16 digits apart; the comparison allows 1e-9 of the largest value, which leaves room for cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quantlab.graph import GraphView
from quantlab.graph.prepare import prepare
from tests.graph.builders import normal, operators, run

SHAPE = [2, 4]
ONE_INPUT = ("Relu", "Neg", "Identity", "Dropout", "MatMul", "Gemm", "BatchNormalization", "Constant")
OPERATORS = (*ONE_INPUT, "Add", "If", *("Gemm", "BatchNormalization", "Identity") * 2)
SUFFIXES = ("", "_folded", "_bias", "_1", "_folded_1")


@dataclass(frozen=True)
class Step:
    operator: str
    first: int
    second: int
    name: str
    suffix: str
    is_output: bool


steps = st.builds(
    Step,
    st.sampled_from(OPERATORS),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from(["", "same", "Gemm_1", "Relu_2", "If_3"]),
    st.sampled_from(SUFFIXES),
    st.booleans(),
)


def typed(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, SHAPE)


def nodes_of(step: Step, a: str, b: str, made: str) -> list[onnx.NodeProto]:
    match step.operator:
        case "MatMul":
            return [helper.make_node("MatMul", [a, f"w{step.second % 2}"], [made])]
        case "Gemm":
            bias = ["bias"] if step.second % 3 else []
            beta = 0.5 if step.second % 5 == 0 else 1.0
            return [helper.make_node("Gemm", [a, f"w{step.second % 2}", *bias], [made], beta=beta)]
        case "BatchNormalization":
            return [helper.make_node("BatchNormalization", [a, "g", "e", "m", "v"], [made])]
        case "Constant":
            value = numpy_helper.from_array(normal(step.second, 4, dtype=np.float64))
            constant = helper.make_node("Constant", [], [f"{made}_k"], value=value)
            return [constant, helper.make_node("Add", [a, f"{made}_k"], [made])]
        case "Add":
            return [helper.make_node("Add", [a, b], [made])]
        case "If":
            yes = helper.make_graph([helper.make_node("Neg", [a], [f"{made}_yes"])], "yes", [], [typed(f"{made}_yes")])
            inner = [
                helper.make_node("Identity", [b], [f"{made}_t"]),
                helper.make_node("Relu", [f"{made}_t"], [f"{made}_no"]),
            ]
            no = helper.make_graph(inner, "no", [], [typed(f"{made}_no")])
            return [helper.make_node("If", ["flag"], [made], then_branch=yes, else_branch=no)]
        case _:
            return [helper.make_node(step.operator, [a], [made])]


def model_of(plan: list[Step], opset: int) -> onnx.ModelProto:
    tensors, nodes, outputs = ["x"], [], []
    for position, step in enumerate(plan):
        base = f"w{position % 2}{step.suffix}"
        made = base if step.suffix and base not in tensors else f"t{position}"
        a, b = (tensors[-1 - index % min(len(tensors), 4)] for index in (step.first, step.second))
        nodes += nodes_of(step, a, b, made)
        nodes[-1].name = step.name
        tensors.append(made)
        if step.is_output or position == len(plan) - 1:
            outputs.append(made)
    constants = {"w0": normal(1, 4, 4), "w1": normal(2, 4, 4), "bias": normal(3, 4), "g": normal(4, 4)}
    constants |= {"e": normal(5, 4), "m": normal(6, 4), "v": np.abs(normal(7, 4)) + 0.5}
    weights = [numpy_helper.from_array(value.astype(np.float64), name) for name, value in constants.items()]
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    graph = helper.make_graph(nodes, "random", [typed("x"), flag], [typed(name) for name in outputs], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@settings(deadline=None, max_examples=150)
@given(
    plan=st.lists(steps, min_size=1, max_size=20),
    opset=st.sampled_from([12, 13, 17]),
    flag=st.booleans(),
    shuffle=st.randoms(use_true_random=False),
)
def test_preparing_never_changes_outputs(plan: list[Step], opset: int, flag: bool, shuffle: object) -> None:
    model = model_of(plan, opset)
    nodes = list(model.graph.node)
    mixed = onnx.ModelProto()
    mixed.CopyFrom(model)
    del mixed.graph.node[:]
    shuffle.shuffle(nodes)  # type: ignore[attr-defined]
    mixed.graph.node.extend(nodes)
    for node in model.graph.node:
        node.name = ""  # onnxruntime refuses the equal names
    feeds = {"x": normal(0, 2, 4, dtype=np.float64), "flag": np.array(flag)}
    expected = run(model, feeds)
    result = prepare(mixed).model
    onnx.checker.check_model(result, full_check=True)
    found = run(result, feeds)
    largest = max(1.0, *(float(np.abs(value).max()) for value in expected.values()))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-9 * largest)
    view = GraphView.of(result)
    assert "Constant" not in operators(result)
    assert set(view.constants) <= {*view.uses, *view.outputs}
