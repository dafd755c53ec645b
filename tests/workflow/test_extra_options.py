"""`extra_options`: what is mistyped, of the wrong type or contradictory is refused by name, with what is near."""

from __future__ import annotations

from typing import Any

import pytest

from quantlab.errors import OptionError
from quantlab.plan import Layout, Numerics, Recipe
from quantlab.workflow.extra_options import ExtraOptions
from quantlab.workflow.static import make_recipe


def refusal(options: Any, **arguments: Any) -> str:
    with pytest.raises(OptionError) as error:
        make_recipe(extra_options=options, **arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([("a", 1)], "extra_options must be a dict from names to values, got list"),
        ({"WeightSymetric": True}, "extra_options has no key 'WeightSymetric'; did you mean 'WeightSymmetric'?"),
        ({3: True}, "extra_options has no key 3"),
        ({"ActivationSymmetric": "True"}, "extra_options['ActivationSymmetric'] must be true or false, got 'True'"),
        ({"AddQDQPairToWeight": 1}, "extra_options['AddQDQPairToWeight'] must be true or false, got 1"),
        ({"WeightSymmetric": "yes"}, "extra_options['WeightSymmetric'] must be true or false, got 'yes'"),
        ({"MinimumRealRange": -1.0}, "extra_options['MinimumRealRange'] must be a finite number of at least 0, got "
            "-1.0"),
        ({"MinimumRealRange": float("nan")},
         "extra_options['MinimumRealRange'] must be a finite number of at least 0, got nan"),
        ({"OpTypesToExcludeOutputQuantization": "Conv"},
         "extra_options['OpTypesToExcludeOutputQuantization'] must be a list of operator types, got 'Conv'"),
        ({"QDQOpTypePerChannelSupportToAxis": 1},
         "extra_options['QDQOpTypePerChannelSupportToAxis'] must be a dict from operator type to axis, got 1"),
        ({"QDQOpTypePerChannelSupportToAxis": {"MatMul": "1"}},
         "extra_options['QDQOpTypePerChannelSupportToAxis']['MatMul'] must be an integer, got '1'"),
        ({"QDQOpTypePerChannelSupportToAxis": {"Conv": 1}},
         "extra_options['QDQOpTypePerChannelSupportToAxis']['Conv'] is 1: only MatMul leaves a choice of axis (allowed "
         "besides: Conv 0, ConvTranspose 1, Gemm 0 or 1, where their channels lie anyway)"),
        ({"CalibMaxIntermediateOutputs": 0},
         "extra_options['CalibMaxIntermediateOutputs'] must be an integer of at least 1, got 0"),
        ({"BlockSize": -1}, "extra_options['BlockSize'] must be an integer of at least 1, got -1"),
        ({"BlockSize": 1.5}, "extra_options['BlockSize'] must be an integer of at least 1, got 1.5"),
        ({"SmoothQuant": True},
         "extra_options['SmoothQuant'] is not there yet: SmoothQuant is still to be built; leave it out, and where "
         "activations have outlying channels give them 16 bits (activation_type QUInt16) or leave the nodes that "
         "suffer in float (nodes_to_exclude)"),
        ({"CalibPercentile": 99.0}, "extra_options['CalibPercentile'] does nothing with 'minmax' (allowed: "
         "CalibTensorRangeSymmetric, CalibMovingAverage, CalibMovingAverageConstant, CalibMaxIntermediateOutputs, "
         "CalibStridedMinMax)"),
        ({"TensorQuantOverrides": {"w": {"scael": 1.0}}},
         "extra_options['TensorQuantOverrides']: override of tensor 'w': unknown field 'scael'; did you mean 'scale'?"),
        ({"TensorQuantOverrides": {"w": {"axis": 0}}, "weights_tensor_override": [["w", {"axis": 1}]]},
         "tensor 'w' has an override in extra_options['weights_tensor_override'] and another before: keep one"),
        ({"DedicatedQDQPair": True, "TensorQuantOverrides": {"x": {"convert": {"quant_type": "int16"}}}},
         "override of tensor 'x': convert and dedicated_pairs both say which pair a node reads: keep one of them"),
        ({"ActivationRestrictedAsymmetric": True},
         "restricted zero points are for asymmetric uint8 activations, got int8, asymmetric, per tensor: make the "
         "activations uint8 or leave the option out"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: Any, message: str) -> None:
    assert refusal(options).startswith(message)


def test_options_of_a_calibrator_go_with_its_method() -> None:
    wanted = (
        "extra_options['CalibPercentile'] is for calibrate_method minmax or percentile or entropy, got 'mse': give the"
    )
    assert refusal({"CalibPercentile": 99.0}, calibrate_method="mse").startswith(wanted)
    wanted = "extra_options['CalibPercentile'] and calibrate_options exclude each other: keep one of them"
    options = {"percent": 99.0}
    assert refusal({"CalibPercentile": 99.0}, calibrate_method="percentile", calibrate_options=options) == wanted
    recipe = make_recipe(extra_options={"CalibPercentile": 99.0}, calibrate_method="Percentile")
    assert (recipe.calibrate, recipe.calibrate_options) == ("onnxruntime_percentile", {"percentile": 99.0})


def test_nothing_given_is_nothing_changed() -> None:
    assert ExtraOptions.parse(None) == ExtraOptions.parse({}) == ExtraOptions()
    assert make_recipe(extra_options={}) == make_recipe()


def test_options_of_a_format_that_has_no_pairs_are_refused() -> None:
    for options in ({"AddQDQPairToWeight": True}, {"DedicatedQDQPair": True}, {"UseQDQContribOps": True}):
        assert refusal(options, quant_format="QOperator").startswith("layout says how pairs of QuantizeLinear and")
    message = "operators on integers take no blocks: leave block_size out, or take format QDQ"
    assert refusal({"BlockSize": 4}, quant_format="QOperator") == message


@pytest.mark.parametrize("size", [0, True, 2.0])
def test_sizes_of_blocks_are_counts(size: Any) -> None:
    with pytest.raises(OptionError, match="block_size must be an integer of at least 1, or none, got"):
        Recipe(block_size=size)


def test_small_groups_refuse_by_name() -> None:
    with pytest.raises(OptionError, match="integer_inputs in layout must be true or false, got 1"):
        Layout(integer_inputs=1)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="degenerate 'natral' is unknown; did you mean 'natural'"):
        Numerics(degenerate="natral")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="unknown field 'weight_pair' in layout; did you mean 'weight_pairs'"):
        Recipe.from_json({"layout": {"weight_pair": True}})
