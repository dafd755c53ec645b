"""The distribution rule: its formula on the data itself, its grids, and where onnxruntime's differs."""

import math

import numpy as np
import pytest
from onnx import TensorProto
from onnxruntime.quantization.quant_utils import compute_scale_zp_float8

from quantlab.arrays import (
    DTYPES,
    FLOAT8E4M3FN,
    INT4,
    INT8,
    INT16,
    INT32,
    UINT8,
    QuantSpec,
    dequantize,
    qparams_from_range,
)
from quantlab.calibration import Histogram, calibrator
from quantlab.errors import OptionError

FLOATS = [QuantSpec(dtype=row, symmetric=True) for row in DTYPES.values() if row.is_float]
CENTRED = [
    QuantSpec(dtype=INT8, symmetric=True, narrow_range=True),
    QuantSpec(dtype=INT4, symmetric=True),
    QuantSpec(dtype=INT16, symmetric=True),
    *FLOATS,
]


def root(value, p):
    return math.copysign(abs(value) ** (1 / p), value)


def spread(values, p):
    roots = [root(float(value), p) for value in values]
    mean = sum(roots) / len(roots)
    return math.sqrt(sum((r - mean) ** 2 for r in roots) / len(roots))


def levels_of(grid):
    """All levels of a grid of 4 or 8 bits, or of a float8 type, NaN and infinity left out."""
    row = grid.spec.dtype
    codes = np.arange(256, dtype=np.uint8) if row.is_float else (
        np.arange(grid.spec.qmin, grid.spec.qmax + 1).astype(row.storage)
    )  # fmt: skip
    values = dequantize(codes, grid).astype(np.float64)
    return values[np.isfinite(values)]


def data(seed=0, centre=0.0):
    x = np.random.default_rng(seed).uniform(-1, 1, 20_000) ** 3 * 50 + centre
    return np.append(x, [centre - 4000, centre + 4000]).astype(np.float32)


@pytest.mark.parametrize("spec", [spec for spec in CENTRED if spec.dtype.bits <= 8], ids=str)
@pytest.mark.parametrize(("scenario", "p"), [("same", 1), ("p3", 3)])
def test_levels_have_the_deviation_of_the_data(spec, scenario, p):
    # Far ends, so that the range is not cut back to them.
    x = data()
    rule = calibrator("distribution", {"scenario": scenario, "max_bins": 1 << 20})
    grid = qparams_from_range(rule.range(rule.empty().update(x), spec), spec)
    middle = 0.0 if spec.dtype.is_float else float(grid.scale) * (spec.qmin + spec.qmax) / 2
    assert spread(levels_of(grid) - middle, p) == pytest.approx(spread(x, p), rel=2e-3)


@pytest.mark.parametrize("centre", [0.0, -300.0, 700.0])
@pytest.mark.parametrize("kind", [INT8, UINT8])
def test_an_asymmetric_range_lies_about_the_mean(kind, centre):
    x = data(centre=centre)
    rule = calibrator("distribution", {"max_bins": 1 << 20})
    found = rule.range(rule.empty().update(x), QuantSpec(dtype=kind))
    half = spread(x, 1) * 127.5 / math.sqrt((256**2 - 1) / 12)
    assert float(found.lo) == pytest.approx(float(x.astype(float).mean()) - half, abs=half / 500)
    assert float(found.hi) == pytest.approx(float(x.astype(float).mean()) + half, abs=half / 500)


def test_float8_is_the_recipe_of_onnxruntime():
    x = data()
    rule = calibrator("distribution", {"max_bins": 1 << 20})
    spec = QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True)
    grid = qparams_from_range(rule.range(rule.empty().update(x), spec), spec)
    scale = compute_scale_zp_float8(TensorProto.FLOAT8E4M3FN, x.std(dtype=np.float32))[1]
    assert float(grid.scale) == pytest.approx(float(scale), rel=1e-4)


@pytest.mark.parametrize("spec", CENTRED, ids=str)
@pytest.mark.parametrize("scenario", ["same", "p3"])
def test_both_scenarios_follow_the_unit_of_the_data(spec, scenario):
    rule = calibrator("distribution", {"scenario": scenario})
    plain, scaled = (rule.range(rule.empty().update(data() * np.float32(k)), spec) for k in (1, 2.0**-40))
    assert (plain.lo * 2.0**-40, plain.hi * 2.0**-40) == (scaled.lo, scaled.hi)
    # onnxruntime's "p3" does not: eight times the data is twice the scale.
    peer = calibrator("onnxruntime_distribution", {"scenario": "p3"})
    float8 = QuantSpec(dtype=FLOAT8E4M3FN, symmetric=True)
    one, eight = (peer.range(peer.empty().update(data() * np.float32(k)), float8).hi for k in (1, 8))
    assert float(eight / one) == pytest.approx(2, rel=1e-4)


def test_wide_types_have_a_range():
    rule = calibrator("distribution")
    seen = rule.empty().update(data())
    wide, wider = (rule.range(seen, QuantSpec(dtype=kind, symmetric=True)) for kind in (INT16, INT32))
    assert float(wider.hi) == pytest.approx(float(wide.hi), rel=1e-4)


def test_messages():
    with pytest.raises(OptionError, match=r"^unknown scenario 'sam'; did you mean 'same'\? \(allowed: same, p3\)$"):
        calibrator("distribution", {"scenario": "sam"})
    with pytest.raises(OptionError, match=r"^range rule 'distribution' needs the signs of the values, which a "):
        calibrator("distribution").range(Histogram(absolute=True).update(np.ones(3)), QuantSpec(dtype=INT8))
