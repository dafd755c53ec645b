"""NaN and infinities in activations: refused with their sample, or left out and told."""

import warnings

import numpy as np
import onnx
import pytest

import quantlab
from quantlab.calibration import calibrators
from quantlab.errors import DataError, OptionError, QuantlabWarning
from quantlab.plan import activation_spec

# Log makes NaN of negative numbers and -inf of zero.
MODEL = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["": 17]> g (float[N, 4] x) => (float[N, 4] y) { t = Log(x) y = Sigmoid(t) }'
)
FINITE = np.random.default_rng(0).uniform(1, 9, size=(9, 4)).astype(np.float32)
RULES = sorted(calibrators)


def samples(**odd):
    """Nine samples; `nan=3` puts a value into sample 3 of which Log makes NaN, `inf=5` one that becomes -inf."""
    data = FINITE.copy()
    for kind, index in odd.items():
        data[index, 0] = {"nan": -1.0, "inf": 0.0}[kind]
    return [{"x": row[None]} for row in data]


def planned(data, policy, rule="minmax", **engine):
    prepared = quantlab.prepare_for(MODEL)
    recipe = quantlab.Recipe(nonfinite=policy, calibrate=rule, op_types=("Sigmoid",))
    engine = quantlab.Engine(**engine)
    return quantlab.calibrate(prepared, quantlab.decide(prepared, recipe), data, recipe, engine=engine).tensors


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("policy", "odd", "text"),
    [
        (
            "refuse-nan",
            {"nan": 3, "inf": 1},
            r"^tensor 't' contains NaN in sample 3 although the model's inputs do not: ",
        ),
        (
            "refuse",
            {"nan": 3},
            r"^tensor 't' contains NaN in sample 3 although the model's inputs do not: run the float",
        ),
        ("refuse", {"inf": 5}, r"^tensor 't' contains infinities in sample 5 although .* with nonfinite='count'$"),
        ("refuse", {"nan": 5, "inf": 2}, r"^tensor 't' contains infinities in sample 2"),
    ],
)
def test_what_is_refused(policy, odd, text, workers):
    with pytest.raises(DataError, match=text):
        planned(samples(**odd), policy, workers=workers)


def finite_logs(*without):
    data = FINITE.copy()
    data[list(without), 0] = 1e9
    logs = np.log(data)
    return logs[data < 1e9]


def test_by_default_infinities_are_left_out_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = planned(samples(inf=5), "refuse-nan")["t"]
    logs = finite_logs(5)
    assert np.allclose([t.values.lo, t.values.hi], [logs.min(), logs.max()], rtol=1e-6)
    assert t.source.endswith("; 1 infinite left out")


@pytest.mark.parametrize("rule", [name for name in RULES if not name.startswith("onnxruntime_")])
def test_counting_leaves_both_out_and_tells_where_they_were(rule):
    with pytest.warns(QuantlabWarning) as caught:
        t = planned(samples(nan=3, inf=5), "count", rule)["t"]
    (said,) = [str(one.message) for one in caught]
    assert said == (
        "2 of 2 tensors held NaN or infinities, which are left out of their ranges and which no integer can stand for "
        "('t': 1 NaN and 1 infinite of 36 values; 'y': 1 NaN and 0 infinite of 36 values)"
    )
    assert t.source.endswith("; 1 NaN and 1 infinite left out")
    assert np.isfinite([t.values.lo, t.values.hi]).all()
    logs = finite_logs(3, 5)
    assert logs.min() * (1 + 1e-6) - 1e-6 <= t.values.lo <= t.values.hi <= logs.max() * (1 + 1e-6)


def test_counting_finite_data_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert planned(samples(), "count") == planned(samples(), "refuse")


def test_the_worst_tensors_are_named_first():
    names = "abcde"
    nodes = " ".join(f"t{name} = Log(x{name}) y{name} = Sigmoid(t{name})" for name in names)
    inputs = ", ".join(f"float[4] x{name}" for name in names)
    outputs = ", ".join(f"float[4] y{name}" for name in names)
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g ({inputs}) => ({outputs}) {{ {nodes} }}'
    )
    sample = {
        f"x{name}": np.array([-1.0] * index + [2.0] * (4 - index), np.float32) for index, name in enumerate("cadbe")
    }
    sample["xe"] = np.array([0.0, 2.0, 2.0, 2.0], np.float32)
    recipe = quantlab.Recipe(nonfinite="count", op_types=("Sigmoid",))
    text = r"^7 of 10 tensors held .*\('tb': 3 NaN and 0 infinite of 4 values; 'yb': 3 .*; 'td': 2 .*; and 4 more\)$"
    with pytest.warns(QuantlabWarning, match=text):
        quantlab.quantize(model, [sample], recipe)


def test_a_tensor_of_nothing_else_has_no_range():
    text = r"^tensor 't': no finite value was seen \(36 NaN, 0 infinite\)"
    with pytest.warns(QuantlabWarning, match="36 NaN"), pytest.raises(DataError, match=text):
        planned([{"x": -row[None]} for row in FINITE], "count")


def test_the_recipe_keeps_the_policy():
    recipe = quantlab.Recipe(nonfinite="count", min_real_range=0.25)
    assert recipe.to_json()["nonfinite"] == "count"
    assert quantlab.Recipe.from_json(recipe.to_json()) == recipe
    assert quantlab.Recipe.from_json({}).nonfinite == "refuse-nan"
    text = r"^nonfinite 'cont' is unknown; did you mean 'count'\? \(allowed: refuse-nan, refuse, count\)$"
    with pytest.raises(OptionError, match=text):
        quantlab.Recipe(nonfinite="cont")


def test_a_checkpoint_is_good_for_one_policy(tmp_path):
    path = tmp_path / "c.npz"
    planned(samples(inf=5), "refuse-nan", checkpoint=path)
    with pytest.raises(DataError, match="was made with another options"):
        planned(samples(inf=5), "refuse", checkpoint=path)


@pytest.mark.parametrize("rule", RULES)
def test_the_least_range_holds_for_every_rule(rule):
    data = [{"x": np.full((1, 4), np.exp(0.125 + 0.001 * index), np.float32)} for index in range(9)]
    prepared = quantlab.prepare_for(MODEL)
    for least, symmetric in ((None, False), (4.0, False), (4.0, True)):
        recipe = quantlab.Recipe(
            activation=activation_spec("uint8", symmetric=symmetric),
            calibrate=rule,
            min_real_range=least,
            op_types=("Sigmoid",),
        )
        grid = quantlab.calibrate(prepared, quantlab.decide(prepared, recipe), data, recipe).tensors["t"].qparams
        span = grid.span()
        assert (float(span.hi) - float(span.lo) >= 4.0 * (1 - 1e-6)) == (least is not None)
