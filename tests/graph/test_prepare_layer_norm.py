"""LayerNormalization out of its parts."""

from __future__ import annotations

import numpy as np
import pytest

from quantlab.graph.passes import Sequential
from quantlab.graph.prepare import FUSE_LAYER_NORM, INFER_SHAPES, prepare
from tests.graph.builders import Array, build, normal, operators, run

FUSE = Sequential(INFER_SHAPES, FUSE_LAYER_NORM)
MEAN = "ReduceMean<axes = [-1]>"
CENTRE = f"m = {MEAN}(x) d = Sub(x, m)"
ROOT = f"v = {MEAN}(p) e = Add(v, eps) r = Sqrt(e)"
END = "g = Mul(q, gamma) [last] y = Add(g, beta)"
PLAIN = f"{CENTRE} p = Pow(d, two) {ROOT} q = Div(d, r) {END}"
FORMS = {
    "a power": PLAIN,
    "a product": PLAIN.replace("Pow(d, two)", "Mul(d, d)"),
    "an inverse": PLAIN.replace("q = Div(d, r)", "i = Reciprocal(r) q = Mul(d, i)"),
    "constants first": PLAIN.replace("Add(v, eps)", "Add(eps, v)").replace("Mul(q, gamma)", "Mul(gamma, q)"),
    "no offset": PLAIN.replace("g = Mul(q, gamma) [last] y = Add(g, beta)", "[last] y = Mul(q, gamma)"),
    "centred twice": PLAIN.replace("d = Sub(x, m)", "d = Sub(x, m) c = Sub(x, m)").replace("Div(d", "Div(c"),
    "a cast that does nothing": PLAIN.replace("p = Pow(d", "k = Cast<to = 1>(d) p = Pow(k"),
}
CONSTANTS: dict[str, Array] = {
    "two": np.float32(2).reshape(()),
    "eps": np.float32([1e-5]),
    "gamma": normal(1, 8),
    "beta": normal(2, 8),
}
X = {"x": 5 * normal(0, 2, 3, 8) + 2}


def assert_close(old: Array, new: Array) -> None:
    # x/sqrt(v) is at most sqrt(8) here; a sum of 8 and a dozen roundings each way.
    np.testing.assert_allclose(new, old, rtol=0, atol=2 * 20 * np.finfo(np.float32).eps * (np.abs(old).max() + 3))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("opset", [17, 18])
def test_layer_normalization_is_fused(form: str, opset: int) -> None:
    nodes, given = FORMS[form], dict(CONSTANTS)
    if opset >= 18:
        nodes = nodes.replace("<axes = [-1]>(x)", "(x, axes)").replace("<axes = [-1]>(p)", "(p, axes)")
        given["axes"] = np.array([2])
    before = build(f"g (float[2,3,8] x) => (float[2,3,8] y) {{ {nodes} }}", given, opset=opset)
    result = prepare(before)
    (node,) = result.model.graph.node
    assert (node.op_type, node.name) == ("LayerNormalization", "last")
    assert_close(run(before, X)["y"], run(result.model, X)["y"])
    assert any(note.startswith("fuse-layer-norm: fused ReduceMean") for note in result.notes)


def test_several_axes() -> None:
    nodes = PLAIN.replace("[-1]", "[1, 2]")
    given = {**CONSTANTS, "gamma": normal(1, 3, 8), "beta": normal(2, 3, 8)}
    before = build(f"g (float[N,3,8] x) => (float[N,3,8] y) {{ {nodes} }}", given)
    after = FUSE(before).model
    assert operators(after) == ["LayerNormalization"]
    assert_close(run(before, X)["y"], run(after, X)["y"])


def test_an_offset_for_each_position_stays_an_add() -> None:
    before = build(f"g (float[2,3,8] x) => (float[2,3,8] y) {{ {PLAIN} }}", {**CONSTANTS, "beta": normal(2, 3, 8)})
    after = FUSE(before).model
    assert operators(after) == ["LayerNormalization", "Add"]
    assert_close(run(before, X)["y"], run(after, X)["y"])


LEFT = {
    "the opset": (PLAIN, {}, 13, "opset 13 has no LayerNormalization, which came with 17"),
    "the axis": (PLAIN.replace("[-1]", "[1]"), {}, 17, "its means are over the axes [1] of 3, not over the last ones"),
    "epsilon": (PLAIN, {"eps": np.float32([-1e-5])}, 17, f"its epsilon is {float(np.float32(-1e-5))!r}, not above 0"),
    "gamma": (PLAIN, {"gamma": normal(1, 1)}, 17, "'q' is not multiplied by a constant of shape [8]"),
    "no gamma": (
        PLAIN.replace("g = Mul(q, gamma)", "g = Neg(q)"),
        {},
        17,
        "'q' is not multiplied by a constant of shape [8]",
    ),
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_left_alone_and_why(kind: str) -> None:
    nodes, more, opset, reason = LEFT[kind]
    before = build(f"g (float[2,3,8] x) => (float[2,3,8] y) {{ [n] {nodes} }}", {**CONSTANTS, **more}, opset=opset)
    result = FUSE(before)
    assert result.notes[-1] == (
        f"fuse-layer-norm: left ReduceMean 'n' and the layer normalization that begins with it alone: {reason}"
    )
    assert list(result.model.graph.node) == list(before.graph.node)


def test_double_precision_is_left() -> None:
    given = {name: value.astype(np.float64) for name, value in CONSTANTS.items()}
    before = build(f"g (double[2,3,8] x) => (double[2,3,8] y) {{ [n] {PLAIN} }}", given)
    assert FUSE(before).notes[-1].endswith("alone: its input 'x' has type float64, not float32 or 16")


@pytest.mark.parametrize("tensor", ["m", "d", "p", "v", "e", "r", "q", "g"])
def test_what_is_read_elsewhere_is_left(tensor: str) -> None:
    text = f"g (float[2,3,8] x) => (float[2,3,8] y, float[A,B,C] z) {{ {PLAIN} z = Neg({tensor}) }}"
    before = build(text, CONSTANTS)
    after = FUSE(before).model
    expected = ["LayerNormalization", "Add", "Neg"] if tensor == "g" else operators(before)
    assert operators(after) == expected
    for name, value in run(before, X).items():
        assert_close(value, run(after, X)[name])


def test_other_powers_are_left() -> None:
    before = build(
        f"g (float[2,3,8] x) => (float[2,3,8] y) {{ {PLAIN} }}", {**CONSTANTS, "two": np.float32(4).reshape(())}
    )
    assert operators(FUSE(before).model) == operators(before)
