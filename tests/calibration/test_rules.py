"""Laws under which every range rule of our own stands, and the way to a rule by its name."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab import kernels
from quantlab.arrays import INT4, INT8, INT16, UINT8, QuantSpec, qparams_from_range
from quantlab.calibration import Histogram, MinMax, calibrator, calibrators
from quantlab.errors import DataError, OptionError

SPECS = (
    QuantSpec(dtype=INT8, symmetric=True),
    QuantSpec(dtype=INT8),
    QuantSpec(dtype=UINT8),
    QuantSpec(dtype=UINT8, reduce_range=True),
    QuantSpec(dtype=INT8, symmetric=True, narrow_range=True),
    QuantSpec(dtype=INT4, symmetric=True),
    QuantSpec(dtype=INT16),
)
specs = st.sampled_from(SPECS)
dtypes = st.sampled_from([np.float16, np.float32, np.float64])
arrays = dtypes.flatmap(lambda d: hnp.arrays(d, st.integers(1, 50), elements=hnp.from_dtype(np.dtype(d))))
normal_numbers = st.floats(-1e6, 1e6, width=32).map(lambda v: v if abs(v) > 1e-6 else 0.0)
# Rules by which a batch is more than its values.
BY_BATCH = {"moving_average"}
# Those that repeat onnxruntime's numbers break these laws, as it does; test_onnxruntime_rules.py is about them.
pytestmark = pytest.mark.parametrize("name", [name for name in calibrators if not name.startswith("onnxruntime_")])


@given(x=arrays, spec=specs)
def test_range_lies_within_the_observed_ends(name, x, spec):
    assume(np.isfinite(x).any())
    rule = calibrator(name)
    seen = rule.empty().update(x)
    found = rule.range(seen, spec)
    assert found.lo.shape == ()
    assert found.dtype == np.float64
    assert seen.lo <= found.lo <= found.hi <= seen.hi


@given(x=arrays, spec=specs)
def test_a_symmetric_range_mirrors_at_zero(name, x, spec):
    assume(np.isfinite(x).any())
    rule = calibrator(name, {"symmetric": True})
    seen = rule.empty().update(x)
    found = rule.range(seen, spec)
    assert (found.lo, found.hi) == (-found.hi, found.hi)
    assert not np.signbit(found.hi)
    assert found.hi <= max(abs(seen.lo), abs(seen.hi))
    # On a symmetric grid the option changes nothing.
    grid = QuantSpec(dtype=INT8, symmetric=True)
    plain = calibrator(name).range(seen, grid)
    assert rule.range(seen, grid).hi == max(abs(plain.lo), abs(plain.hi))
    with pytest.raises(OptionError, match=r"^symmetric must be true or false, got 1$"):
        calibrator(name, {"symmetric": 1})


@given(x=hnp.arrays(np.float32, st.integers(1, 200), elements=normal_numbers), k=st.integers(-90, 100), spec=specs)
def test_range_scales_with_the_data(name, x, k, spec):
    rule = calibrator(name)
    plain = rule.range(rule.empty().update(x), spec)
    scaled = rule.range(rule.empty().update(np.ldexp(x, k)), spec)
    assert (scaled.lo, scaled.hi) == (np.ldexp(plain.lo, k), np.ldexp(plain.hi, k))


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**50])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_range_scales_with_much_data(name, scale, spec):
    x = np.random.default_rng(0).standard_t(3, 100_000).astype(np.float32)
    rule = calibrator(name)
    plain = rule.range(rule.empty().update(x), spec)
    scaled = rule.range(rule.empty().update(x * np.float32(scale)), spec)
    assert (scaled.lo, scaled.hi) == (plain.lo * scale, plain.hi * scale)


@given(x=arrays, cut=st.integers(0, 50), spec=specs)
def test_batches_do_not_matter(name, x, cut, spec):
    assume(np.isfinite(x).any())
    rule = calibrator(name)
    whole = rule.empty().update(x[:cut]).update(x[cut:]) if name in BY_BATCH else rule.empty().update(x)
    parts = rule.empty().update(x[cut:]).merge(rule.empty().update(x[:cut]))
    assert rule.range(whole, spec) == rule.range(parts, spec)
    assert rule.explain(whole, spec) == rule.explain(parts, spec)


@given(x=arrays, spec=specs)
def test_nan_and_infinities_have_no_influence(name, x, spec):
    finite = x[np.isfinite(x)]
    assume(finite.size)
    rule = calibrator(name)
    assert rule.range(rule.empty().update(x), spec) == rule.range(rule.empty().update(finite), spec)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5, 65504.0, 6e-8])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 1000])
def test_constant_tensors_keep_their_value(name, value, dtype, size):
    x = np.full(size, value, dtype)
    rule = calibrator(name)
    for spec in SPECS:
        found = rule.range(rule.empty().update(x), spec)
        assert found.lo == found.hi == x[0]
        assert not np.signbit(found.lo) or value < 0


@pytest.mark.parametrize(
    "values",
    [
        np.array([-3e38, 3e38], np.float32),
        np.array([-1.7e308, 1.7e308]),
        np.array([-65504, 65504, 6e-8], np.float16),
        np.array([1e-45, -3e-45, 0], np.float32),
        np.array([5e-324, -5e-324]),
        np.array([1e30] + [1e-30] * 99, np.float32),
        np.linspace(1e6, 1e6 + 1, 1000),
        -np.linspace(1e6, 1e6 + 1, 1000),
    ],
    ids=["float32", "float64", "float16", "denormal", "smallest", "far apart", "offset", "negative offset"],
)
def test_extreme_tensors_have_a_range(name, values):
    rule = calibrator(name)
    seen = rule.empty().update(values)
    for spec in SPECS:
        found = rule.range(seen, spec)
        assert seen.lo <= found.lo <= found.hi <= seen.hi
        if values.dtype == np.float32:
            assert np.isfinite(qparams_from_range(found.astype(np.float32), spec).scale)


@pytest.mark.parametrize("seen", [[], [np.nan, np.nan, np.inf]])
def test_nothing_finite_is_refused(name, seen):
    rule = calibrator(name)
    statistic = rule.empty().update(np.array(seen))
    text = (
        rf"^no finite value was seen \({min(2, len(seen))} NaN, {len(seen) // 3} infinite\), so there is no range; give"
    )
    for ask in (rule.range, rule.explain):
        with pytest.raises(DataError, match=text):
            ask(statistic, SPECS[0])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_explanation_is_one_line_with_both_ranges(name, spec):
    rule = calibrator(name)
    seen = rule.empty().update(np.array([-1.5, 0.25, 3.0, np.nan, np.inf, np.inf]))
    line = rule.explain(seen, spec)
    found = rule.range(seen, spec)
    ending = f": [{found.lo:.6g}, {found.hi:.6g}] of the observed [-1.5, 3]; 1 NaN and 2 infinite left out"
    assert line.startswith(f"{name} ")
    assert line.endswith(ending)
    assert "\n" not in line


def test_a_rule_is_a_frozen_value_of_plain_options(name):
    rule = calibrator(name)
    options = dataclasses.asdict(rule)
    assert calibrator(name, json.loads(json.dumps(options))) == rule
    assert hash(calibrator(name)) == hash(rule)
    assert calibrator(rule) is rule
    with pytest.raises(OptionError, match=rf"^range rule '{name}' has no option 'colour' \(allowed: "):
        calibrator(name, {"colour": "red"})
    with pytest.raises(OptionError, match=r"^options \['colour'\] were given for .*, which has its options already; "):
        calibrator(rule, {"colour": "red"})


def test_a_mistyped_option_or_rule_is_recognised(name):
    with pytest.raises(OptionError, match=rf"^unknown range rule '{name}x'; did you mean '{name}'"):
        calibrator(name + "x")
    for field in dataclasses.fields(calibrators[name]):
        with pytest.raises(OptionError, match=rf"has no option '{field.name}s'; did you mean '{field.name}'\?"):
            calibrator(name, {f"{field.name}s": 1})


def test_a_statistic_of_another_kind_is_refused(name):
    rule = calibrator(name)
    if isinstance(rule.empty(), MinMax):
        # The ends are part of every statistic.
        seen = Histogram().update(np.array([-1.0, 2.0]))
        assert rule.range(seen, SPECS[0]) == rule.range(rule.empty().update(np.array([-1.0, 2.0])), SPECS[0])
        return
    with pytest.raises(
        OptionError, match=rf"^range rule '{name}' .*needs a {type(rule.empty()).__name__}, got a MinMax; collect"
    ):
        rule.range(MinMax().update(np.ones(3)), SPECS[0])


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy"])
def test_numpy_and_numba_kernels_give_the_same_range(name, draw):
    x = getattr(np.random.default_rng(3), draw)(size=50_000).astype(np.float32)
    rule = calibrator(name)
    with kernels.using("numpy"):
        plain = rule.empty().update(x)
    with kernels.using("numba"):
        compiled = rule.empty().update(x)
    assert plain == compiled
    assert rule.explain(plain, SPECS[0]) == rule.explain(compiled, SPECS[0])
