"""Gelu out of its parts: every way to write it, on every reader of numbers, and what is not quite it."""

from __future__ import annotations

import numpy as np
import pytest

from quantlab.graph.prepare import fuse_gelu, prepare
from tests.graph.builders import Array, build, normal, operators, run

FUSE = fuse_gelu()
ROOT, HALF, ONE = np.sqrt(np.float64(2)), np.float64(0.5), np.float64(1)
ERF = "d = Div(x, root) e = Erf(d) a = Add(e, one)"
FORMS = {
    "x half, then the rest": f"{ERF} h = Mul(x, half) y = Mul(h, a)",
    "x first, then half": f"{ERF} m = Mul(x, a) y = Mul(m, half)",
    "half first, then x": f"{ERF} m = Mul(half, a) y = Mul(m, x)",
    "times the inverse": f"{ERF.replace('Div(x, root)', 'Mul(inverse, x)')} m = Mul(a, half) y = Mul(x, m)",
    "constants first": f"{ERF.replace('Add(e, one)', 'Add(one, e)')} h = Mul(half, x) y = Mul(a, h)",
}


def constants(dtype: type = np.float32) -> dict[str, Array]:
    values = {"root": ROOT, "inverse": 1 / ROOT, "one": ONE, "half": HALF}
    return {name: np.asarray(value, dtype) for name, value in values.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("opset", [17, 20])
def test_gelu_is_fused(form: str, opset: int) -> None:
    before = build(f"g (float[4,50] x) => (float[4,50] y) {{ {FORMS[form]} }}", constants(), opset=opset)
    before.graph.node[-1].name = "last"
    result = fuse_gelu(contrib=True)(before)
    (node,) = result.model.graph.node
    assert (node.op_type, node.domain, node.name) == ("Gelu", "" if opset >= 20 else "com.microsoft", "last")
    assert result.notes == ("fuse-gelu: fused 5 nodes around unnamed Erf making ['e'] into Gelu 'last'",)
    x = {"x": 3 * normal(0, 4, 50)}
    old, new = run(before, x)["y"], run(result.model, x)["y"]
    # A handful of roundings of numbers up to |x|, in both.
    np.testing.assert_allclose(new, old, rtol=0, atol=16 * np.finfo(np.float32).eps * np.abs(x["x"]).max())


def test_a_root_that_is_computed_is_a_constant_by_then() -> None:
    text = f"g (float[4] x) => (float[4] y) {{ root = Sqrt(two) {FORMS['x first, then half']} }}"
    given = {"two": np.float32(2).reshape(()), "one": np.float32([1]), "half": np.float32([0.5])}
    assert operators(prepare(build(text, given, opset=20)).model) == ["Gelu"]


def test_below_opset_20_it_is_left_unless_asked_for() -> None:
    before = build(f"g (float[4] x) => (float[4] y) {{ {FORMS['x first, then half']} }}", constants())
    result = FUSE(before)
    assert result.notes == ("fuse-gelu: left unnamed Erf making ['e'] alone: opset 17 has no Gelu, which came with 20",)
    assert result.model == before
    assert operators(prepare(before, contrib_gelu=True).model) == ["Gelu"]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("root", 1.414, "sqrt(2)"), ("one", 1.5, "1"), ("half", 0.25, "0.5")],
)
def test_other_numbers_are_another_function(name: str, value: float, wanted: str) -> None:
    given = {**constants(), name: np.float32(value).reshape(())}
    before = build(f"g (float[4] x) => (float[4] y) {{ {FORMS['x first, then half']} }}", given, opset=20)
    result = FUSE(before)
    assert result.notes == (
        f"fuse-gelu: left unnamed Erf making ['e'] alone: its constant {name!r} is {float(np.float32(value))!r}, not "
        f"{wanted}",
    )
    assert result.model == before


@pytest.mark.parametrize("tensor", ["d", "e", "a", "m"])
def test_what_is_read_elsewhere_is_left(tensor: str) -> None:
    text = f"g (float[4] x) => (float[4] y, float[4] z) {{ {FORMS['x first, then half']} z = Neg({tensor}) }}"
    before = build(text, constants(), opset=20)
    assert FUSE(before).model == before


def test_another_input_is_left() -> None:
    nodes = f"{ERF} m = Mul(u, a) y = Mul(m, half)"
    before = build(f"g (float[4] x, float[4] u) => (float[4] y) {{ {nodes} }}", constants(), opset=20)
    assert FUSE(before).model == before
