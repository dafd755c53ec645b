"""Constant folding: every operator of the evaluator against onnxruntime, sizes, and what must not be computed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from quantlab.graph.prepare import fold_constants, prepare
from quantlab.graph.prepare.evaluate import evaluate, known_operators
from tests.graph.builders import Array, assert_same, build, initializers, normal, operators, run

FOLD = fold_constants()
F, G = normal(0, 2, 3), normal(1, 2, 3)
P = np.abs(F) + np.float32(0.5)
INTS, MORE = np.array([[-7, 7, -8], [8, 5, -5]]), np.array([[2, -2, 3], [-3, 5, 5]])
B, C = INTS > 0, MORE > 0
AXES = np.array([1])


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


CASES: dict[str, list[tuple[list[Array], dict[str, object]]]] = {
    "Abs": [([F], {}), ([INTS], {})],
    "Add": [([F, G], {}), ([INTS, MORE], {})],
    "And": [([B, C], {})],
    "Cast": [([F], {"to": 7}), ([INTS], {"to": 1}), ([B], {"to": 10}), ([F], {"to": 9}), ([P], {"to": 6})],
    "Ceil": [([F], {})],
    "Concat": [([F, G], {"axis": -1}), ([INTS, MORE, INTS], {"axis": 0})],
    "ConstantOfShape": [
        ([ints(2, 3)], {}),
        ([ints()], {"value": helper.make_tensor("v", 7, [1], [5])}),
    ],
    "Div": [([F, P], {}), ([INTS, MORE], {})],
    "Equal": [([INTS, MORE], {}), ([F, F], {})],
    "Exp": [([F], {})],
    "Expand": [([F, ints(4, 1, 3)], {}), ([F, ints(1)], {})],
    "Flatten": [([F], {"axis": 0}), ([F], {}), ([normal(0, 2, 3, 4)], {"axis": -1})],
    "Floor": [([F], {})],
    "Gather": [([F, ints(1, 0, -1)], {}), ([F, np.array(2)], {"axis": 1}), ([F, INTS[:, :1] % 2], {"axis": -1})],
    "Greater": [([INTS, MORE], {})],
    "GreaterOrEqual": [([INTS, INTS], {})],
    "Less": [([F, G], {})],
    "LessOrEqual": [([F, F], {})],
    "Log": [([P], {})],
    "MatMul": [([F, G.T.copy()], {})],
    "Max": [([F, G, P], {})],
    "Min": [([F, G[0]], {})],
    "Mod": [([INTS, MORE], {}), ([INTS, MORE], {"fmod": 1}), ([F, P], {"fmod": 1})],
    "Mul": [([F, G], {}), ([INTS, MORE], {})],
    "Neg": [([F], {}), ([INTS], {})],
    "Not": [([B], {})],
    "Or": [([B, C], {})],
    "Pow": [([P, G], {}), ([P, np.float32([2])], {}), ([INTS, np.array(2)], {})],
    "Range": [([np.array(9), np.array(-2), np.array(-3)], {}), ([np.float32(0), np.float32(1), np.float32(0.25)], {})],
    "Reciprocal": [([P], {})],
    "Relu": [([F], {})],
    "Reshape": [([F, ints(3, -1)], {}), ([F, ints(0, 1, -1)], {}), ([F[:, :0], ints(0, 2)], {"allowzero": 1})],
    "Slice": [
        ([F, ints(1), ints(2**62)], {}),
        ([F, ints(-1), ints(-(2**62)), ints(1), ints(-2)], {}),
        ([F, ints(-2, 0), ints(9, -1), ints(1, 0)], {}),
        ([F, ints(2), ints(0), ints(-1), ints(-1)], {}),
    ],
    "Split": [([F, ints(1, 2)], {"axis": 1})],
    "Sqrt": [([P], {})],
    "Squeeze": [([F[:, :1], AXES], {}), ([F[:1, :1]], {})],
    "Sub": [([F, G], {}), ([INTS, MORE], {})],
    "Tile": [([F, ints(2, 3)], {})],
    "Transpose": [([F], {}), ([normal(0, 2, 3, 4)], {"perm": [2, 0, 1]})],
    "Unsqueeze": [([F, ints(0, -1)], {})],
    "Where": [([B, F, G], {}), ([B, np.float32(0), G], {})],
    "Xor": [([B, C], {})],
}
ROUNDED = {"Exp", "Log", "MatMul", "Pow"}
"""Operators whose results may differ in the last places; the others agree to the bit."""

EACH = [(name, index) for name, cases in CASES.items() for index in range(len(cases))]


def test_every_operator_of_the_evaluator_is_tested() -> None:
    assert set(CASES) == set(known_operators())


@pytest.mark.parametrize(("name", "index"), EACH)
def test_the_evaluator_agrees_with_onnxruntime(name: str, index: int) -> None:
    inputs, attributes = CASES[name][index]
    arrays = [np.asarray(array) for array in inputs]
    names = [f"i{place}" for place in range(len(arrays))]
    outputs = ["y", "z"] if name == "Split" else ["y"]
    node = helper.make_node(name, names, outputs, **attributes)
    given = [
        helper.make_tensor_value_info(label, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for label, array in zip(names, arrays, strict=True)
    ]
    made = [helper.make_empty_tensor_value_info(output) for output in outputs]
    model = helper.make_model(
        helper.make_graph([node], "g", given, made), opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    )
    expected = run(model, dict(zip(names, arrays, strict=True)))
    found = evaluate(node, arrays)
    assert found is not None
    for output, array in zip(outputs, found, strict=True):
        assert (array.dtype, array.shape) == (expected[output].dtype, expected[output].shape)
        if name in ROUNDED:
            # Products of three, or a function of one number: a few units in the last place.
            np.testing.assert_allclose(array, expected[output], rtol=8 * np.finfo(np.float32).eps, atol=1e-6)
        else:
            np.testing.assert_array_equal(array, expected[output])


# ----------------------------------------------------------------------------------------------------------- the pass


def test_a_chain_of_constants_becomes_one() -> None:
    text = "g (float[2,4] x) => (float[2,3] y) { t = Transpose(w) u = Mul(t, k) [m] y = MatMul(x, u) }"
    before = build(text, {"w": normal(1, 3, 4), "k": np.float32([0.5, 2, 4])})
    result = FOLD(before)
    assert operators(result.model) == ["MatMul"]
    assert result.notes == ("fold-constants: 2 nodes were computed, for what they read is known",)
    assert set(initializers(result.model)) == {"w", "k", "u"}
    assert set(initializers(prepare(before).model)) == {"u"}
    assert_same(before, result.model, {"x": normal(0, 2, 4)})


SIZED = {
    "all sizes": ("2,3,4", "s = Shape(x) y = Expand(x, s)", ["Expand"]),
    "one size": (
        "N,3,4",
        "s = Shape(x) k = Gather(s, two) t = Unsqueeze(k, zero) y = Expand(x, t)",
        ["Shape", "Expand"],
    ),
    "a range of sizes": ("N,3,4", "s = Shape(x) k = Slice(s, one, big) y = Expand(x, k)", ["Shape", "Expand"]),
    "a part": ("N,3,4", "k = Shape<start = 1>(x) y = Expand(x, k)", ["Expand"]),
    "an open size": ("N,3,4", "s = Shape(x) k = Gather(s, zero) y = Expand(x, k)", ["Shape", "Gather", "Expand"]),
    "how many": ("2,3,4", "s = Size(x) t = Sub(s, less) y = Expand(x, t)", ["Expand"]),
}


@pytest.mark.parametrize("kind", SIZED)
def test_sizes_that_are_known(kind: str) -> None:
    dims, nodes, left = SIZED[kind]
    constants = {"zero": ints(0), "one": ints(1), "two": np.array(2), "big": ints(9), "less": ints(23)}
    before = build(f"g (float[{dims}] x) => (float[A,B,C] y) {{ {nodes} }}", constants)
    after = FOLD(before).model
    assert operators(after) == left
    assert_same(before, after, {"x": normal(0, 1 if kind == "an open size" else 2, 3, 4)})
    # Once nothing asks for its sizes, Shape leads nowhere.
    assert operators(prepare(before).model) == (left if kind == "an open size" else ["Expand"])


def test_what_the_file_says_of_inner_tensors_is_not_trusted() -> None:
    text = """g (float[N,3] x) => (int64[2] y, float[N,3] z) <float[1,3] t> {
        t = Relu(x) s = Shape(t) y = Add(s, none) z = Neg(t)
    }"""
    before = build(text, {"none": ints(0, 0)})
    after = FOLD(before).model
    assert operators(after) == ["Relu", "Shape", "Add", "Neg"]
    assert run(after, {"x": normal(0, 5, 3)})["y"].tolist() == [5, 3]


HUGE = {
    "[n] t = Expand(k, size) y = Add(x, t)": (400000, 65536 + 4 + 16),
    "[n] t = ConstantOfShape(size) y = Add(x, t)": (400000, 65536 + 16),
    "[n] t = Tile(row, size) y = Add(x, t)": (400000, 65536 + 4 + 16),
    "[n] r = Range(a, limit, d) t = Cast<to = 1>(r) y = Add(x, t)": (800008, 65536 + 24),
}


@pytest.mark.parametrize("nodes", HUGE)
def test_a_result_that_would_blow_up_the_file_is_left(nodes: str) -> None:
    size, limit = HUGE[nodes]
    constants = {"k": np.float32(1).reshape(()), "size": ints(1, 100000), "row": np.float32([[1]])}
    constants |= {"a": np.array(0), "limit": np.array(100000), "d": np.array(1)}
    before = build(f"g (float[1,100000] x) => (float[1,100000] y) {{ {nodes} }}", constants)
    result = FOLD(before)
    operator = nodes.split()[3].partition("(")[0]
    assert result.notes == (
        f"fold-constants: left {operator} 'n' alone, whose inputs are constant: its result of {size} bytes may have "
        f"no more than {limit}, 65536 above those of its inputs",
    )
    assert result.model == before
    folded = fold_constants(growth=10**6)(before).model
    assert operators(folded) == ["Add"]
    assert_same(before, folded, {"x": normal(0, 1, 100000)})


KEPT = {
    "[n] t = Div(i, none) y = Add(x, t)": "it cannot be computed (integer division by zero)",
    "[n] t = Cast<to = 7>(f) y = Add(x, t)": "it cannot be computed (invalid value encountered in cast)",
    "[n] y = Neg(i)": "graph output 'y' has to be made by a node",
}


@pytest.mark.parametrize("nodes", KEPT)
def test_what_cannot_be_computed_is_noted(nodes: str) -> None:
    constants = {"i": ints(1, 2), "none": ints(1, 0), "f": np.float32([np.inf, 0])}
    result = FOLD(build(f"g (int64[2] x) => (int64[2] y) {{ {nodes} }}", constants))
    operator = nodes.split()[3].partition("(")[0].partition("<")[0]
    assert result.notes == (f"fold-constants: left {operator} 'n' alone, whose inputs are constant: {KEPT[nodes]}",)


def test_random_and_unknown_operators_and_subgraphs_are_left() -> None:
    text = "g (float[2] x) => (float[2] y) { r = RandomNormalLike(k) s = Erf(k) t = Add(r, s) y = Add(x, t) }"
    before = build(text, {"k": normal(0, 2)})
    assert FOLD(before).model == before
    branches = "then_branch = a () => (float[2] p) { p = Neg(k) }, else_branch = b () => (float[2] q) { q = Exp(k) }"
    inside = build(f"g (float[2] x) => (float[2] y) {{ t = If(c) <{branches}> y = Add(x, t) }}", {"k": normal(0, 2)})
    inside.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "c"))
    assert FOLD(inside).model == inside


def test_a_constant_that_a_subgraph_reads_is_stored() -> None:
    branches = "then_branch = a () => (float[2] p) { p = Neg(t) }, else_branch = b () => (float[2] q) { q = Exp(x) }"
    before = build(f"g (bool c, float[2] x) => (float[2] y) {{ t = Exp(k) y = If(c) <{branches}> }}", {"k": F[0, :2]})
    after = FOLD(before).model
    assert operators(after) == ["If"]
    for flag in (True, False):
        old, new = (run(model, {"c": np.array(flag), "x": F[0, :2]})["y"] for model in (before, after))
        np.testing.assert_allclose(new, old, rtol=4 * np.finfo(np.float32).eps)


def test_random_operators_give_new_numbers_still() -> None:
    before = build("g (float[2] x) => (float[2] y) { r = RandomUniform<shape = [2]>() y = Add(x, r) }")
    assert operators(prepare(before).model) == ["RandomUniform", "Add"]
