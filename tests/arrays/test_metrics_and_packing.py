"""Metrics by hand-made vectors, packing against onnx's own."""

import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper

from quantlab.arrays import DTYPES, INT8, cosine, mse, pack, ratio_from_db, sqnr, sqnr_from_powers, unpack
from quantlab.errors import ShapeError


def test_sqnr_of_hand_made_vectors():
    x = np.array([3.0, 4.0], np.float32)
    assert sqnr(x, np.array([3.0, 4.5], np.float32)) == pytest.approx(20.0)
    assert sqnr(x, x) == math.inf
    assert sqnr(np.zeros(2), np.zeros(2)) == math.inf
    assert sqnr(np.zeros(2), np.ones(2)) == -math.inf
    assert sqnr_from_powers(25.0, 0.25) == pytest.approx(20 * math.log10(5 / 0.5))


def test_decibels_and_ratios_of_the_literature():
    assert [round(ratio_from_db(db), 1) for db in (23, 37, 46, 71)] == [14.1, 70.8, 199.5, 3548.1]


def test_integers_are_subtracted_without_wrapping():
    assert mse(np.array([100], np.int8), np.array([-100], np.int8)) == 40000.0


def test_cosine_at_its_ends():
    x = np.array([1.0, 2.0])
    assert cosine(x, 3 * x) == pytest.approx(1.0)
    assert cosine(x, -x) == pytest.approx(-1.0)
    assert cosine(np.zeros(2), np.zeros(2)) == 1.0
    assert cosine(np.zeros(2), x) == 0.0


def test_each_further_bit_is_worth_about_six_decibels():
    x = np.random.default_rng(0).uniform(-1, 1, 100_000)
    levels = [sqnr(x, np.rint(x * 2**bits) / 2**bits) for bits in range(3, 12)]
    assert np.allclose(np.diff(levels), 20 * math.log10(2), atol=0.1)


@pytest.mark.parametrize("measure", [mse, sqnr, cosine])
def test_shapes_must_agree(measure):
    with pytest.raises(ShapeError, match=r"cannot compare shape \(2,\) with \(3,\)"):
        measure(np.zeros(2), np.zeros(3))


@settings(deadline=None)
@given(st.sampled_from(["int4", "uint4"]), st.data())
def test_packing_is_onnx_packing_and_comes_back(name, data):
    row = DTYPES[name]
    values = data.draw(hnp.arrays(row.storage, st.integers(0, 33), elements=st.integers(row.qmin, row.qmax)))
    packed = pack(values, row)
    theirs = helper.make_tensor("t", row.onnx_code, values.shape, values.tolist())
    ours = onnx.TensorProto(name="t", data_type=row.onnx_code, dims=values.shape, raw_data=packed.tobytes())
    assert onnx.numpy_helper.to_array(ours).tolist() == onnx.numpy_helper.to_array(theirs).tolist()
    assert unpack(packed, values.size, row).tolist() == values.tolist()


def test_packing_messages():
    with pytest.raises(ShapeError, match=r"int8 needs no packing: each value fills 1 byte"):
        pack(np.zeros(2, np.int8), INT8)
    with pytest.raises(ShapeError, match="1 bytes hold 2 values of int4, not 3"):
        unpack(np.zeros(1, np.uint8), 3, DTYPES["int4"])
