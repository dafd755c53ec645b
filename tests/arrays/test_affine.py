"""Arrays on grids: laws, and the shapes that do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab import kernels
from quantlab.arrays import DTYPES, FLOAT8E4M3FN, INT8, QParams, QuantSpec, dequantize, fake_quant, quantize
from quantlab.errors import ShapeError

KINDS = [row for row in DTYPES.values() if row.bits <= 16 and not row.is_float]
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=5), elements=st.floats(width=32, allow_nan=False))


@st.composite
def grids(draw, per_channel=None):
    row = draw(st.sampled_from(KINDS))
    shape = () if per_channel is None else (per_channel,)
    scale = draw(hnp.arrays(np.float32, shape, elements=st.floats(2.0**-20, 2.0**20, width=32)))
    zero = draw(hnp.arrays(np.int64, shape, elements=st.integers(row.qmin, row.qmax)))
    axis = None if per_channel is None else 0
    return QParams(scale=scale, zero_point=zero, spec=QuantSpec(dtype=row, axis=axis))


@settings(deadline=None)
@given(ARRAYS, grids())
def test_quantizing_is_idempotent_and_fake_quant_is_the_round_trip(x, grid):
    q = quantize(x, grid)
    back = dequantize(q, grid)
    assert q.dtype == grid.spec.dtype.storage
    assert quantize(back, grid).tolist() == q.tolist()
    assert fake_quant(x, grid).tobytes() == back.astype(np.float32).tobytes()


@settings(deadline=None)
@given(hnp.arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False)), grids())
def test_quantizing_is_monotone(x, grid):
    assert (np.diff(quantize(np.sort(x), grid).astype(np.int64)) >= 0).all()


@settings(deadline=None)
@given(st.data())
def test_per_channel_is_per_tensor_on_each_channel(data):
    x = data.draw(hnp.arrays(np.float32, (3, 4), elements=st.floats(-1e3, 1e3, width=32)))
    grid = data.draw(grids(per_channel=3))
    alone = [
        QParams(scale=s, zero_point=z, spec=QuantSpec(dtype=grid.spec.dtype))
        for s, z in zip(grid.scale, grid.zero_point, strict=True)
    ]
    q = quantize(x, grid)
    assert q.tolist() == [quantize(row, g).tolist() for row, g in zip(x, alone, strict=True)]
    assert dequantize(q, grid).tolist() == [dequantize(row, g).tolist() for row, g in zip(q, alone, strict=True)]
    assert fake_quant(x, grid).tolist() == [fake_quant(row, g).tolist() for row, g in zip(x, alone, strict=True)]


def test_values_outside_saturate():
    grid = QParams(scale=np.float32(1), zero_point=np.int8(0), spec=QuantSpec(dtype=INT8))
    assert quantize(np.array([-np.inf, -1e30, 1e30, np.inf], np.float32), grid).tolist() == [-128, -128, 127, 127]


def test_symmetric_grid_is_odd():
    grid = QParams(scale=np.float32(0.1), zero_point=np.int8(0), spec=QuantSpec(dtype=INT8, symmetric=True))
    x = np.linspace(0, 12.6, 1000, dtype=np.float32)
    assert (quantize(-x, grid) == -quantize(x, grid)).all()


@pytest.mark.parametrize("act", [quantize, fake_quant])
def test_messages(act):
    grid = QParams(scale=np.ones(3, np.float32), zero_point=np.zeros(3, np.int8), spec=QuantSpec(dtype=INT8, axis=2))
    with pytest.raises(ShapeError, match=r"axis 2 is out of range for shape \(4, 3\) \(allowed: 0..1\)"):
        act(np.zeros((4, 3), np.float32), grid)
    with pytest.raises(ShapeError, match=r"shape \(1, 1, 4\) has 4 channels along axis 2, the grid has 3"):
        act(np.zeros((1, 1, 4), np.float32), grid)


GRIDS = {
    "tensor": QuantSpec(dtype=INT8),
    "channels": QuantSpec(dtype=INT8, axis=0),
    "blocks": QuantSpec(dtype=INT8, axis=1, block_size=32),
    "float8": QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True, axis=0),
}


def grid_of(spec, shape):
    sizes = {None: (), 0: shape[:1], 1: (shape[0], -(-shape[1] // 32))}[spec.axis]
    zero = np.zeros(sizes, np.int64) if spec.dtype.is_float else np.arange(np.prod(sizes, dtype=int)).reshape(sizes) % 7
    return QParams(scale=np.full(sizes, 0.1, np.float32), zero_point=zero, spec=spec)


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("using", ["numpy", "numba"])
def test_results_go_to_memory_of_the_caller(kind, using):
    x = np.random.default_rng(0).standard_normal((3, 500), np.float32)
    grid = grid_of(GRIDS[kind], x.shape)
    with kernels.using(using):
        q, back, made = quantize(x, grid), dequantize(quantize(x, grid), grid), fake_quant(x, grid)
        out_q, out_back, out_made = np.empty_like(q), np.empty_like(back), np.empty_like(made)
        assert quantize(x, grid, out=out_q) is out_q
        assert dequantize(q, grid, out=out_back) is out_back
        assert fake_quant(x, grid, out=out_made) is out_made
        pairs = [(out_q, q), (out_back, back), (out_made, made)]
        assert all(got.tobytes() == want.tobytes() for got, want in pairs)
        assert fake_quant(x, grid, out=x) is x
    assert x.tobytes() == made.tobytes()


@pytest.mark.parametrize("kind", GRIDS)
def test_memory_that_does_not_suit_is_refused(kind):
    x = np.zeros((3, 500), np.float32)
    grid = grid_of(GRIDS[kind], x.shape)
    storage = grid.spec.dtype.storage
    text = (
        r"^out takes a writeable, contiguous {} array of shape \(3, 500\); got float64 of shape \(3, 500\), contiguous"
    )
    with pytest.raises(ValueError, match=text.format(storage)):
        quantize(x, grid, out=np.zeros((3, 500)))
    with pytest.raises(ValueError, match=text.format("float32")):
        dequantize(quantize(x, grid), grid, out=np.zeros((3, 500)))
    with pytest.raises(ValueError, match=text.format("float32")):
        fake_quant(x, grid, out=np.zeros((3, 500)))
