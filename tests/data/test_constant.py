"""Data that cannot stand for real data draws one warning."""

import numpy as np
import pytest

from quantlab.data import batches
from quantlab.errors import QuantlabWarning
from tests.data.data_specs import ramp, signature, vector

CURE = "say nothing about real inputs; feed some 100 different samples"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.ones((2, 3)), "all 2 samples are identical"),
        (np.ones((20, 3)), "the first 8 samples are identical"),
        ([np.ones((9, 3))], "the first 8 samples are identical"),
        (np.zeros((1, 3)), "the only sample is all zeros"),
        (np.zeros((5, 3)), "all 5 samples are all zeros"),
    ],
)
def test_constant_data_draws_one_warning_in_the_first_pass(data, said):
    stream = batches(data, vector())
    with pytest.warns(QuantlabWarning, match=f"{said}: ranges measured on them {CURE}") as caught:
        list(stream)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    list(stream)


@pytest.mark.parametrize("data", [ramp(2, 3), np.ones((1, 3)), [ramp(2, 3)]])
def test_other_data_draws_none(data):
    list(batches(data, vector()))


def test_one_constant_input_among_several_is_usual():
    model = signature(ids=("int64", "N"), mask=("int64", "N"), words=("O", "N"))
    list(batches({"ids": np.arange(3), "mask": np.ones(3, int), "words": np.array(["a"] * 3, object)}, model))
