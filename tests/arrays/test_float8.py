"""Float8 grids: levels against ml_dtypes, arithmetic against onnxruntime, onnx and a search for the nearest level."""

import ctypes

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization.quant_utils import compute_scale_zp_float8

from quantlab.arrays import (
    BY_ONNX_CODE,
    DTYPES,
    INT8,
    QParams,
    QuantSpec,
    Range,
    dequantize,
    dtype,
    fake_quant,
    float8_levels,
    qparams_from_range,
    quantize,
)
from quantlab.errors import OptionError, RangeError, ShapeError

PEERS = {
    "float8e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8e5m2": ml_dtypes.float8_e5m2,
    "float8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}
KINDS = [DTYPES[name] for name in PEERS]
ONNX_FLOAT = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}
CODES = np.arange(256, dtype=np.uint8)
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-7, -1e-7, 448, 464, 465, -480, 57344, 61440, 61441, 65504]
kinds = pytest.mark.parametrize("row", KINDS, ids=str)
floats = pytest.mark.parametrize("real", [np.float32, np.float16])


def grid_of(row, scale, axis=None):
    zeros = np.zeros(np.shape(scale), np.uint8)
    return QParams(scale=scale, zero_point=zeros, spec=QuantSpec(dtype=row, symmetric=True, axis=axis))


def model(op, row, real, axis):
    zero = helper.make_tensor("z", row.onnx_code, [3] if axis is not None else [], [0] * (1 if axis is None else 3))
    ends = (ONNX_FLOAT[real], row.onnx_code)
    taken, made = ends if op == "QuantizeLinear" else ends[::-1]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "s", "z"], ["y"], **({} if axis is None else {"axis": axis}))],
        "g",
        [helper.make_tensor_value_info("x", taken, None), helper.make_tensor_value_info("s", ONNX_FLOAT[real], None)],
        [helper.make_tensor_value_info("y", made, None)],
        [zero],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def in_onnxruntime(op, row, x, scale, axis=None):
    """Bits out of QuantizeLinear, numbers out of DequantizeLinear; Python has no arrays for all of these types."""
    content = model(op, row, scale.dtype.type, axis).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    value = onnxruntime.OrtValue
    fed = value.ortvalue_from_numpy(x) if x.dtype != np.uint8 else (
        value.ortvalue_from_numpy_with_onnx_type(x, row.onnx_code)
    )  # fmt: skip
    made = session.run_with_ort_values(["y"], {"x": fed, "s": value.ortvalue_from_numpy(scale)})[0]
    if op == "DequantizeLinear":
        return made.numpy()
    return np.ctypeslib.as_array((ctypes.c_uint8 * x.size).from_address(made.data_ptr())).copy().reshape(x.shape)


def many(real, seed=0):
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        return np.append(rng.normal(size=50_000) * np.exp(4 * rng.normal(size=50_000)), SPECIAL).astype(real)


@kinds
def test_rows_agree_with_onnx_and_ml_dtypes(row):
    assert TensorProto.DataType.Name(row.onnx_code) == row.name.upper()
    assert BY_ONNX_CODE[row.onnx_code] is row
    info = ml_dtypes.finfo(PEERS[row.name])
    assert (row.qmin, row.qmax) == (info.min, info.max)
    assert (row.bits, row.signed, row.is_float, row.min_opset) == (8, True, True, 19)
    wanted = CODES.view(PEERS[row.name]).astype(np.float32)
    one = grid_of(row, np.float32(1))
    assert dequantize(CODES, one).astype(np.float32).tobytes() == wanted.tobytes() or np.array_equal(
        dequantize(CODES, one), wanted, equal_nan=True
    )
    finite = wanted[np.isfinite(wanted)]
    assert float8_levels(row).tobytes() == finite.tobytes()


@kinds
@floats
@pytest.mark.parametrize("scale", [0.37, 1.0, 3e-3])
def test_quantize_equals_onnxruntime(row, real, scale):
    x, scale = many(real), np.array(scale, real)
    assert quantize(x, grid_of(row, scale)).tobytes() == in_onnxruntime("QuantizeLinear", row, x, scale).tobytes()


@kinds
@floats
@pytest.mark.parametrize("scale", [0.37, 1.0, 3e-3])
def test_dequantize_equals_onnxruntime(row, real, scale):
    scale = np.array(scale, real)
    ours, theirs = dequantize(CODES, grid_of(row, scale)), in_onnxruntime("DequantizeLinear", row, CODES, scale)
    assert ours.dtype == theirs.dtype == real
    known = ~np.isnan(theirs)
    assert (np.isnan(ours) == ~known).all()
    assert ours[known].tobytes() == theirs[known].tobytes()


@kinds
@pytest.mark.parametrize("axis", [0, 1])
def test_channels_equal_onnxruntime(row, axis):
    x = np.random.default_rng(1).normal(size=(3, 3, 40)).astype(np.float32) * 50
    scale = np.array([0.01, 0.5, 3.0], np.float32)
    grid = grid_of(row, scale, axis)
    codes = in_onnxruntime("QuantizeLinear", row, x, scale, axis)
    assert quantize(x, grid).tobytes() == codes.tobytes()
    wanted = in_onnxruntime("DequantizeLinear", row, codes, scale, axis)
    assert dequantize(codes, grid).tobytes() == fake_quant(x, grid).tobytes() == wanted.tobytes()
    with pytest.raises(ShapeError, match=r"^shape \(4, 4\) has 4 channels along axis"):
        quantize(x[0, :1].reshape(10, 4)[:4], grid)


@kinds
def test_quantize_equals_the_reference_of_onnx(row):
    x, scale = many(np.float32, 2), np.array(0.37, np.float32)
    (made,) = ReferenceEvaluator(model("QuantizeLinear", row, np.float32, None)).run(None, {"x": x, "s": scale})
    ours, theirs = quantize(x, grid_of(row, scale)), np.asarray(made).view(np.uint8)
    # float8e5m2 has three codes for NaN: onnx gives another one than onnxruntime.
    known = ~np.isnan(x)
    assert ours[known].tobytes() == theirs[known].tobytes()
    assert np.isnan(dequantize(ours[~known], grid_of(row, scale))).all()


@kinds
@settings(deadline=None)
@given(x=hnp.arrays(np.float32, 20, elements=st.floats(-1e5, 1e5, width=32)))
def test_each_value_goes_to_the_nearest_level(row, x):
    grid = grid_of(row, np.float32(1))
    got = fake_quant(x, grid).astype(np.float64)
    levels = float8_levels(row).astype(np.float64)
    assert (np.abs(got - x) == np.abs(levels[:, None] - x).min(axis=0)).all()
    assert quantize(fake_quant(x, grid), grid).tobytes() == quantize(x, grid).tobytes()
    order = np.argsort(x)
    assert (np.diff(got[order]) >= 0).all()


@kinds
def test_halfway_goes_to_the_even_code(row):
    levels = np.unique(np.abs(float8_levels(row)))
    codes = quantize((levels[:-1] + levels[1:]) / 2, grid_of(row, np.float32(1)))
    assert (codes % 2 == 0).all()


@kinds
def test_a_range_becomes_a_scale(row):
    grid = qparams_from_range(Range(np.float32(-1), np.float32(3)), QuantSpec(dtype=row, symmetric=True))
    assert grid.scale == np.float32(3 / row.qmax)
    assert (int(grid.zero_point), float(grid.span().hi)) == (0, float(grid.scale) * row.qmax)
    assert float(fake_quant(np.array([3], np.float32), grid)[0]) == pytest.approx(3, rel=1e-6)


def test_the_scale_of_onnxruntime_comes_from_a_range_of_its_own():
    deviation = np.array(1.7, np.float32)
    zero, scale = compute_scale_zp_float8(TensorProto.FLOAT8E4M3FN, deviation)
    assert float(zero) == 0
    levels = float8_levels(DTYPES["float8e4m3fn"])
    assert scale == np.float32(deviation / np.std(levels))
    end = float(scale) * 448
    grid = qparams_from_range(Range(-end, end), QuantSpec(dtype=DTYPES["float8e4m3fn"], symmetric=True))
    assert np.float32(grid.scale) == scale


def test_types_are_found_in_every_spelling():
    for name in ("float8e4m3fn", "FLOAT8E4M3FN", "QFLOAT8E4M3FN", "QuantType.QFLOAT8E4M3FN"):
        assert dtype(name) is DTYPES["float8e4m3fn"]
    spec = QuantSpec(dtype=DTYPES["float8e5m2"], symmetric=True, axis=1)
    assert QuantSpec.from_json(spec.to_json()) == spec


def test_a_float8_model_of_others_is_read():
    from quantlab.graph import GraphView
    from quantlab.graph.quantized import rounded_tensors

    row = DTYPES["float8e4m3fn"]
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [onnx.numpy_helper.from_array(np.array(0.5, np.float32), "s"), helper.make_tensor("z", row.onnx_code, [], [0])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    (found,) = rounded_tensors(GraphView.of(made))
    assert (found.before, found.grid) == ("x", grid_of(row, np.float32(0.5)))


def test_messages():
    row = DTYPES["float8e4m3fn"]
    for options in ({}, {"symmetric": True, "narrow_range": True}, {"symmetric": True, "reduce_range": True}):
        with pytest.raises(OptionError, match=r"^a grid of float8e4m3fn has no zero point and one span: give symm"):
            QuantSpec(dtype=row, **options)
    with pytest.raises(RangeError, match=r"^a grid of float8e4m3fn has no zero point: give 0, got 3$"):
        QParams(scale=np.float32(1), zero_point=np.array(3), spec=QuantSpec(dtype=row, symmetric=True))
    with pytest.raises(OptionError, match=r"^int8 has integer levels: take a float8 type$"):
        float8_levels(INT8)
