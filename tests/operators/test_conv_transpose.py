"""ConvTranspose: weight channels lie on axis 1 within each group, so that groups share their scales."""

import numpy as np

from tests.operators.harness import INT8_CHANNELS, WEIGHTED, Case, Scheme, each, judge, normal, quantized

PLAIN_2D = Case(
    name="conv-transpose",
    text="g (float[1,4,9,9] x) => (float[1,6,11,11] y) { y = ConvTranspose(x, w, b) }",
    feeds={"x": (1, 4, 9, 9)},
    constants={"w": normal(4, 6, 3, 3), "b": normal(6)},
    schemes=WEIGHTED,
)
GROUPS = Case(
    name="conv-transpose-groups",
    text="g (float[1,4,9,9] x) => (float[1,6,11,11] y) { y = ConvTranspose<group = 2>(x, w, b) }",
    feeds={"x": (1, 4, 9, 9)},
    constants={"w": normal(4, 3, 3, 3), "b": normal(6)},
    schemes=WEIGHTED,
)
CASES = (
    PLAIN_2D,
    GROUPS,
    Case(
        name="conv-transpose1d",
        text="g (float[1,4,9] x) => (float[1,6,11] y) { y = ConvTranspose(x, w, b) }",
        feeds={"x": (1, 4, 9)},
        constants={"w": normal(4, 6, 3), "b": normal(6)},
        schemes=WEIGHTED,
    ),
    Case(
        name="conv-transpose3d",
        text="g (float[1,2,4,4,4] x) => (float[1,3,6,6,6] y) { y = ConvTranspose(x, w) }",
        feeds={"x": (1, 2, 4, 4, 4)},
        constants={"w": normal(2, 3, 3, 3, 3)},
        schemes=WEIGHTED,
    ),
)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


def test_bias_of_groups_repeats_the_scales_of_the_weight() -> None:
    plan = quantized(GROUPS, INT8_CHANNELS).plan
    x, w, b = (plan.tensors[name].qparams for name in "xwb")
    assert x is not None
    assert w is not None
    assert b is not None
    assert plan.tensors["w"].spec.axis == 1
    np.testing.assert_array_equal(b.scale, np.tile(x.scale * w.scale, 2))
