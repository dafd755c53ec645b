"""Two passes that give different data draw one warning; the same data, sliced or not, draws none."""

import numpy as np
import pytest

from quantlab.data import batches
from quantlab.errors import QuantlabWarning
from tests.data.data_specs import Ranging, Rewinding, ramp, vector

TEXT = r"gave another batch 0 in one pass than in the pass before: what is measured in several passes will not fit"


class Random:
    """Map-style samples with a random change, as augmentation makes."""

    def __init__(self, count=4):
        self.random, self.count = np.random.default_rng(0), count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError
        return {"x": self.random.normal(size=(1, 3))}


def shuffled():
    random = np.random.default_rng(0)
    return lambda: (row[None] for row in random.permutation(ramp(50, 3)))


class Wandering(Rewinding):
    def rewind(self):
        self.left = iter(self.all[::-1])


@pytest.mark.parametrize(
    "make",
    [Random, shuffled, lambda: Wandering([{"x": row[None]} for row in ramp(4, 3)]), lambda: Ranging(Random())],
    ids=["by number", "iterated", "rewinding reader", "ranged reader"],
)
def test_random_data_draws_one_warning_in_the_second_pass(make):
    stream = batches(make(), vector())
    list(stream)
    with pytest.warns(QuantlabWarning, match=TEXT) as caught:
        list(stream)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    list(stream)


def test_slices_of_one_source_are_compared_by_position():
    stream = batches(ramp(6, 3), vector())
    for start in (0, 1, 2, 1, 0):
        list(stream.strided(start, None, 2))
    list(stream)
    random = batches(Random(), vector())
    list(random.strided(1, 3))
    list(random.strided(2, 4))
    with pytest.warns(QuantlabWarning, match="gave another batch 1 in one pass"):
        list(random.strided(1, None, 2))


@pytest.mark.parametrize("data", [ramp(4, 3), [ramp(2, 3), ramp(1, 3)], Ranging([{"x": r[None]} for r in ramp(3, 3)])])
def test_the_same_data_draws_none(data):
    stream = batches(data, vector())
    for _ in range(3):
        list(stream)
