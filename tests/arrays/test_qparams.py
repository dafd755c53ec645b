"""Scale and zero point: bit-equal to onnxruntime.quantization, and the laws that make a grid a grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnxruntime.quantization import quant_utils

from quantlab.arrays import (
    DTYPES,
    INT8,
    UINT8,
    QParams,
    QuantSpec,
    Range,
    dequantize,
    include_zero,
    qparams_from_range,
    quantize,
    stack_ranges,
)
from quantlab.errors import OptionError, RangeError
from quantlab.plan import activation_spec, weight_spec

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
KINDS = ["int4", "uint4", "int8", "uint8", "int16", "uint16"]


def ends(a, b, kind=np.float32):
    lo, hi = sorted((kind(a), kind(b)))
    return Range(lo, hi)


def peer(values, name, symmetric, reduce_range, min_real_range=None):
    """The reference implementation's own answer: (zero point, scale)."""
    code = getattr(TensorProto, name.upper())
    qmin, qmax = quant_utils.get_qmin_qmax_for_qType(code, reduce_range=reduce_range, symmetric=symmetric)
    zero, scale = quant_utils.compute_scale_zp(values.lo, values.hi, qmin, qmax, symmetric, min_real_range)
    return int(zero), scale


@settings(deadline=None, max_examples=600)
@given(FLOAT32, FLOAT32, st.sampled_from(KINDS), st.booleans(), st.booleans(), st.sampled_from([None, 1e-4, 0.5]))
def test_bit_equal_to_onnxruntime_quantization(a, b, name, symmetric, reduce_range, least):
    values = ends(a, b)
    if name == "int4" and symmetric and not reduce_range:
        spec = QuantSpec(dtype=DTYPES[name], symmetric=True)
    else:
        spec = weight_spec(name, symmetric=symmetric, reduce_range=reduce_range)
    with np.errstate(over="ignore"):
        zero, scale = peer(values, name, symmetric, reduce_range, least)
        if not np.isfinite(values.lo + np.float32(least or 0)):
            return
        grid = qparams_from_range(values, spec, min_real_range=least, degenerate="onnxruntime")
    assert grid.scale.tobytes() == np.asarray(scale, np.float32).tobytes()
    assert int(grid.zero_point) == zero


@settings(deadline=None, max_examples=300)
@given(st.floats(-60000, 60000, width=16), st.floats(-60000, 60000, width=16), st.sampled_from(KINDS), st.booleans())
def test_bit_equal_in_float16_too(a, b, name, symmetric):
    values = ends(a, b, np.float16)
    spec = weight_spec(name, symmetric=symmetric)
    zero, scale = peer(values, name, symmetric, False)
    grid = qparams_from_range(values, spec, degenerate="onnxruntime")
    assert (grid.scale.tobytes(), int(grid.zero_point)) == (np.asarray(scale, np.float16).tobytes(), zero)


@settings(deadline=None)
@given(FLOAT32, FLOAT32, st.sampled_from(KINDS), st.booleans())
def test_zero_is_exactly_representable(a, b, name, symmetric):
    grid = qparams_from_range(ends(a, b), activation_spec(name, symmetric=symmetric))
    assert dequantize(quantize(np.zeros(3, np.float32), grid), grid).tolist() == [0.0, 0.0, 0.0]


@settings(deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), st.sampled_from(KINDS), st.booleans(), st.data())
def test_round_trip_stays_within_half_a_step_inside_the_range(a, b, name, symmetric, data):
    values = include_zero(ends(a, b))
    grid = qparams_from_range(values, weight_spec(name, symmetric=symmetric))
    x = np.float32(data.draw(st.floats(float(values.lo), float(values.hi), width=32)))
    back = dequantize(quantize(np.array([x]), grid), grid)[0]
    # Where rounding the zero point (or int4's missing +8) moves an end of the grid inwards, it is by half a step.
    # The second term is float32's rounding of the scale, as many steps as the grid is long.
    slack = 0.5 + (grid.spec.dtype.qmax - grid.spec.dtype.qmin) * 2.0**-23
    assert abs(float(back) - float(x)) <= float(grid.scale) * slack


@settings(deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), st.integers(-20, 20), st.booleans())
def test_scaling_by_a_power_of_two_scales_the_grid(a, b, exponent, symmetric):
    spec = activation_spec("int8", symmetric=symmetric)
    if max(abs(a), abs(b)) < 1e-20:
        return
    one = qparams_from_range(ends(a, b), spec)
    factor = np.float32(2.0**exponent)
    other = qparams_from_range(ends(np.float32(a) * factor, np.float32(b) * factor), spec)
    assert other.scale == one.scale * factor
    assert other.zero_point == one.zero_point


@pytest.mark.parametrize("degenerate", ["natural", "onnxruntime"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-45, 1e-40, 6e-8, 1.0, -3.0, 65504.0])
def test_scale_is_positive_and_finite_for_every_constant(value, kind, degenerate):
    for name in KINDS:
        for symmetric in (False, True):
            grid = qparams_from_range(
                Range(kind(value), kind(value)), activation_spec(name, symmetric=symmetric), degenerate=degenerate
            )
            assert grid.scale > 0
            assert np.isfinite(grid.scale)


def test_an_all_zero_tensor_keeps_the_zero_point_of_its_kind():
    zeros = Range(np.float32(0), np.float32(0))
    cases = {("int8", False): -128, ("uint8", False): 0, ("int8", True): 0, ("uint8", True): 128}
    for (name, symmetric), wanted in cases.items():
        spec = QuantSpec(dtype=DTYPES[name], symmetric=symmetric)
        assert int(qparams_from_range(zeros, spec).zero_point) == wanted
        assert int(qparams_from_range(zeros, spec, degenerate="onnxruntime").zero_point) == 0


def test_small_float16_weights_survive_unlike_in_onnxruntime():
    values = Range(np.float16(-0.005), np.float16(0.005))
    spec = weight_spec("int8")
    ours, theirs = (qparams_from_range(values, spec, degenerate=how) for how in ("natural", "onnxruntime"))
    w = np.array([0.005, -0.0025], np.float16)
    assert theirs.scale == 1
    assert quantize(w, theirs).tolist() == [0, 0]
    assert np.abs(dequantize(quantize(w, ours), ours) - w).max() <= ours.scale


# From the formulas in the module docstring, by hand.
GOLDEN = [
    ("uint8", False, False, -1.0, 3.0, 4 / 255, 64),
    ("int8", False, False, -1.0, 3.0, 4 / 255, -64),
    ("int8", True, True, -1.0, 3.0, 3 / 127, 0),
    ("int8", True, False, -1.0, 3.0, 6 / 255, 0),
    ("uint8", True, False, -1.0, 3.0, 6 / 255, 128),
    ("uint8", False, False, 2.0, 3.0, 3 / 255, 0),
    ("int4", False, False, 0.0, 15.0, 1.0, -8),
    ("uint16", False, False, 0.0, 65535.0, 1.0, 0),
]


@pytest.mark.parametrize(("name", "symmetric", "narrow", "lo", "hi", "scale", "zero"), GOLDEN)
def test_golden(name, symmetric, narrow, lo, hi, scale, zero):
    spec = QuantSpec(dtype=DTYPES[name], symmetric=symmetric, narrow_range=narrow)
    grid = qparams_from_range(Range(np.float32(lo), np.float32(hi)), spec)
    assert grid.scale == np.float32(scale)
    assert int(grid.zero_point) == zero


def test_affine_mapping_sends_the_ends_of_the_range_to_the_ends_of_the_grid():
    for name, row in DTYPES.items():
        if row.bits > 16 or row.is_float:
            continue
        grid = qparams_from_range(Range(np.float32(-2), np.float32(5)), activation_spec(name))
        assert quantize(np.array([-2, 5], np.float32), grid).tolist() == [row.qmin, row.qmax]


def test_per_channel_equals_one_call_a_channel():
    rng = np.random.default_rng(0)
    ranges = [ends(*rng.normal(size=2).astype(np.float32)) for _ in range(16)] + [ends(0, 0)]
    for symmetric in (False, True):
        spec = QuantSpec(dtype=INT8, symmetric=symmetric)
        alone = [qparams_from_range(r, spec) for r in ranges]
        together = qparams_from_range(stack_ranges(ranges), QuantSpec(dtype=INT8, symmetric=symmetric, axis=0))
        assert together.scale.tolist() == [grid.scale.item() for grid in alone]
        assert together.zero_point.tolist() == [grid.zero_point.item() for grid in alone]


def test_numbers_are_read_only():
    grid = qparams_from_range(ends(-1, 1), QuantSpec(dtype=INT8))
    with pytest.raises(ValueError, match="read-only"):
        grid.scale[...] = 2
    with pytest.raises(ValueError, match="read-only"):
        grid.zero_point[...] = 2


def test_messages():
    with pytest.raises(RangeError, match=r"range \[nan, 1.0\] must be finite with its lower end first"):
        Range(np.float32(np.nan), np.float32(1))
    with pytest.raises(RangeError, match=r"range \[2.0, 1.0\] of channel 1 must be finite"):
        Range(np.array([0, 2], np.float32), np.array([1, 1], np.float32))
    with pytest.raises(RangeError, match="does not fit a grid that is int8, asymmetric, per channel of axis 0"):
        qparams_from_range(ends(0, 1), QuantSpec(dtype=INT8, axis=0))
    with pytest.raises(RangeError, match=r"scale -1.0 \(channel 0\) must be positive and finite"):
        QParams(scale=np.float32(-1), zero_point=np.int8(0), spec=QuantSpec(dtype=INT8))
    with pytest.raises(RangeError, match=r"zero point 300 \(channel 0\) must lie in 0..255"):
        QParams(scale=np.float32(1), zero_point=np.int64(300), spec=QuantSpec(dtype=UINT8))
    with pytest.raises(RangeError, match=r"scale \(2,\) and zero point \(\) must both be scalars"):
        QParams(scale=np.ones(2, np.float32), zero_point=np.int8(0), spec=QuantSpec(dtype=INT8))
    with pytest.raises(OptionError, match="narrow_range and reduce_range exclude each other"):
        QuantSpec(dtype=INT8, narrow_range=True, reduce_range=True)
    with pytest.raises(OptionError, match="narrow_range needs a signed type, got uint8"):
        QuantSpec(dtype=UINT8, narrow_range=True)
