"""Scales, zero points and integers under the peer's names: its own bits, or a warning where its number is wrong."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import quant_utils as peer

from quantlab.errors import DataError, OptionError, QuantlabWarning, RangeError, ShapeError
from quantlab.ort import quant_utils as ours

INTEGERS = [
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT4,
    TensorProto.UINT4,
]
FLOATS = [np.float32, np.float16]
codes = st.sampled_from(INTEGERS)
FAST = settings(deadline=None, max_examples=80)


def numbers(kind):
    top = float(np.finfo(kind).max) / 4
    return st.floats(-top, top, width=32 if kind is np.float32 else 16)


def arrays(kind, **shape):
    shape = shape or {"min_dims": 1, "max_dims": 3, "min_side": 1, "max_side": 6}
    return hnp.arrays(kind, hnp.array_shapes(**shape), elements=numbers(kind))


def same(mine, theirs):
    """Compare arrays by type, shape and bytes."""
    for a, b in zip(map(np.asarray, mine), map(np.asarray, theirs), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def warned(function, *args, **options):
    """Call one of our functions; return its result and whether it says that the peer's number is wrong."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = function(*args, **options)
    assert all(issubclass(one.category, QuantlabWarning) for one in seen)
    return result, bool(seen)


@pytest.mark.parametrize("reduce_range", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("code", INTEGERS)
def test_limits_are_the_peers(code, symmetric, reduce_range):
    same(
        ours.get_qmin_qmax_for_qType(code, reduce_range, symmetric),
        peer.get_qmin_qmax_for_qType(code, reduce_range, symmetric),
    )
    steps, differs = warned(ours.get_qrange_for_qType, code, reduce_range, symmetric)
    low, high = ours.get_qmin_qmax_for_qType(code, reduce_range, symmetric)
    assert int(steps) == int(high) - int(low)
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (int(peer.get_qrange_for_qType(code, reduce_range, symmetric)) != int(steps)) == differs


@FAST
@given(st.data(), st.sampled_from(FLOATS), codes, st.booleans(), st.booleans(), st.sampled_from([None, 0.0, 1e-4, 3.5]))
def test_scale_and_zero_point_are_the_peers(data, kind, code, symmetric, reduce_range, width):
    lo, hi = (np.array(data.draw(numbers(kind)), kind) for _ in range(2))
    args = lo, hi, *peer.get_qmin_qmax_for_qType(code, reduce_range, symmetric)
    mine, differs = warned(ours.compute_scale_zp, *args, symmetric, width)
    theirs = peer.compute_scale_zp(*args, symmetric, width)
    if differs:
        assert int(theirs[0]) == 0
        assert (float(theirs[1]), int(theirs[0])) != (float(mine[1]), int(mine[0]))
    else:
        same(mine, theirs)


@FAST
@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.sampled_from([None, 1e-4, 3.5]), st.sampled_from([127, 255]))
def test_snapped_zero_points_are_the_peers(lo, hi, width, qmax):
    mine, differs = warned(ours.snap_zero_point_to_uint8, lo, hi, 0, qmax, width)
    theirs = peer.snap_zero_point_to_uint8(lo, hi, 0, qmax, width)
    if differs:
        assert float(theirs[1]) == 0
    else:
        same(mine, theirs)


@FAST
@given(st.sampled_from(FLOATS), st.floats(0.015625, 1024, width=16))
def test_float8_scales_are_the_peers(kind, deviation):
    args = TensorProto.FLOAT8E4M3FN, kind(deviation)
    same(ours.compute_scale_zp_float8(*args), peer.compute_scale_zp_float8(*args))


@FAST
@given(st.data(), codes, st.booleans())
def test_blocks_are_the_peers(data, code, symmetric):
    weight = data.draw(arrays(np.float32, min_dims=2, max_dims=2, max_side=9))
    args = weight, code, data.draw(st.integers(0, 1)), data.draw(st.integers(1, 5)), symmetric
    mine, differs = warned(ours.compute_scale_zp_blocked, *args)
    assert not differs
    same(mine, peer.compute_scale_zp_blocked(*args))


@FAST
@given(st.data(), st.sampled_from(FLOATS), codes, st.booleans(), st.booleans())
def test_integers_of_constants_are_the_peers(data, kind, code, symmetric, reduce_range):
    values = data.draw(arrays(kind))
    args = values, code, symmetric, reduce_range
    mine, differs = warned(ours.quantize_data, *args)
    with np.errstate(all="ignore"):
        theirs = peer.quantize_data(*args)
    if not differs:
        same(mine, theirs)
        same(ours.compute_data_quant_params(*args), peer.compute_data_quant_params(*args))


@FAST
@given(st.data(), st.sampled_from(FLOATS), codes)
def test_rounding_is_the_peers(data, kind, code):
    values = data.draw(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=numbers(np.float32)))
    low, high = peer.get_qmin_qmax_for_qType(code)
    scale = np.array(data.draw(st.floats(0.0078125, 64, width=16)), kind)
    zero = np.array(data.draw(st.integers(int(low), int(high))), low.dtype)
    mine = ours.quantize_nparray(code, values, scale, zero)
    with np.errstate(all="ignore"):
        same([mine], [peer.quantize_nparray(code, values, scale, zero)])


@pytest.mark.parametrize("code", [*INTEGERS, TensorProto.FLOAT8E4M3FN])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_initializers_are_the_peers(code, axis):
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(3, 5)).astype(np.float32), "w")
    count = () if axis is None else (weight.dims[axis],)
    scale = rng.uniform(0.05, 0.1, count).astype(np.float32)
    kind = peer.ONNX_TYPE_TO_NP_TYPE[code]
    zero = np.zeros(count, kind) if code == TensorProto.FLOAT8E4M3FN else rng.integers(0, 7, count).astype(kind)
    mine, theirs = (room.quantize_onnx_initializer(weight, code, zero, scale, axis, "q") for room in (ours, peer))
    assert mine.SerializeToString() == theirs.SerializeToString()


@FAST
@given(st.data(), st.sampled_from([np.float16, np.float32, np.float64]), st.sampled_from(["one", "axis", "block"]))
def test_ties_are_rounded_in_the_type_in_which_the_peer_divides(data, kind, how):
    """Values are built as odd multiples of half a step, which float32 and float64 round to different sides."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = {"one": (), "axis": (4,), "block": (2, 5)}[how]
    axis, block = {"one": (None, 0), "axis": (0, 0), "block": (0, 3)}[how]
    scale = rng.uniform(0.01, 1, shape).astype(kind)
    zero = rng.integers(-100, 100, shape).astype(np.int8)
    spread = scale if how == "one" else scale[:, None] if how == "axis" else scale.repeat(3, 0)[:4]
    halves = rng.integers(-120, 120, (4, 5)) + 0.5
    weight = numpy_helper.from_array((halves * spread.astype(np.float64)).astype(np.float32), "w")
    mine, theirs = (
        room.quantize_onnx_initializer(weight, TensorProto.INT8, zero, scale, axis, block_size=block)
        for room in (ours, peer)
    )
    assert mine.raw_data == theirs.raw_data
    if how == "one":
        values = numpy_helper.to_array(weight)
        for given_ in (scale, [float(scale)], float(scale)):
            both = (room.quantize_nparray(TensorProto.INT8, values, given_, zero) for room in (ours, peer))
            same(*([one] for one in both))


def test_blocked_initializers_are_the_peers():
    weight = numpy_helper.from_array(np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32), "w")
    zero, scale = ours.compute_scale_zp_blocked(numpy_helper.to_array(weight), TensorProto.INT4, 0, 4, True)
    mine, theirs = (
        room.quantize_onnx_initializer(weight, TensorProto.INT4, zero, scale, 0, block_size=4) for room in (ours, peer)
    )
    assert mine.SerializeToString() == theirs.SerializeToString()


@FAST
@given(st.binary(max_size=40))
def test_packed_bytes_are_the_peers(raw):
    halves = bytes(byte & 15 for byte in raw)
    assert ours.pack_bytes_to_4bit(halves) == peer.pack_bytes_to_4bit(halves)


@FAST
@given(hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 50)))
def test_smoothed_counts_are_the_peers(counts):
    try:
        theirs = peer.smooth_distribution(counts)
    except AssertionError:
        with pytest.raises(DataError, match="empty bins of"):
            ours.smooth_distribution(counts)
        return
    mine = ours.smooth_distribution(counts)
    assert (mine is None) == (theirs is None)
    assert mine is None or mine.tobytes() == theirs.tobytes()


@FAST
@given(st.integers(-6, 6), st.integers(0, 5))
def test_axes_are_the_peers(axis, rank):
    assert ours.normalize_axis(axis, rank) == peer.normalize_axis(axis, rank)


def test_tables_of_types_are_the_peers():
    assert {code: np.dtype(kind) for code, kind in peer.ONNX_TYPE_TO_NP_TYPE.items()} == ours.ONNX_TYPE_TO_NP_TYPE
    for name in ("ONNX_INT_TYPE_RANGE", "ONNX_INT_TYPE_SYMMETRIC_RANGE", "ONNX_INT_TYPE_REDUCED_RANGE"):
        mine, theirs = getattr(ours, name), getattr(peer, name)
        assert set(mine) == set(theirs)
        for code, limits in theirs.items():
            same(mine[code], limits)
    for name in ("MODEL_SIZE_THRESHOLD", "FLOAT8_TYPES", "ms_domain", "onnx_domain", "type_to_name"):
        assert getattr(ours, name) == getattr(peer, name)
    for name in ("QuantType", "QuantFormat", "QuantizationMode", "QuantizedValueType"):
        mine, theirs = getattr(ours, name), getattr(peer, name)
        assert [(one.name, one.value, str(one)) for one in mine] == [(one.name, one.value, str(one)) for one in theirs]
    assert [kind.tensor_type for kind in ours.QuantType] == [kind.tensor_type for kind in peer.QuantType]
    assert ours.QuantType.from_string("QInt4") is ours.QuantType.QInt4


def test_what_cannot_be_quantized_is_refused():
    one, zero = np.float32(1), np.int8(0)
    with pytest.raises(DataError, match=r"^the array has 1 NaN among 2 values"):
        ours.quantize_nparray(TensorProto.INT8, np.array([1, np.nan], np.float32), one, zero)
    with pytest.raises(ShapeError, match=r"^quantize_nparray takes one scale and one zero point, got 2 and 1"):
        ours.quantize_nparray(TensorProto.INT8, np.ones(2, np.float32), np.ones(2, np.float32), zero)
    with pytest.raises(RangeError):
        ours.quantize_nparray(TensorProto.INT8, np.ones(2, np.float32), np.float32(0), zero)
    with pytest.raises(OptionError, match=r"^values cannot be quantized to INT64 here \(allowed: UINT8, INT8"):
        ours.get_qmin_qmax_for_qType(TensorProto.INT64)
    with pytest.raises(OptionError, match="has no span of integers"):
        ours.get_qmin_qmax_for_qType(TensorProto.FLOAT8E4M3FN)
    with pytest.raises(OptionError, match="a grid from 1 to 5 has no integer for 0"):
        ours.compute_scale_zp(one, one, np.int8(1), np.int8(5))
    with pytest.raises(RangeError, match="must be finite"):
        ours.snap_zero_point_to_uint8(-np.inf, 1)
    with pytest.raises(OptionError, match=r"^weight 'w' is of type INT64: only FLOAT and FLOAT16"):
        ours.tensor_proto_to_array(numpy_helper.from_array(np.arange(3), "w"))
    with pytest.raises(TypeError, match="must be given as an array, not as a list"):
        ours.compute_data_quant_params([1.0], TensorProto.INT8, True)
    with pytest.raises(OptionError, match="unknown QuantType 'QInt9'; did you mean"):
        ours.QuantType.from_string("QInt9")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: ours.compute_scale_zp(np.float16(0), np.float16(0.001), np.uint8(0), np.uint8(255)),
            "the peer takes 1, which makes every value 0",
        ),
        (
            lambda: ours.compute_scale_zp(np.float32(0), np.float32(0), np.uint8(0), np.uint8(255), True),
            "keeps zero point 128 for all zeros; the peer takes 0",
        ),
        (lambda: ours.get_qrange_for_qType(TensorProto.INT8), "255 steps between -128 and 127; .* overflows to -1"),
        (
            lambda: ours.compute_scale_zp_float8(TensorProto.FLOAT8E4M3FN, np.float32(0)),
            "the peer takes 0, which makes every value NaN",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_where_the_peer_is_wrong_a_warning_says_so(call, text):
    with pytest.warns(QuantlabWarning, match=text):
        call()
