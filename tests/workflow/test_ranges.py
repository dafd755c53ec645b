"""Calibrating once and quantizing later: the same bytes as in one go, and clear words where a file does not fit."""

import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest

import quantlab
from quantlab.calibration import Histogram, MinMax, Stored, load_statistics, save_statistics
from quantlab.demo import digits, float_model
from quantlab.errors import DataError, OptionError, QuantlabWarning
from quantlab.graph import GraphView
from quantlab.workflow.checkpoint import model_hash

MODEL = quantlab.load(float_model())
DATA = [{"image": image[None]} for image in digits().train_images[:60]]
RECIPES = {
    "minmax": quantlab.Recipe(),
    "symmetric": quantlab.Recipe(calibrate="minmax", calibrate_options={"symmetric": True}),
    "percentile": quantlab.Recipe(calibrate="percentile", calibrate_options={"percent": 99.9}, per_channel=True),
    "entropy": quantlab.Recipe(calibrate="entropy"),
    "mse": quantlab.Recipe(calibrate="mse", per_channel=True),
    "moving_average": quantlab.Recipe(calibrate="moving_average", calibrate_options={"constant": 0.25}),
    "onnxruntime_percentile": quantlab.Recipe(calibrate="onnxruntime_percentile"),
    "parts": quantlab.Recipe(
        rules=(quantlab.RecipeRule(nodes=("/head/*",), quantize=False, because="to leave some ranges out"),)
    ),
}
DIRECT = {name: quantlab.quantize(MODEL, DATA, recipe) for name, recipe in RECIPES.items()}


def serialized(result):
    return result.model.SerializeToString(deterministic=True)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error", QuantlabWarning)
        yield


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("file_format", ["json", "npz", "onnxruntime"])
def test_from_a_file_comes_the_model_that_comes_from_the_data(tmp_path, quiet, name, file_format):
    quantlab.save_ranges(tmp_path / "kept", quantlab.calibrate_ranges(MODEL, DATA, RECIPES[name]), format=file_format)
    table = quantlab.load_ranges(tmp_path / "kept")
    result = quantlab.quantize(MODEL, recipe=RECIPES[name], ranges=table)
    assert serialized(result) == serialized(DIRECT[name])
    assert result.plan == DIRECT[name].plan


@pytest.mark.parametrize("name", RECIPES)
def test_from_statistics_comes_the_model_that_comes_from_the_data(tmp_path, quiet, name):
    stored = quantlab.collect_statistics(MODEL, DATA, RECIPES[name])
    save_statistics(tmp_path / "seen.npz", stored.statistics, stored.meta)
    table = quantlab.ranges_of(MODEL, load_statistics(tmp_path / "seen.npz"), RECIPES[name])
    assert serialized(quantlab.quantize(MODEL, recipe=RECIPES[name], ranges=table)) == serialized(DIRECT[name])


@pytest.mark.parametrize("name", ["minmax", "symmetric", "percentile", "mse", "entropy", "parts"])
def test_the_finest_histogram_serves_every_rule_to_the_bit(quiet, name):
    """Entropy collects twice as many bins as the others; fewer come of joining them."""
    stored = quantlab.collect_statistics(MODEL, DATA, RECIPES["entropy"])
    table = quantlab.ranges_of(MODEL, stored, RECIPES[name])
    assert serialized(quantlab.quantize(MODEL, recipe=RECIPES[name], ranges=table)) == serialized(DIRECT[name])
    assert table.meta["rule"] == RECIPES[name].calibrate
    assert table.meta["model"] == model_hash(MODEL)


def test_ranges_serve_other_grids_than_those_they_were_calibrated_for(quiet):
    table = quantlab.calibrate_ranges(MODEL, DATA)
    wide = quantlab.Recipe(
        activation=quantlab.QuantSpec(dtype=quantlab.arrays.UINT16),
        weight=quantlab.QuantSpec(dtype=quantlab.arrays.INT4, symmetric=True),
        per_channel=True,
    )
    assert serialized(quantlab.quantize(MODEL, recipe=wide, ranges=table)) == serialized(
        quantlab.quantize(MODEL, DATA, wide)
    )
    # Fewer nodes need fewer ranges, and what is too much is no trouble.
    assert serialized(quantlab.quantize(MODEL, recipe=RECIPES["parts"], ranges=table)) == serialized(DIRECT["parts"])


def test_the_absolute_maximum_gives_ranges_about_zero(tmp_path, quiet):
    table = quantlab.calibrate_ranges(MODEL, DATA)
    quantlab.save_ranges(tmp_path / "kept.flatbuffers", table)
    plan = quantlab.quantize(MODEL, ranges=quantlab.load_ranges(tmp_path / "kept.flatbuffers")).plan
    for name, measured in table.ranges.items():
        most = max(abs(float(measured.lo)), abs(float(measured.hi)))
        assert plan.tensors[name].values == quantlab.Range(np.float32(-most), np.float32(most))
        assert plan.tensors[name].source == "absolute maximum in onnxruntime's calibration table"


def test_ranges_are_in_the_types_of_their_tensors():
    table = quantlab.calibrate_ranges(MODEL, DATA, RECIPES["percentile"])
    assert {values.dtype.name for values in table.ranges.values()} == {"float32"}
    assert list(table.ranges) == quantlab.decide(quantlab.prepare_for(MODEL), quantlab.Recipe()).observed()


# What does not fit


def without(table, *names):
    return replace(table, ranges={name: one for name, one in table.ranges.items() if name not in names})


def renamed(table, old, new):
    return replace(table, ranges={new if name == old else name: one for name, one in table.ranges.items()})


def test_ranges_that_are_missing_are_named():
    table = quantlab.calibrate_ranges(MODEL, DATA)
    with pytest.raises(DataError) as caught:
        quantlab.quantize(MODEL, ranges=renamed(without(table, "average_out"), "residual_out", "residual_outs"))
    assert str(caught.value) == (
        f"the ranges lack 2 of {len(table.ranges)} tensors: calibrate with the options that are used here, or leave "
        "the nodes around these tensors in float; the first is 'residual_out'; did you mean 'residual_outs'?"
    )


def test_ranges_of_tensors_that_do_not_exist_are_warned_of():
    table = quantlab.calibrate_ranges(MODEL, DATA)
    more = replace(table, ranges={**table.ranges, "residual_oot": quantlab.Range(0.0, 1.0)})
    with pytest.warns(QuantlabWarning) as caught:
        result = quantlab.quantize(MODEL, ranges=more)
    assert str(caught[0].message) == (
        f"1 of {len(more.ranges)} ranges have no effect, since the model has no such tensor; "
        "the first is 'residual_oot'; did you mean 'residual_out'?"
    )
    assert serialized(result) == serialized(DIRECT["minmax"])


def other_model():
    other = onnx.ModelProto()
    other.CopyFrom(MODEL)
    weight = next(one for one in other.graph.initializer if one.name == "classifier.weight")
    weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * np.float32(1.5)).tobytes()
    return other


def test_ranges_and_statistics_of_another_model_are_warned_of():
    other = other_model()
    stored = quantlab.collect_statistics(other, DATA)
    hashes = f"its hash is {model_hash(other)}, this one's is {model_hash(MODEL)}; calibrate again unless both compute"
    with pytest.warns(QuantlabWarning, match=f"^the statistics were measured on another model: {hashes} the same$"):
        quantlab.ranges_of(MODEL, stored)
    table = quantlab.ranges_of(other, stored)
    with pytest.warns(QuantlabWarning, match=f"^the ranges were measured on another model: {hashes} the same$"):
        quantlab.quantize(MODEL, ranges=table)


def test_statistics_of_another_model_stay_those_of_another_model():
    """Ranges made of them are still of the model that was measured."""
    other = other_model()
    with pytest.warns(QuantlabWarning):
        table = quantlab.ranges_of(MODEL, quantlab.collect_statistics(other, DATA))
    assert table.meta["model"] == model_hash(other)


def test_the_hash_tells_weights_graph_and_names_and_has_no_size_limit(monkeypatch):
    found = {model_hash(MODEL), model_hash(other_model())}
    swapped = onnx.ModelProto()
    swapped.CopyFrom(MODEL)
    swapped.graph.node[0].name = "another"
    found.add(model_hash(swapped))
    assert len(found) == 3
    largest = max(one.ByteSize() for one in MODEL.graph.initializer)
    plain = onnx.ModelProto.SerializeToString

    def limited(self, **options):
        assert self.ByteSize() < largest
        return plain(self, **options)

    monkeypatch.setattr(onnx.ModelProto, "SerializeToString", limited)
    assert model_hash(MODEL) in found


def test_data_and_ranges_exclude_each_other():
    table = quantlab.calibrate_ranges(MODEL, DATA)
    with pytest.raises(OptionError, match=r"^batches and ranges exclude each other: give None for the one"):
        quantlab.quantize(MODEL, DATA, ranges=table)
    with pytest.raises(DataError, match=r"^there is no calibration data: give at least one sample"):
        quantlab.quantize(MODEL)


def test_statistics_that_a_rule_cannot_use():
    minmax = quantlab.collect_statistics(MODEL, DATA)
    with pytest.raises(
        OptionError,
        match=r"^the statistics were collected for another range rule: .*'mse' needs a Histogram, got ",
    ):
        quantlab.ranges_of(MODEL, minmax, RECIPES["mse"])
    averages = quantlab.collect_statistics(MODEL, DATA, RECIPES["moving_average"])
    other = quantlab.Recipe(calibrate="moving_average", calibrate_options={"constant": 0.5})
    with pytest.raises(
        OptionError,
        match=r"^the statistic of tensor 'image' was collected with constant=0.25, and range rule 'moving_average' "
        r"needs constant=0.5: collect statistics with that rule and option$",
    ):
        quantlab.ranges_of(MODEL, averages, other)
    missing = Stored(statistics={"image": MinMax().update(np.ones(1))}, meta={})
    with pytest.raises(DataError, match=r"^the statistics lack 8 of 9 tensors: calibrate with .*; the first is "):
        quantlab.ranges_of(MODEL, missing)
    nothing = Stored(statistics=dict.fromkeys(minmax.statistics, MinMax()), meta={})
    with pytest.raises(DataError, match=r"^tensor '.*': no finite value was seen"):
        quantlab.ranges_of(MODEL, nothing)


def test_a_coarser_histogram_than_the_rules_own_is_warned_of():
    stored = quantlab.collect_statistics(MODEL, DATA, RECIPES["percentile"])
    with pytest.warns(
        QuantlabWarning,
        match=r"^the statistics are histograms of at most 4,096 bins, and range rule 'entropy' would collect 8,192: ",
    ):
        quantlab.ranges_of(MODEL, stored, RECIPES["entropy"])


def test_coarsening_is_collecting_with_fewer_bins():
    rng = np.random.default_rng(0)
    for scale in (1e-30, 1.0, 1e20):
        data = [rng.normal(size=500) * scale, np.zeros(3), rng.exponential(size=100) * scale]
        for wide, narrow in ((4096, 4095), (4096, 8), (100, 33)):
            one, other = Histogram(max_bins=wide), Histogram(max_bins=narrow)
            assert one.coarsened(narrow) == other
            for x in data:
                one, other = one.update(x), other.update(x)
            assert one.coarsened(narrow) == other
    with pytest.raises(OptionError, match=r"^a histogram of at most 8 bins cannot be made one of 16$"):
        Histogram(max_bins=8).coarsened(16)


def test_the_steps_take_ranges_too():
    prepared = quantlab.prepare_for(MODEL)
    plan = quantlab.decide(prepared, quantlab.Recipe())
    table = quantlab.calibrate_ranges(MODEL, DATA)
    by_hand = plan.with_tensors({"image": replace(plan.tensors["image"], values=quantlab.Range(-2.0, 2.0))})
    resolved = quantlab.calibrate(prepared, by_hand, None, quantlab.Recipe(), ranges=without(table, "image"))
    assert float(resolved.tensors["image"].values.hi) == 2.0
    assert resolved.tensors["residual_out"].values == table.ranges["residual_out"]
    assert "image" in GraphView.of(prepared.model).inputs
