"""Pad: copies of the data and zeros lie on the input's grid, another constant widens the output's."""

import numpy as np

from tests.operators.harness import PLAIN, Case, Scheme, each, judge, quantized


def _pad(name: str, mode: str = "constant", value: float | None = None) -> Case:
    constants = {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)}
    if value is not None:
        constants["v"] = np.asarray(value, np.float32)
    call = f'Pad<mode = "{mode}">(t, p{", v" if value is not None else ""})'
    return Case(
        name=f"pad-{name}",
        text=f"g (float[1,4,8,8] x) => (float[1,4,10,10] y) {{ t = Sigmoid(x) y = {call} }}",
        feeds={"x": (1, 4, 8, 8)},
        constants=constants,
        schemes=PLAIN,
    )


SHARING = (_pad("default"), _pad("zero", value=0), _pad("reflect", "reflect"), _pad("edge", "edge"))
WIDENING = (_pad("3", value=3), _pad("minus-3", value=-3))
COMPUTED = Case(
    name="pad-computed",
    text="g (float[1,4,8,8] x, float v) => (float[1,4,10,10] y) { t = Sigmoid(x) y = Pad(t, p, v) }",
    feeds={"x": (1, 4, 8, 8), "v": ()},
    constants={"p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)},
    schemes=PLAIN,
)
CASES = (*SHARING, *WIDENING, COMPUTED)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@each(*SHARING)
def test_zeros_and_copies_share(case: Case, scheme: Scheme) -> None:
    assert quantized(case, scheme).plan.tensors["y"].like == "t"


@each(*WIDENING, COMPUTED)
def test_other_values_have_a_grid_of_their_own(case: Case, scheme: Scheme) -> None:
    plan = quantized(case, scheme).plan
    assert plan.tensors["y"].like is None
    assert "v" not in plan.tensors
