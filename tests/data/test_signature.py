"""What a signature accepts and answers."""

import numpy as np
import pytest

from quantlab.data import InputSpec, Signature
from quantlab.errors import DataError
from tests.data.data_specs import signature


def test_dims_that_mean_unknown_become_none():
    assert InputSpec(name="x", dtype=np.dtype(">f4"), shape=(-1, 0, "T", 3)).shape == (None, None, "T", 3)
    assert InputSpec(name="x", dtype=np.dtype(">f4"), shape=()).dtype == np.dtype("float32")


@pytest.mark.parametrize(
    ("inputs", "batch_size"),
    [
        ({"x": ("float32", 4, 3)}, 4),
        ({"x": ("float32", "N", 3)}, None),
        ({"x": ("float32", 4, 3), "y": ("float32", 2)}, None),
        ({"x": ("float32", 4, 3), "s": ("float32",)}, 4),
        ({"s": ("float32",)}, None),
    ],
)
def test_batch_size_is_what_all_inputs_fix_alike(inputs, batch_size):
    assert signature(**inputs).batch_size == batch_size


def test_inputs_are_found_by_name():
    model = signature(ids=("int64", "N", "T"), mask=("int64", "N", "T"))
    assert (model["mask"].rank, len(model), [spec.name for spec in model]) == (2, 2, ["ids", "mask"])
    with pytest.raises(DataError, match=r"'mas' is not an input of the model; did you mean 'mask'\?"):
        model["mas"]


def test_impossible_signatures_are_refused():
    with pytest.raises(DataError, match="the model has no inputs"):
        Signature(inputs=())
    spec = InputSpec(name="x", dtype=np.dtype("float32"), shape=())
    with pytest.raises(DataError, match="two inputs have the name 'x'"):
        Signature(inputs=(spec, spec))
