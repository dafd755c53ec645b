"""Operators that move or select values: their output shares the grid of their input."""

import numpy as np
import pytest

from tests.operators.harness import PLAIN, Array, Case, Scheme, each, judge, operators, quantized


def _moved(name: str, call: str, output: str, **constants: Array) -> Case:
    return Case(
        name=name,
        text=f"g (float[1,4,8,8] x) => (float[{output}] y) {{ t = Sigmoid(x) y = {call} }}",
        feeds={"x": (1, 4, 8, 8)},
        constants=constants,
        schemes=PLAIN,
    )


def _int64(*values: int) -> Array:
    return np.array(values, np.int64)


EXACT = (
    _moved("reshape", "Reshape(t, s)", "4,64", s=_int64(4, 64)),
    _moved("flatten", "Flatten(t)", "1,256"),
    _moved("transpose", "Transpose<perm = [0,2,3,1]>(t)", "1,8,8,4"),
    _moved("squeeze", "Squeeze(t, a)", "4,8,8", a=_int64(0)),
    _moved("unsqueeze", "Unsqueeze(t, a)", "1,1,4,8,8", a=_int64(0)),
    _moved("slice", "Slice(t, a, b, c)", "1,2,8,8", a=_int64(1), b=_int64(3), c=_int64(1)),
    _moved("max-pool", "MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(t)", "1,4,8,8"),
    _moved("gather-activation", "Gather<axis = 1>(t, i)", "1,2,8,8", i=_int64(1, 3)),
    _moved("resize-nearest", 'Resize<mode = "nearest">(t, , s)', "1,4,16,16", s=np.array([1, 1, 2, 2], np.float32)),
)
AVERAGING = (
    _moved("average-pool", "AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(t)", "1,4,8,8"),
    _moved(
        "average-pool-padding", "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(t)", "1,4,8,8"
    ),
    _moved("resize-linear", 'Resize<mode = "linear">(t, , s)', "1,4,16,16", s=np.array([1, 1, 2, 2], np.float32)),
)
SPLIT = Case(
    name="split",
    text="g (float[1,4,8,8] x) => (float[1,1,8,8] y, float[1,3,8,8] z) { t = Sigmoid(x) y, z = Split<axis = 1>(t, s) }",
    feeds={"x": (1, 4, 8, 8)},
    constants={"s": _int64(1, 3)},
    schemes=PLAIN,
)
POOLS = tuple(
    Case(
        name=f"{op.lower()}-{rank}d",
        text=f"g (float[{shape}] x) => (float[{pooled}] y) {{ t = Sigmoid(x) y = {op}<kernel_shape = {kernel}>(t) }}",
        feeds={"x": tuple(map(int, shape.split(",")))},
        schemes=PLAIN,
    )
    for op in ("MaxPool", "AveragePool")
    for rank, shape, pooled, kernel in ((1, "1,4,9", "1,4,7", "[3]"), (3, "1,2,5,5,5", "1,2,3,3,3", "[3,3,3]"))
)
CASES = (*EXACT, *AVERAGING, SPLIT, *POOLS)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@each(*CASES)
def test_outputs_share_the_grid_of_the_input(case: Case, scheme: Scheme) -> None:
    result = quantized(case, scheme)
    outputs = [value.name for value in case.model().graph.output]
    for name in outputs:
        tensor = result.plan.tensors[name]
        assert tensor.like == "t"
        assert tensor.qparams == result.plan.tensors["t"].qparams
    assert {node.status for node in result.plan.nodes.values()} == {"quantized"}
    assert operators(result.model) == operators(case.model())
    stored = {tensor.name for tensor in result.model.graph.initializer}
    assert not {f"{name}_scale" for name in outputs} & stored


@pytest.mark.parametrize("case", [*CASES], ids=lambda case: case.name)
def test_without_a_grid_to_share_they_stay_float(case: Case) -> None:
    bare = Case(
        name=case.name,
        text=case.text.replace("t = Sigmoid(x)", "t = Erf(x)"),
        feeds=case.feeds,
        constants=case.constants,
    )
    result = quantized(bare)
    assert not result.plan.tensors
    moved = list(result.plan.nodes.values())[-1]
    assert moved.status == "float"
    assert moved.reason == "it only moves values, and its input 't' has no grid to share"


def test_a_chain_shares_one_grid() -> None:
    case = Case(
        name="chain",
        text="""g (float[1,4,8,8] x) => (float[8,8,4] y) {
            t = Sigmoid(x) u = MaxPool<kernel_shape = [1,1]>(t) v = Transpose<perm = [0,2,3,1]>(u) y = Squeeze(v, a)
        }""",
        feeds={"x": (1, 4, 8, 8)},
        constants={"a": _int64(0)},
    )
    result = quantized(case)
    judge(case, result)
    assert {result.plan.tensors[name].like for name in "uvy"} == {"t"}
