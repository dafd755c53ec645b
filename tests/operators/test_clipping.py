"""Relu and Clip: gone where the grid behind them saturates at the same bounds, kept wherever it does not."""

import numpy as np
import pytest

from tests.operators.harness import INT8, PLAIN, SYMMETRIC, Case, Scheme, each, judge, normal, operators, quantized


def _clip(name: str, call: str, **bounds: float) -> Case:
    constants = {bound: np.asarray(value, np.float32) for bound, value in bounds.items()}
    return Case(
        name=name,
        text=f"g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ t = Add(x, c) y = {call} }}",
        feeds={"x": (1, 4, 8, 8)},
        constants={"c": normal(4, 1, 1), **constants},
        schemes=PLAIN,
    )


SATURATING = (
    _clip("relu", "Relu(t)"),
    _clip("relu6", "Clip(t, lo, hi)", lo=0, hi=6),
    _clip("clip-0-1", "Clip(t, lo, hi)", lo=0, hi=1),
    _clip("clip-upper", "Clip(t, , hi)", hi=1),
    _clip("clip-lower", "Clip(t, lo)", lo=-0.5),
    _clip("clip-even", "Clip(t, lo, hi)", lo=-1, hi=1),
    _clip("clip-uneven", "Clip(t, lo, hi)", lo=-0.3, hi=1.1),
    _clip("clip-unbounded", "Clip(t)"),
)
WITHOUT_ZERO = (
    _clip("clip-above-zero", "Clip(t, lo, hi)", lo=0.5, hi=1),
    _clip("clip-below-zero", "Clip(t, lo, hi)", lo=-1, hi=-0.5),
)
COMPUTED = Case(
    name="clip-computed",
    text="g (float[1,4,8,8] x, float lo) => (float[1,4,8,8] y) { t = Add(x, c) y = Clip(t, lo) }",
    feeds={"x": (1, 4, 8, 8), "lo": ()},
    constants={"c": normal(4, 1, 1)},
    schemes=PLAIN,
)
CASES = (*SATURATING, *WITHOUT_ZERO, COMPUTED)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@each(*SATURATING)
def test_an_asymmetric_grid_saturates_where_they_clip(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    (clip,) = [node for node in result.plan.nodes.values() if node.op in ("Relu", "Clip")]
    if scheme is SYMMETRIC:
        assert clip.status == "quantized"
        assert clip.reason == "kept between grids: a symmetric grid does not end where it clips"
        assert operators(result.model) == ["Add", clip.op]
        assert result.plan.tensors["t"].range_of == "y"
    else:
        assert clip.status == "absorbed"
        assert operators(result.model) == ["Add"]
        assert "t" not in result.plan.tensors
        assert result.plan.tensors["y"].absorbs == "t"


@each(*WITHOUT_ZERO)
def test_bounds_without_zero_stay(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    assert operators(result.model) == ["Add", "Clip"]
    (clip,) = [node for node in result.plan.nodes.values() if node.op == "Clip"]
    assert clip.status == "quantized"


def test_computed_bounds_leave_a_clip_in_float() -> None:
    result = quantized(COMPUTED)
    (clip,) = [node for node in result.plan.nodes.values() if node.op == "Clip"]
    assert (clip.status, clip.reason) == ("float", "its bounds are computed while the model runs")
    assert "y" not in result.plan.tensors


@pytest.mark.parametrize("scheme", PLAIN, ids=lambda scheme: scheme.name)
def test_a_relu_that_never_fires_gives_zero(scheme: Scheme) -> None:
    case = _clip("dead-relu", "Relu(t)")
    dead = Case(
        name="dead-relu",
        text=case.text,
        feeds=case.feeds,
        constants={"c": np.full((4, 1, 1), -100, np.float32)},
        schemes=PLAIN,
    )
    judge(dead, quantized(dead, scheme))


def test_a_clip_behind_a_relu_is_kept_between_grids() -> None:
    case = Case(
        name="relu-clip",
        text="g (float[1,4,8,8] x) => (float[1,4,8,8] y) { t = Add(x, c) u = Relu(t) y = Clip(u, , hi) }",
        feeds={"x": (1, 4, 8, 8)},
        constants={"c": normal(4, 1, 1), "hi": np.asarray(1, np.float32)},
    )
    result = quantized(case, INT8)
    judge(case, result)
    assert {node.op: node.status for node in result.plan.nodes.values()} == {
        "Add": "quantized", "Relu": "absorbed", "Clip": "quantized"
    }  # fmt: skip
    assert operators(result.model) == ["Add", "Clip"]
    assert result.plan.tensors["u"].range_of == "y"


@pytest.mark.parametrize("name", ["float-input", "read-twice", "output", "shared"])
def test_what_a_relu_reads_decides_whether_it_goes(name: str) -> None:
    body, outputs, status = {
        "float-input": ("y = Relu(x)", "float[1,4,8,8] y", "float"),
        "read-twice": ("t = Add(x, c) u = Relu(t) y = Mul(u, t)", "float[1,4,8,8] y", "quantized"),
        "output": ("t = Add(x, c) y = Relu(t)", "float[1,4,8,8] y, float[1,4,8,8] t", "quantized"),
        "shared": ("t = Add(x, c) u = Transpose(t) y = Relu(u)", "float[8,8,4,1] y", "quantized"),
    }[name]
    case = Case(
        name=name,
        text=f"g (float[1,4,8,8] x) => ({outputs}) {{ {body} }}",
        feeds={"x": (1, 4, 8, 8)},
        constants={"c": normal(4, 1, 1)} if "c" in body.split("(x, ")[-1][:1] else {},
    )
    result = quantized(case, INT8)
    judge(case, result)
    (relu,) = [node for node in result.plan.nodes.values() if node.op == "Relu"]
    assert relu.status == status
    assert "Relu" in operators(result.model)
