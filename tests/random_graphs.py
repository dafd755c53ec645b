"""Random valid graphs of 1 to 60 nodes, and what has to hold for each of them.

Every tensor has the shape (1, 4, 6, 6), so that any operator can read any tensor that was made before. Weights are
shared, tensors have several readers, constants stand in nodes and initializers, branches of If capture what lies around
them, and names are those that preparing and quantizing would like to give away themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quantlab.graph.prepare import prepare
from quantlab.plan import QuantPlan, Recipe
from quantlab.workflow.quantize import QuantResult, quantize
from tests.graph.builders import normal, run

Array = npt.NDArray[Any]
Nodes = list[onnx.NodeProto]

SHAPE = (1, 4, 6, 6)
OPSETS = (15, 17, 18)
"""Below 14, onnx's reference evaluator normalizes by the moments of the batch."""

SUFFIXES = (
    "_quantized", "_scale", "_zero_point", "_quantized_scale", "_quantized_zero_point", "_QuantizeLinear_Input",
    "_QuantizeLinear_Output", "_DequantizeLinear_Output", "_QuantizeLinear", "_DequantizeLinear", "_folded", "_bias",
    "_float32", "_1", "_scale_1", "_quantized_1", "_convert_QuantizeLinear_Input", "_convert_QuantizeLinear_Output",
    "_convert_DequantizeLinear_Output",
)  # fmt: skip
"""What quantlab appends to names, some with the number by which a name that is taken is told from the new one."""

CONSTANTS: dict[str, Array] = {
    "w": normal(1, 4, 4, 3, 3) / 6,
    "v": normal(2, 4, 4, 1, 1) / 2,
    "d": normal(3, 4, 1, 3, 3) / 3,
    "b": normal(4, 4),
    "c": normal(5, 4, 1, 1),
    "m": normal(6, 6, 6) / 3,
    "n": normal(7, 6) / 3,
    "zero": np.asarray(0.0),
    "six": np.asarray(6.0),
    "half": np.asarray(0.5),
    "gamma": normal(8, 4),
    "mean": normal(9, 4),
    "variance": np.abs(normal(10, 4)) + 0.5,
    "shape": np.array(SHAPE, np.int64),
    "rows": np.array((24, 6), np.int64),
    "turned": np.array((3, 2, 1, 0), np.int64),
    "parts": np.array((1, 3), np.int64),
    "start": np.array((0,), np.int64),
    "end": np.array((4,), np.int64),
    "axis": np.array((1,), np.int64),
    "front": np.array((0,), np.int64),
    "padding": np.array((0, 0, 1, 1, 0, 0, 1, 1), np.int64),
    "inner": np.array((1, 1), np.int64),
    "outer": np.array((7, 7), np.int64),
    "last": np.array((2, 3), np.int64),
}


@dataclass(frozen=True)
class Step:
    """What is drawn for one operator: which, what it reads (counted back), its names, and whether it is an output."""

    operator: str
    first: int
    second: int
    suffix: str
    node: str
    is_output: bool


@dataclass(frozen=True)
class Random:
    """A drawn graph.

    Attributes:
        steps: One an operator.
        order: Seed of the order of nodes in the shuffled file.
        opset: Version of the operator set.
        flag: Which branches of If are taken.
        recipe: How to quantize.
    """

    steps: tuple[Step, ...]
    order: int
    opset: int
    flag: bool
    recipe: Recipe

    def model(self, kind: type = np.float32, *, shuffled: bool = False) -> onnx.ModelProto:
        """Build the model, in float32 or float64."""
        return _model(self, np.dtype(kind), shuffled)

    def feeds(self, seed: int, kind: type = np.float32) -> dict[str, Array]:
        """Draw one sample."""
        return {"x": normal(seed, *SHAPE).astype(kind), "flag": np.array(self.flag)}


def _chain(*calls: tuple[Any, ...]) -> Callable[[str, str, str], Nodes]:
    """Write a row of nodes: operator, inputs (`a` and `b` are drawn, `-` is what came before), attributes."""

    def nodes(a: str, b: str, made: str) -> Nodes:
        names, before, written = {"a": a, "b": b}, a, []
        for index, (op, inputs, *attributes) in enumerate(calls):
            output = made if index == len(calls) - 1 else f"{made}_{index}"
            places = [before if name == "-" else names.get(name, name.removeprefix("$")) for name in inputs]
            written.append(helper.make_node(op, places, [output], **(attributes[0] if attributes else {})))
            before = output
        return written

    return nodes


NORM = ("gamma", "$b", "mean", "variance")
PADS = {"pads": [1, 1, 1, 1]}
POOL = {"kernel_shape": [3, 3], **PADS}
OPERATORS: dict[str, Callable[[str, str, str], Nodes]] = {
    "relu": _chain(("Relu", "a")),
    "clip": _chain(("Clip", ("a", "zero", "six"))),
    "clip above": _chain(("Clip", ("a", "", "six"))),
    "sigmoid": _chain(("Sigmoid", "a")),
    "leaky": _chain(("LeakyRelu", "a")),
    "erf": _chain(("Erf", "a")),
    "softmax": _chain(("Softmax", "a", {"axis": -1})),
    "conv": _chain(("Conv", ("a", "w", "$b"), PADS)),
    "conv without bias": _chain(("Conv", ("a", "v"))),
    "depthwise": _chain(("Conv", ("a", "d", "$b"), {"group": 4, **PADS})),
    "conv transpose": _chain(("ConvTranspose", ("a", "v", "$b"))),
    "conv and norm": _chain(("Conv", ("a", "w", "$b"), PADS), ("BatchNormalization", ("-", *NORM))),
    "conv and relu": _chain(("Conv", ("a", "v", "$b")), ("Relu", "-")),
    "norm": _chain(("BatchNormalization", ("a", *NORM))),
    "transpose": _chain(("Transpose", "a", {"perm": [0, 1, 3, 2]})),
    "max pool": _chain(("MaxPool", "a", POOL)),
    "average pool": _chain(("AveragePool", "a", POOL)),
    "reshape": _chain(("Reshape", ("a", "shape"))),
    "matmul": _chain(("MatMul", ("a", "m"))),
    "matmul left": _chain(("MatMul", ("m", "a"))),
    "gemm": _chain(("Reshape", ("a", "rows")), ("Gemm", ("-", "m", "n")), ("Reshape", ("-", "shape"))),
    "gemm turned": _chain(
        ("Reshape", ("a", "rows")), ("Gemm", ("-", "m", "n"), {"transB": 1, "alpha": 0.5}), ("Reshape", ("-", "shape"))
    ),
    "linear": _chain(
        ("Reshape", ("a", "rows")), ("MatMul", ("-", "m")), ("Add", ("-", "n")), ("Reshape", ("-", "shape"))
    ),
    "add constant": _chain(("Add", ("a", "c"))),
    "multiply by constant": _chain(("Mul", ("a", "half"))),
    "divide": _chain(("Div", ("a", "six"))),
    "gather": _chain(("Gather", ("a", "turned"), {"axis": 1})),
    "squeeze": _chain(("Squeeze", ("a", "front")), ("Unsqueeze", ("-", "front"))),
    "flatten": _chain(("Flatten", "a"), ("Reshape", ("-", "shape"))),
    "pad and slice": _chain(("Pad", ("a", "padding")), ("Slice", ("-", "inner", "outer", "last"))),
    "mean": _chain(("GlobalAveragePool", "a"), ("Mul", ("a", "-"))),
    "identity": _chain(("Identity", "a")),
    "dropout": _chain(("Dropout", "a")),
    "add": _chain(("Add", ("a", "b"))),
    "subtract": _chain(("Sub", ("a", "b"))),
    "multiply": _chain(("Sigmoid", "b"), ("Mul", ("a", "-"))),
    "multiply matrices": _chain(("Softmax", "b", {"axis": -1}), ("MatMul", ("-", "a"))),
    "concat": _chain(("Concat", ("a", "b"), {"axis": 1}), ("Slice", ("-", "start", "end", "axis"))),
    "maximum": _chain(("Max", ("a", "b"))),
}  # fmt: skip
"""Operators, alone or in the company they usually keep."""

SPECIAL = ("if", "split", "constant")


def _nodes(step: Step, a: str, b: str, made: str, kind: np.dtype[Any]) -> Nodes:
    """Write the nodes of one step."""
    if step.operator in OPERATORS:
        return OPERATORS[step.operator](a, b, made)
    if step.operator == "split":
        halves = [f"{made}_0", f"{made}_2"]
        split = helper.make_node("Split", [a, "parts"], halves, axis=1)
        return [split, helper.make_node("Concat", halves[::-1], [made], axis=1)]
    if step.operator == "constant":
        value = numpy_helper.from_array(normal(step.second, 4, 1, 1).astype(kind))
        constant = helper.make_node("Constant", [], [f"{made}_scale"], value=value)
        return [constant, helper.make_node("Add", [a, f"{made}_scale"], [made])]
    typed = helper.make_tensor_value_info
    code = helper.np_dtype_to_tensor_dtype(kind)
    yes = [helper.make_node("Neg", [a], [f"{made}_yes"])]
    no = [helper.make_node("Conv", [b, "v"], [f"{made}_t"]), helper.make_node("Relu", [f"{made}_t"], [f"{made}_no"])]
    if kind == np.float64:  # onnxruntime has no such Conv
        no[0] = helper.make_node("Identity", [b], [f"{made}_t"])
    branches = {
        f"{name}_branch": helper.make_graph(nodes, name, [], [typed(nodes[-1].output[0], code, SHAPE)])
        for name, nodes in (("then", yes), ("else", no))
    }
    return [helper.make_node("If", ["flag"], [made], **branches)]


def _model(drawn: Random, kind: np.dtype[Any], shuffled: bool) -> onnx.ModelProto:
    made, nodes, outputs = ["x"], Nodes(), []
    taken, called = {"x", "flag", *CONSTANTS}, set[str]()
    for position, step in enumerate(drawn.steps):
        a, b = (made[-1 - index % min(len(made), 5)] for index in (step.first, step.second))
        wanted = (a, b, "w", "b", "m")[step.second % 5] + step.suffix
        name = f"t{position}" if step.is_output or not step.suffix else wanted
        new = _nodes(step, a, b, name, kind)
        if taken & {output for node in new for output in node.output}:
            name = f"t{position}"
            new = _nodes(step, a, b, name, kind)
        taken |= {output for node in new for output in node.output}
        for index, node in enumerate(new):
            node.name = f"{step.node}.{position}.{index}" if step.node in called else step.node
            called.add(node.name)
        nodes += new
        made.append(name)
        if step.is_output or position == len(drawn.steps) - 1:
            outputs.append(name)
    if shuffled:
        random.Random(drawn.order).shuffle(nodes)
    code = helper.np_dtype_to_tensor_dtype(kind)
    read = {name for node in nodes for name in node.input} | {"v"}
    weights = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(kind), name)
        for name, value in CONSTANTS.items()
        if name in read
    ]
    typed = helper.make_tensor_value_info
    inputs = [typed("x", code, SHAPE), typed("flag", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "random", inputs, [typed(name, code, SHAPE) for name in outputs], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", drawn.opset)], ir_version=8)


steps = st.builds(
    Step,
    st.sampled_from((*OPERATORS, *SPECIAL)),
    st.integers(0, 60),
    st.integers(0, 60),
    st.sampled_from(("", "", *SUFFIXES)),
    st.sampled_from(("node", "x_QuantizeLinear", "w_DequantizeLinear", "x_scale", "t1")),
    st.sampled_from((False, False, False, True)),
)


def graphs(recipes: tuple[Recipe, ...], most: int = 60) -> st.SearchStrategy[Random]:
    """Return the strategy that draws graphs.

    Args:
        recipes: How to quantize; one is drawn.
        most: Operators at most.

    Returns:
        Graphs of at least one operator; some are written as up to four nodes.
    """
    # A list of its own choice of length would have six steps on the average.
    drawn = st.integers(1, most).flatmap(lambda count: st.lists(steps, min_size=count, max_size=count)).map(tuple)
    return st.builds(
        Random, drawn, st.integers(0, 10**6), st.sampled_from(OPSETS), st.booleans(), st.sampled_from(recipes)
    )


def check_prepared(drawn: Random) -> None:
    """Assert that preparing keeps outputs; in float64, where rounding and mistakes are 16 digits apart."""
    model = drawn.model(np.float64, shuffled=True)
    prepared = prepare(model).model
    onnx.checker.check_model(prepared, full_check=True)
    feeds = drawn.feeds(0, np.float64)
    names = [value.name for value in model.graph.output]
    wanted = ReferenceEvaluator(drawn.model(np.float64)).run(names, feeds)
    found = ReferenceEvaluator(prepared).run(names, feeds)
    largest = max(1.0, *(float(np.abs(value).max()) for value in wanted))
    for name, value, other in zip(names, wanted, found, strict=True):
        np.testing.assert_allclose(other, value, rtol=0, atol=1e-9 * largest, err_msg=name)


def check_quantized(drawn: Random) -> None:
    """Assert that the quantized model is valid, runs, and does not depend on the order of nodes in the file."""
    data = [drawn.feeds(seed) for seed in (0, 1)]
    result, other = (quantize(drawn.model(shuffled=mixed), data, drawn.recipe) for mixed in (False, True))
    onnx.checker.check_model(result.model, full_check=True)
    found = run(result.model, data[0])
    for name, value in found.items():
        assert value.shape == SHAPE, name
        assert np.isfinite(value).all(), name
    _check_names(result)
    # Where nodes want different things of one constant, the first in the file has its way, and a note says so.
    if result.plan.notes or other.plan.notes:
        return
    one, two = (numbers(each.plan, drawn.model()) for each in (result, other))
    common = one.keys() & two.keys()
    assert {key: one[key] for key in common} == {key: two[key] for key in common}
    for name, value in run(other.model, data[0]).items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)


def numbers(plan: QuantPlan, model: onnx.ModelProto) -> dict[str, Any]:
    """Return the numbers of a model's own tensors and the fate of its nodes.

    What preparing adds, such as a folded copy of a shared weight, is numbered in the order in which it is made, and of
    nodes that do the same it keeps the first. So names may differ; that the numbers do not shows in the outputs.
    """
    own = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input}
    own |= {name for node in model.graph.node for name in node.output}
    tensors = {
        name: (tensor.role, tensor.spec, tensor.values, tensor.qparams)
        for name, tensor in plan.tensors.items()
        if name in own
    }
    return {**tensors, **{f"node {name}": node.status for name, node in plan.nodes.items()}}


def _check_names(result: QuantResult) -> None:
    graph = result.model.graph
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    made = [name for node in graph.node for name in node.output if name]
    made += [tensor.name for tensor in graph.initializer] + [value.name for value in graph.input]
    assert len(set(made)) == len(made)
