"""What does nothing, is written twice, leads nowhere or follows its like is removed; all of it to the bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantlab.graph.passes import Sequential
from quantlab.graph.prepare import (
    DROP_DEAD_NODES,
    INFER_SHAPES,
    JOIN_MOVES,
    MERGE_DUPLICATES,
    REMOVE_IDENTITY,
    prepare,
)
from tests.graph.builders import CAPTURING, Array, assert_same, build, normal, operators, run

X = {"x": normal(0, 2, 3)}
CLEAN = Sequential(INFER_SHAPES, REMOVE_IDENTITY)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


CONSTANTS = {
    "two": ints(2, 3),
    "open": ints(0, -1),
    "ones": ints(1, 1),
    "zero": ints(0),
    "zeros": ints(0, 0, 0, 0),
    "one": ints(1),
    "first": ints(0, 1),
    "big": ints(2**62),
    "three": ints(3),
    "wide": ints(0, 0, 0, 1),
    "back": ints(3, 2),
    "scalar": ints(2, 3, 1),
}
UNCHANGED = {
    "cast": "t = Cast<to = 1>(r)",
    "transpose": "t = Transpose<perm = [0, 1]>(r)",
    "reshape, sizes": "t = Reshape(r, two)",
    "reshape, kept and open": "t = Reshape(r, open)",
    "flatten": "t = Flatten(r)",
    "expand": "t = Expand(r, ones)",
    "expand to what is there": "t = Expand(r, two)",
    "pad": "t = Pad(r, zeros)",
    "slice, to the end": "t = Slice(r, zero, big)",
    "slice, an axis and a step": "t = Slice(r, zero, three, one, one)",
    "concat": "t = Concat<axis = 0>(r)",
}
CHANGED = {
    "cast": "s = Cast<to = 10>(r) t = Cast<to = 1>(s)",
    "transpose": "s = Transpose<perm = [1, 0]>(r) t = Neg(s)",
    "transpose, reversed": "t = Transpose(r)",
    "reshape": "t = Reshape(r, back)",
    "reshape, another rank": "t = Reshape(r, scalar)",
    "flatten": "t = Flatten<axis = 0>(r)",
    "expand": "s = Slice(r, zero, one) t = Expand(s, two)",
    "pad": "t = Pad(r, wide)",
    "slice": "t = Slice(r, zero, one)",
    "concat": "t = Concat<axis = 0>(r, x)",
}


@pytest.mark.parametrize("kind", UNCHANGED)
def test_what_changes_nothing_is_removed(kind: str) -> None:
    text = f"g (float[2,3] x) => (float[2,3] y) {{ r = Relu(x) {UNCHANGED[kind]} y = Neg(t) }}"
    before = build(text, CONSTANTS)
    after = CLEAN(before).model
    assert operators(after) == ["Relu", "Neg"]
    assert_same(before, after, X)


@pytest.mark.parametrize("kind", CHANGED)
def test_what_changes_something_stays(kind: str) -> None:
    dims = "A,B,C" if "rank" in kind else "A,B"
    before = build(f"g (float[2,3] x) => (float[{dims}] y) {{ r = Relu(x) {CHANGED[kind]} y = Neg(t) }}", CONSTANTS)
    after = CLEAN(before).model
    assert operators(after) == operators(before)
    assert_same(before, after, X)


def test_sizes_that_are_open_decide_nothing() -> None:
    text = "g (float[N,3] x) => (float[A,B] y) { r = Relu(x) s = Reshape(r, two) t = Slice(s, zero, big) y = Neg(t) }"
    after = CLEAN(build(text, CONSTANTS)).model
    assert operators(after) == ["Relu", "Reshape", "Neg"]


# -------------------------------------------------------------------------------------------------------- joined moves

MOVES = {
    "transposes": ("2,3,4", "t = Transpose<perm = [1, 2, 0]>(x) y = Transpose<perm = [0, 2, 1]>(t)", 1),
    "transposes that undo each other": (
        "2,3,4",
        "t = Transpose<perm = [1, 2, 0]>(x) y = Transpose<perm = [2, 0, 1]>(t)",
        1,
    ),
    "three transposes": (
        "2,3,4",
        "s = Transpose<perm = [1, 2, 0]>(x) t = Transpose<perm = [1, 2, 0]>(s) y = Transpose<perm = [1, 0, 2]>(t)",
        1,
    ),
    "reshapes": ("2,3,4", "t = Reshape(x, a) y = Reshape(t, b)", 1),
    "a reshape that keeps a size of the one before": ("2,3,4", "t = Reshape(x, a) y = Reshape(t, keep)", 2),
    "casts that widen": ("2,3,4", "t = Cast<to = 11>(x) y = Cast<to = 10>(t)", 1),
    "casts that round": ("2,3,4", "t = Cast<to = 10>(x) y = Cast<to = 11>(t)", 2),
    "casts through integers": ("2,3,4", "t = Cast<to = 6>(x) y = Cast<to = 1>(t)", 2),
    "an order that is left out": ("2,3,4", "t = Transpose(x) y = Transpose<perm = [1, 0, 2]>(t)", 2),
}


@pytest.mark.parametrize("kind", MOVES)
def test_moves_in_a_row(kind: str) -> None:
    dims, nodes, left = MOVES[kind]
    constants = {"a": ints(6, 4), "b": ints(3, 2, 4), "keep": ints(0, 2, 2)}
    types = {"widen": "float16", "round": "double", "undo": "float"}
    made = next((name for word, name in types.items() if word in kind), "float")
    before = build(f"g (float[{dims}] x) => ({made}[A,B,C] y) {{ {nodes} }}", constants)
    after = JOIN_MOVES(before).model
    assert len(operators(after)) == left
    assert_same(before, after, {"x": normal(0, 2, 3, 4)})


def test_a_move_that_others_read_stays() -> None:
    text = """g (float[2,3] x) => (float[2,3] y, float[3,2] z) {
        t = Transpose<perm = [1, 0]>(x) y = Transpose<perm = [1, 0]>(t) z = Neg(t)
    }"""
    before = build(text)
    assert JOIN_MOVES(before).model == before


def test_transposes_that_undo_each_other_are_gone() -> None:
    text = """g (float[2,3] x) => (float[2,3] y) {
        r = Relu(x) t = Transpose<perm = [1, 0]>(r) s = Transpose<perm = [1, 0]>(t) y = Neg(s)
    }"""
    before = build(text)
    result = prepare(before)
    assert operators(result.model) == ["Relu", "Neg"]
    assert "join-moves: joined Transpose 'Transpose_1' and Transpose 'Transpose_2' into one" in result.notes
    assert_same(before, result.model, X)


# ---------------------------------------------------------------------------------------------------------- duplicates

SAME = {
    "two of one": ("a = Exp(x) b = Exp(x) y = Add(a, b)", ["Exp", "Add"]),
    "what follows from them": ("a = Exp(x) b = Exp(x) c = Neg(a) d = Neg(b) y = Add(c, d)", ["Exp", "Neg", "Add"]),
    "one is an output": ("a = Exp(x) y = Exp(x) z = Neg(a)", ["Exp", "Neg"]),
    "both are outputs": ("y = Exp(x) z = Exp(x)", ["Exp", "Identity"]),
    "two outputs and readers of each": (
        "y = Exp(x) c = Neg(y) z = Exp(x) d = Neg(z) e = Exp(x) f = Add(c, d) g = Add(e, f)",
        ["Exp", "Neg", "Add", "Add", "Identity"],
    ),
    "several outputs": (
        "a, b = Split<axis = 1>(x, s) c, d = Split<axis = 1>(x, s) e = Concat<axis = 1>(a, d) y = Neg(e)",
        ["Split", "Concat", "Neg"],
    ),
    "other attributes": (
        "a = Softmax<axis = 0>(x) b = Softmax<axis = 1>(x) y = Add(a, b)",
        ["Softmax", "Softmax", "Add"],
    ),
    "other inputs": ("a = Sub(x, k) b = Sub(k, x) y = Add(a, b)", ["Sub", "Sub", "Add"]),
    "attributes in another order": (
        "a = LeakyRelu<alpha = 0.5>(x) b = LeakyRelu<alpha = 0.5>(x) y = Add(a, b)",
        ["LeakyRelu", "Add"],
    ),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", SAME)
def test_duplicates(kind: str, turned: bool) -> None:
    nodes, left = SAME[kind]
    outputs = ", ".join(f"float[2,3] {name}" for name in "yzg" if f"{name} =" in nodes)
    before = build(f"g (float[2,3] x) => ({outputs}) {{ {nodes} }}", {"k": normal(1, 2, 3), "s": ints(1, 2)})
    for index, node in enumerate(before.graph.node):
        node.name = f"n{9 - index if turned else index}"
    after = MERGE_DUPLICATES(before).model
    assert sorted(operators(after)) == sorted(left)
    assert_same(before, after, X)
    onnx.checker.check_model(after, full_check=True)
    assert len({node.name for node in after.graph.node}) == len(left)


def test_the_name_that_comes_first_stays() -> None:
    result = MERGE_DUPLICATES(
        build("g (float[2,3] x) => (float[2,3] y) { [b] t = Exp(x) [a] s = Exp(x) y = Add(t, s) }")
    )
    assert [(node.name, list(node.input)) for node in result.model.graph.node] == [("a", ["x"]), ("", ["s", "s"])]
    assert result.notes == ("merge-duplicates: merged Exp 'a' and Exp 'b', which do the same",)


def test_random_nodes_are_no_duplicates() -> None:
    before = build(
        "g (float[2,3] x) => (float[2,3] y) { a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b) }"
    )
    assert MERGE_DUPLICATES(before).model == before
    assert np.abs(run(before, X)["y"]).max() > 0


def test_a_duplicate_that_a_subgraph_reads() -> None:
    before = build(CAPTURING.replace("t = Relu(x)", "[b] s = Relu(x) u = Neg(s) [a] t = Relu(x)"))
    after = prepare(before).model
    assert operators(after) == ["Relu", "If"]
    for flag in (True, False):
        assert_same(before, after, {"c": np.array(flag), **X})


# ---------------------------------------------------------------------------------------------------------- dead nodes


def test_nodes_that_lead_nowhere_are_gone() -> None:
    before = build("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) [a] t = Neg(x) [b] u = Exp(t) }")
    result = DROP_DEAD_NODES(before)
    assert operators(result.model) == ["Relu"]
    assert result.notes == ("drop-dead-nodes: 2 nodes that lead to no output are gone: Neg 'a', Exp 'b'",)
    assert_same(before, result.model, X)


def test_what_a_subgraph_reads_leads_somewhere() -> None:
    before = build(CAPTURING)
    assert DROP_DEAD_NODES(before).model == before
