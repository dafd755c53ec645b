"""The closed loop: find the culprit, leave its nodes in float, quantize again, and the outputs are better."""

import json
import re

import numpy as np
import onnx
import pytest

import quantlab
from quantlab import demo
from quantlab.backend import OrtBackend
from quantlab.debug.findings import Attribution, Source
from quantlab.errors import OptionError
from tests.debug.faults import hot_channel, samples

DATA = samples(12)


def source(tensor, share, nodes, left):
    return Source(
        tensor=tensor, part="rounding", node=nodes[0], estimate=share, alone=share, relieved=None, advice="",
        nodes=nodes, left=left,
    )  # fmt: skip


def attribution(*sources):
    return Attribution(
        sqnr_db=10.0, simulated_db=10.0, sources=sources, alone=1.0, interaction=0.0, requantization=0.0, samples=1
    )


THREE = attribution(
    source("a", 0.5, ("n1", "n2"), 0.4), source("b", 0.3, ("n2", "n3"), 0.09), source("c", 0.2, ("n4",), 0.001)
)


def test_as_few_sources_as_give_the_gain():
    assert quantlab.suggest(THREE).nodes == ("n1", "n2", "n3")
    assert quantlab.suggest(THREE).gain_db == pytest.approx(10.46, abs=0.01)
    assert quantlab.suggest(THREE, gain_db=3).nodes == ("n1", "n2")
    assert quantlab.suggest(THREE, gain_db=20).nodes == ("n1", "n2", "n3", "n4")


def test_no_more_nodes_than_are_allowed():
    assert quantlab.suggest(THREE, gain_db=20, most=3).nodes == ("n1", "n2", "n3")
    assert quantlab.suggest(THREE, most=1).nodes == ()
    assert quantlab.suggest(THREE, most=1).gain_db == 0.0


def test_a_quarter_of_the_nodes_by_default_and_at_least_four():
    many = [source(f"t{i}", 0.5 - i / 100, (f"n{i}",), 0.99 - i / 100) for i in range(40)]
    assert len(quantlab.suggest(attribution(*many)).nodes) == 10
    assert len(quantlab.suggest(attribution(*many[:6])).nodes) == 4


def test_sources_at_the_end_that_give_nothing_are_left_out():
    found = attribution(source("a", 0.5, ("n1",), 0.4), source("b", 0.3, ("n2",), 0.41), source("c", 0.2, ("n3",), 0.4))
    assert quantlab.suggest(found).nodes == ("n1",)


def test_a_recipe_reads_the_file_and_each_rule_says_why():
    plain = json.loads(json.dumps(quantlab.suggest(THREE).to_json()))
    recipe = quantlab.Recipe.from_json(plain)
    assert [rule.nodes for rule in recipe.rules] == [("n1", "n2"), ("n3",)]
    assert not any(rule.quantize for rule in recipe.rules)
    assert recipe.rules[1].because == "30% of the output error: rounding, tensor 'b'"


def test_names_that_look_like_patterns_mean_themselves():
    (pattern,) = quantlab.suggest(attribution(source("a", 0.9, ("block[0].conv*",), 0.0))).nodes
    assert re.fullmatch(pattern.removeprefix("re:"), "block[0].conv*")
    rule = quantlab.RecipeRule(nodes=(pattern,))
    assert rule.matching(onnx.helper.make_node("Conv", [], [], name="block[0].conv*"))
    assert not rule.matching(onnx.helper.make_node("Conv", [], [], name="block0.conv1"))


def test_options_out_of_their_limits():
    with pytest.raises(OptionError, match="gain_db must be above 0, got -1"):
        quantlab.suggest(THREE, gain_db=-1)
    with pytest.raises(OptionError, match="most must be at least 1, got 0"):
        quantlab.suggest(THREE, most=0)


def sqnr_of(exact, model, data):
    """Compute it without any of quantlab's sums."""
    backend = OrtBackend(threads=1)
    runs = [backend.open(each) for each in (exact, model)]
    x, y = (np.concatenate([np.ravel(*run(sample).values()) for sample in data]).astype(np.float64) for run in runs)
    return 10 * np.log10((x**2).sum() / ((x - y) ** 2).sum())


def test_the_loop_closes_on_a_planted_fault():
    model = hot_channel()
    options = {"activation_type": "uint8", "per_channel": True}
    first = quantlab.quantize_static(model, None, DATA, **options)
    found = quantlab.attribute(model, first.model, DATA, backend=OrtBackend(threads=1))
    assert (found.sources[0].tensor, found.sources[0].part) == ("hot", "rounding")
    chosen = quantlab.suggest(found)
    assert chosen.nodes == ("hot_node", "middle_node")
    second = quantlab.quantize_static(model, None, DATA, nodes_to_exclude=list(chosen.nodes), **options)
    gain = sqnr_of(model, second.model, DATA) - sqnr_of(model, first.model, DATA)
    assert gain > 20
    assert gain == pytest.approx(chosen.gain_db, abs=1), "the simulation foresaw it"


def test_the_loop_closes_on_the_embedded_model():
    data = [{"image": image[None]} for image in demo.digits().test_images[:10]]
    model = quantlab.load(demo.float_model())
    first = quantlab.quantize_static(model, None, data)
    found = quantlab.attribute(model, first.model, data, backend=OrtBackend(threads=1))
    chosen = quantlab.suggest(found, gain_db=3)
    second = quantlab.quantize_static(model, None, data, nodes_to_exclude=list(chosen.nodes))
    gain = sqnr_of(model, second.model, data) - sqnr_of(model, first.model, data)
    assert gain > 2
