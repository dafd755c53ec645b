"""Inputs made up from a signature: shapes, types, and the same numbers again."""

import re

import numpy as np
import pytest

from quantlab.data import InputSpec, Signature
from quantlab.data.made import made_batch
from quantlab.errors import OptionError


def spec(name, dtype, *shape):
    return InputSpec(name=name, dtype=np.dtype(dtype), shape=shape)


MODEL = Signature(
    inputs=(
        spec("image", "float32", "N", 3, "H", None),
        spec("ids", "int64", "N", "T"),
        spec("mask", "bool", "N", 1),
        spec("scale", "float16"),
        spec("text", "object", 2),
    )
)


def test_open_sizes_are_1_unless_they_are_given():
    made = made_batch(MODEL, shapes={"H": 8, "T": 5, "N": 2})
    assert {name: array.shape for name, array in made.items()} == {
        "image": (2, 3, 8, 1),
        "ids": (2, 5),
        "mask": (2, 1),
        "scale": (),
        "text": (2,),
    }
    assert [array.dtype for array in made.values()] == [each.dtype for each in MODEL]
    assert set(made["ids"].ravel().tolist()) <= {0, 1}
    assert np.isfinite(made["image"]).all()


def test_a_batch_size_or_the_whole_shape_of_an_input():
    one = Signature(inputs=(spec("x", "float32", "N", None, None),))
    assert made_batch(one, batch_size=4)["x"].shape == (4, 1, 1)
    assert made_batch(one, shapes={"x": (2, 3, 4)})["x"].shape == (2, 3, 4)
    assert made_batch(Signature(inputs=(spec("x", "float32", None),)), shapes={"x": 7})["x"].shape == (7,)


def test_numbers_depend_on_the_seed_and_the_name_alone():
    def x(seed, *others):
        made = made_batch(Signature(inputs=(*others, spec("x", "float32", 3, 4))), seed=seed)
        return made["x"].tolist()

    assert x(0) == x(0, spec("a", "float32", 2))
    assert x(0) != x(1)
    same = made_batch(Signature(inputs=(spec("a", "float32", 9), spec("b", "float32", 9))))
    assert same["a"].tolist() != same["b"].tolist()
    assert not made_batch(MODEL, fill="zeros")["image"].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shapes": {"W": 3}}, "the model has no input and no symbolic size 'W' (it has: H, N, T, ids, image, mask"),
        ({"shapes": {"H": 0}}, "input 'image' wants (N, 3, H, ?), got (1, 3, 0, 1): give a whole number of 1 or more"),
        ({"shapes": {"ids": (1, 2, 3)}}, "input 'ids' wants (N, T), got (1, 2, 3): give a whole number of 1 or more"),
        ({"shapes": {"image": (1, 4, 1, 1)}}, "input 'image' wants (N, 3, H, ?), got (1, 4, 1, 1): the model fixes 3"),
        ({"batch_size": 3}, "input 'text' wants (2,), got (2,) at batch size 3: leave the batch size out"),
        ({"fill": "ones"}, "fill='ones' is not known (allowed: random, zeros)"),
    ],
)
def test_what_cannot_be_made(options, words):
    with pytest.raises(OptionError, match=re.escape(words)):
        made_batch(MODEL, **options)
