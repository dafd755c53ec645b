"""Grids by blocks: every block is a tensor of its own, and onnxruntime.quantization computes the same numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto
from onnxruntime.quantization import quant_utils

from quantlab.arrays import (
    DTYPES,
    FLOAT8E4M3FN,
    INT4,
    INT8,
    QParams,
    QuantSpec,
    Range,
    block_range,
    block_shape,
    dequantize,
    fake_quant,
    qparams_from_range,
    quantize,
)
from quantlab.errors import OptionError, RangeError, ShapeError

KINDS = [row for row in DTYPES.values() if row.bits <= 16 and not row.is_float]
VALUES = st.floats(-1e4, 1e4, width=32)


def slices(shape, axis, size):
    """Index of every block, in a slow loop, with the index of its scale."""
    for number in np.ndindex(block_shape(shape, axis, size)):
        where = [slice(i, i + 1) for i in number]
        where[axis] = slice(number[axis] * size, (number[axis] + 1) * size)
        yield number, tuple(where)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_every_block_is_a_tensor_of_its_own(data):
    x = data.draw(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=7), elements=VALUES))
    axis, size = data.draw(st.integers(0, x.ndim - 1)), data.draw(st.integers(1, 8))
    row, symmetric = data.draw(st.sampled_from(KINDS)), data.draw(st.booleans())
    given_axis = data.draw(st.sampled_from([axis, axis - x.ndim]))
    spec = QuantSpec(dtype=row, symmetric=symmetric, axis=given_axis, block_size=size)
    grid = qparams_from_range(block_range(x, given_axis, size), spec)
    q = quantize(x, grid)
    back, both = dequantize(q, grid), fake_quant(x, grid)
    assert quantize(back, grid).tolist() == q.tolist()
    for number, where in slices(x.shape, axis, size):
        part = x[where]
        own = qparams_from_range(Range(part.min(), part.max()), QuantSpec(dtype=row, symmetric=symmetric))
        assert (grid.scale[number], grid.zero_point[number]) == (own.scale, own.zero_point)
        assert q[where].tolist() == quantize(part, own).tolist()
        assert back[where].tobytes() == dequantize(q[where], own).tobytes()
        assert both[where].tobytes() == fake_quant(part, own).tobytes()
        # Half a step, and the rounding of the quotient, which grows with the number of steps.
        slack = (0.5 + 2.0**-22 * (row.qmax - row.qmin)) * float(own.scale)
        assert np.abs(part.astype(np.float64) - back[where]).max() <= slack


@pytest.mark.parametrize("shape", [(64, 12), (70, 12), (5, 3)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", ["int4", "uint4", "int8", "uint8"])
def test_onnxruntime_quantization_computes_the_same_numbers(name, symmetric, size, axis, shape):
    # Multiples of 1/64: the peer subtracts in float32, and on these that is exact. It divides by the rounded scale
    # though, so that a quotient of exactly a half may go either way there; here it goes to the even neighbour.
    x = (np.rint(np.random.default_rng(0).standard_normal(shape) * 64) / 64).astype(np.float32)
    code = getattr(TensorProto, name.upper())
    zero, scale = quant_utils.compute_scale_zp_blocked(x, code, axis, size, symmetric)
    narrow = symmetric and name == "int8"
    spec = QuantSpec(dtype=DTYPES[name], symmetric=symmetric, narrow_range=narrow, axis=axis, block_size=size)
    grid = qparams_from_range(block_range(x, axis, size), spec)
    assert grid.scale.tobytes() == np.ascontiguousarray(scale).tobytes()
    found = block_range(x, axis, size)
    lo, hi = (64 * np.minimum(found.lo, 0)).astype(np.int64), (64 * np.maximum(found.hi, 0)).astype(np.int64)
    halves, rest = np.divmod(-2 * lo * (spec.qmax - spec.qmin), np.maximum(hi - lo, 1))
    tie = (rest == 0) & (halves % 2 == 1)
    difference = grid.zero_point.astype(np.int64) - zero.astype(np.int64)
    assert not difference[~tie | symmetric].any()
    assert np.abs(difference).max() <= 1


def test_one_block_over_the_axis_is_one_channel():
    x = np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)
    channel = qparams_from_range(Range(x.min(axis=1), x.max(axis=1)), QuantSpec(dtype=INT8, axis=0))
    block = qparams_from_range(block_range(x, 1, 10), QuantSpec(dtype=INT8, axis=1, block_size=10))
    assert block.scale.shape == (6, 1)
    assert block.scale.tolist() == channel.scale[:, None].tolist()
    assert quantize(x, block).tolist() == quantize(x, channel).tolist()


def test_float8_in_blocks():
    x = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    x[:, 4:] *= 100
    spec = QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True, axis=1, block_size=4)
    scale = np.array([[0.5, 2.0, 1.0]] * 3, np.float32)
    grid = QParams(scale=scale, zero_point=np.zeros((3, 3), np.uint8), spec=spec)
    q = quantize(x, grid)
    for number, where in slices(x.shape, 1, 4):
        own = QParams(scale=scale[number], zero_point=np.uint8(0), spec=QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True))
        assert q[where].tolist() == quantize(x[where], own).tolist()
        assert dequantize(q, grid)[where].tolist() == dequantize(q[where], own).tolist()


def test_specs_survive_json_and_older_json_reads_as_before():
    spec = QuantSpec(dtype=INT4, symmetric=True, axis=0, block_size=32)
    assert spec.to_json() == {"dtype": "int4", "symmetric": True, "axis": 0, "block_size": 32}
    assert QuantSpec.from_json(spec.to_json()) == spec
    assert str(spec) == "int4, symmetric, per block of 32 along axis 0"
    assert not spec.per_channel
    older = {"dtype": "int8", "symmetric": True, "axis": 0}
    assert QuantSpec.from_json(older).block_size is None
    assert QuantSpec.from_json(older).to_json() == older
    assert str(QuantSpec.from_json(older)) == "int8, symmetric, per channel of axis 0"


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (4, 6)])
def test_ranges_of_empty_and_whole_blocks(shape):
    found = block_range(np.ones(shape, np.float16), 0, 2)
    assert (found.lo.shape, found.dtype) == (block_shape(shape, 0, 2), np.float16)


def test_messages():
    blocks = QuantSpec(dtype=INT8, axis=1, block_size=4)
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(OptionError, match="got block_size=4 with axis=None: blocks have 1 element or more along an"):
        QuantSpec(dtype=INT8, block_size=4)
    with pytest.raises(OptionError, match="got block_size=0 with axis=1"):
        QuantSpec(dtype=INT8, axis=1, block_size=0)
    with pytest.raises(ShapeError, match=r"axis 2 is out of range for shape \(4, 3\) \(allowed: 0..1\)"):
        block_shape((4, 3), 2, 4)
    with pytest.raises(ShapeError, match="block_size is 0: a block has 1 element or more"):
        block_range(ones, 1, 0)
    with pytest.raises(RangeError, match=r"range \[nan, nan\] of block \(1, 0\) must be finite"):
        block_range(np.array([[1.0, 2.0], [np.nan, 3.0]]), 1, 2)
    with pytest.raises(RangeError, match=r"a range needs two ends of one shape, got \(2, 3\) and \(\)"):
        Range(ones, np.float32(1))
    with pytest.raises(
        RangeError, match=r"must both be arrays of one shape with that axis for int8, asymmetric, per bl"
    ):
        QParams(scale=np.float32(1), zero_point=np.int8(0), spec=blocks)
    with pytest.raises(RangeError, match=r"scale 0.0 \(block \(1, 2\)\) must be positive and finite"):
        QParams(scale=ones * [[1, 1, 1], [1, 1, 0]], zero_point=np.zeros((2, 3), int), spec=blocks)
    with pytest.raises(
        RangeError, match=r"a range of shape \(\) does not fit a grid that is int8, asymmetric, per block"
    ):
        qparams_from_range(Range(np.float32(0), np.float32(1)), blocks)
    grid = QParams(scale=ones, zero_point=np.zeros((2, 3), int), spec=blocks)
    with pytest.raises(
        ShapeError, match=r"shape \(2, 13\) in blocks of 4 along axis 1 needs scales of shape \(2, 4\), the grid has"
    ):
        quantize(np.zeros((2, 13), np.float32), grid)
