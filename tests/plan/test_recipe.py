"""Recipes: the first rule that matches wins, mistyped names are refused, patterns without effect are reported."""

import json
from dataclasses import replace

import onnx
import pytest
from onnx import helper

from quantlab.arrays import INT8, INT16, UINT8, QuantSpec
from quantlab.errors import OptionError
from quantlab.plan import PRESETS, Recipe, RecipeRule, activation_spec, preset, weight_spec


def _nodes(*pairs: tuple[str, str]) -> list[onnx.NodeProto]:
    return [helper.make_node(op, ["x"], ["y"], name=name) for op, name in pairs]


CONV, STEM, RELU = _nodes(("Conv", "block1/conv"), ("Conv", "stem"), ("Relu", "block1/relu"))


def test_the_first_rule_that_matches_wins() -> None:
    recipe = Recipe(
        rules=(
            RecipeRule(nodes=("block1/*",), ops=("Conv",), activation=QuantSpec(dtype=INT16)),
            RecipeRule(ops=("Conv",), quantize=False, because="convs stay"),
            RecipeRule(nodes=("block1/*",), per_channel=True),
        )
    )
    assert recipe.settings(CONV).activation.dtype == INT16
    assert recipe.settings(CONV).reason == "rule 'block1/*'"
    assert (recipe.settings(STEM).quantize, recipe.settings(STEM).reason) == (False, "convs stay")
    assert recipe.settings(RELU).per_channel


def test_without_a_rule_the_defaults_hold() -> None:
    settings = Recipe(activation=QuantSpec(dtype=UINT8), per_channel=True).settings(STEM)
    assert settings.quantize
    assert not settings.listed
    assert settings.activation.dtype == UINT8
    assert settings.weight == weight_spec("int8")
    assert settings.per_channel
    assert settings.reason == "recipe's defaults"


def test_op_types_list_what_may_be_quantized() -> None:
    recipe = Recipe(op_types=("Relu",))
    assert recipe.settings(RELU).listed
    left = recipe.settings(CONV)
    assert (left.quantize, left.reason) == (False, "operator Conv is not among op_types")


def test_a_rule_lists_the_operators_it_names() -> None:
    recipe = Recipe(rules=(RecipeRule(ops=("Conv",)),))
    assert recipe.settings(CONV).listed
    assert not recipe.settings(RELU).listed


def test_patterns_match_whole_names() -> None:
    rule = RecipeRule(nodes=("block?/co*",))
    assert rule.matching(CONV) == "block?/co*"
    assert rule.matching(STEM) is None
    assert RecipeRule(nodes=("conv",)).matching(CONV) is None


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(rules=(RecipeRule(nodes=("stam",)),)), "no node is called 'stam'; did you mean 'stem'?"),
        (Recipe(op_types=("Conf",)), "unknown operator type 'Conf'; did you mean 'Conv'?"),
        (Recipe(rules=(RecipeRule(ops=("Rely",)),)), "unknown operator type 'Rely'; did you mean 'Relu'?"),
    ],
)
def test_mistyped_names_are_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(OptionError) as error:
        recipe.check([CONV, STEM, RELU], ["Conv", "Relu"])
    assert str(error.value) == message


def test_patterns_without_effect_are_reported() -> None:
    recipe = Recipe(rules=(RecipeRule(nodes=("head/*", "stem", "bn*")),))
    assert recipe.check([CONV, STEM], ["Conv"], gone=["bn1"]) == [
        "pattern 'head/*' matches no node",
        "'bn*' names nodes that preparing the model has folded into their neighbours",
    ]


def test_operators_that_have_a_rule_may_be_named_though_the_model_has_none() -> None:
    assert Recipe(op_types=("Softmax",)).check([CONV], ["Conv", "Softmax"]) == []


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(
            activation=activation_spec("uint8"),
            weight=weight_spec("int4"),
            per_channel=True,
            bias=False,
            calibrate="percentile",
            calibrate_options={"percent": 99.9},
            min_real_range=1e-4,
            op_types=("Conv", "Relu"),
            rules=(
                RecipeRule(nodes=("a*",), quantize=False, because="sensitive"),
                RecipeRule(ops=("Conv",), activation=QuantSpec(dtype=INT16), weight=QuantSpec(dtype=INT8, axis=0)),
            ),
        ),
    ],
)
def test_json_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"perchannel": True}, "unknown recipe field 'perchannel'; did you mean 'per_channel'?"),
        ({"rules": [{"node": ["a"]}]}, "unknown field 'node' in a rule; did you mean 'nodes'?"),
        ({"weight": {"dtype": "int9"}}, "unknown type 'int9'; did you mean"),
    ],
)
def test_json_with_unknown_fields_is_refused(plain: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as error:
        Recipe.from_json(plain)
    assert str(error.value).startswith(message)


def test_regular_expressions_match_whole_names() -> None:
    rule = RecipeRule(nodes=("re:block[0-9]/(conv|relu)",))
    assert rule.matching(CONV) == rule.matching(RELU) == "re:block[0-9]/(conv|relu)"
    assert rule.matching(STEM) is None
    assert RecipeRule(nodes=("re:block",)).matching(CONV) is None
    unused = Recipe(rules=(RecipeRule(nodes=("re:head.*", "re:st.m"), quantize=False),))
    assert unused.check([CONV, STEM, RELU], ["Conv"]) == ["pattern 're:head.*' matches no node"]
    with pytest.raises(OptionError, match=r"'re:\(' is no regular expression: missing \), unterminated subpattern"):
        RecipeRule(nodes=("re:(",))


def test_a_rule_that_names_a_node_of_another_type_is_refused() -> None:
    recipe = Recipe(rules=(RecipeRule(nodes=("stem",), ops=("Relu", "Clip")),))
    with pytest.raises(OptionError) as error:
        recipe.check([CONV, STEM, RELU], ["Conv", "Relu", "Clip"])
    assert str(error.value) == (
        "node 'stem' is chosen by name, and it is a Conv, while only Relu, Clip are chosen by operator type: add the "
        "type, or leave the name out"
    )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_recipes_that_survive_json(name: str) -> None:
    assert Recipe.from_json(json.loads(json.dumps(preset(name).to_json()))) == preset(name)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(OptionError) as error:
        preset("cpu-x86")
    assert str(error.value) == (
        "no preset is called 'cpu-x86'; did you mean 'cpu-x86-vnni' or 'cpu-x86-avx2'? (allowed: cpu-x86-vnni, "
        "cpu-x86-avx2, cpu-arm, tensorrt, qnn, gpu, arm)"
    )


def test_presets_have_other_names_and_take_changes() -> None:
    assert preset("gpu") == preset("tensorrt")
    assert preset("arm", per_channel=True) == replace(preset("cpu-arm"), per_channel=True)


@pytest.mark.parametrize("name", ["gpu", "tensorrt"])
@pytest.mark.parametrize(
    ("field", "spec", "words"),
    [
        ("activation", activation_spec("uint8"), "activation=uint8, asymmetric, per tensor"),
        ("activation", activation_spec("int8"), "activation=int8, asymmetric, per tensor"),
        ("weight", weight_spec("uint8"), "weight=uint8, asymmetric, per tensor"),
    ],
)
def test_a_gpu_takes_symmetric_int8_alone(name: str, field: str, spec: QuantSpec, words: str) -> None:
    with pytest.raises(OptionError) as error:
        preset(name, **{field: spec})
    assert str(error.value) == (
        f"preset {name!r} wants symmetric int8 activations and weights, got {words}: leave {field} out"
    )
