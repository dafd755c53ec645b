"""Resize: shares the input's grid, except where it leaves the input's range."""

import numpy as np

from tests.operators.harness import PLAIN, Case, Scheme, each, judge, quantized

CUBIC = Case(
    name="resize-cubic",
    text='g (float[1,4,8,8] x) => (float[1,4,16,16] y) { t = Sigmoid(x) y = Resize<mode = "cubic">(t, , s) }',
    feeds={"x": (1, 4, 8, 8)},
    constants={"s": np.array([1, 1, 2, 2], np.float32)},
    schemes=PLAIN,
)
CROP = Case(
    name="resize-crop",
    text="""g (float[1,4,8,8] x) => (float[1,4,16,16] y) {
        t = Sigmoid(x)
        y = Resize<mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize", extrapolation_value = 5.0>
            (t, r, , s)
    }""",
    feeds={"x": (1, 4, 8, 8)},
    constants={"r": np.array([0, 0, 0, 0, 1, 1, 1.5, 1.5], np.float32), "s": np.array([1, 4, 16, 16], np.int64)},
    schemes=PLAIN,
)
CASES = (CUBIC, CROP)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


@each(*CASES)
def test_what_overshoots_has_a_grid_of_its_own(case: Case, scheme: Scheme) -> None:
    plan = quantized(case, scheme).plan
    assert plan.tensors["y"].like is None
    assert set(plan.tensors) == {"x", "t", "y"}
