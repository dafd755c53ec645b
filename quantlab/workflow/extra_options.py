"""The `extra_options` of onnxruntime.quantization, read once into typed values.

This is the border where names are strings and values may be anything. Behind it there are a frozen `ExtraOptions`, then
a `Recipe` and the name and options of a range rule. Every key of the peer is known here; one that it does not know is
an error, and so is a value of the wrong type, before any sample is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from quantlab.errors import OptionError, QuantlabWarning, nearest
from quantlab.plan import Layout, Numerics, TensorOverride
from quantlab.workflow import extra_values as read

RangeOptions = tuple[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ExtraOptions:
    """The keys of `extra_options`, typed; the defaults are those of onnxruntime.quantization.

    Attributes:
        activation_symmetric: Grids of activations are centred on zero.
        weight_symmetric: Grids of weights are centred on zero; None for those of signed types only.
        subgraphs: The bodies of If, Loop and Scan are quantized too.
        force_movement: Operators that only move values are quantized whatever their input.
        float_outputs: Operator types whose outputs get no grid on their account.
        matmul_axis: Channel axis of MatMul's constants, or None.
        block_size: How many neighbours in a weight's column share a scale, or None.
        bias: Biases become int32.
        min_real_range: Least width of any range, in the tensor's unit, or None.
        keep_clipping: Relu and Clip stay.
        layout: How grids are written.
        numerics: How numbers are computed.
        overrides: Tensor to what it gets instead of all this.
        ranges: Options of onnxruntime's calibrator that were given, under the names of our `onnxruntime_*` rules.
    """

    activation_symmetric: bool = False
    weight_symmetric: bool | None = None
    subgraphs: bool = False
    force_movement: bool = False
    float_outputs: tuple[str, ...] = ()
    matmul_axis: int | None = None
    block_size: int | None = None
    bias: bool = True
    min_real_range: float | None = None
    keep_clipping: bool = False
    layout: Layout = field(default_factory=Layout)
    numerics: Numerics = field(default_factory=Numerics)
    overrides: Mapping[str, TensorOverride] = field(default_factory=dict)
    ranges: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, given: Mapping[str, Any] | None) -> ExtraOptions:
        """Read a mapping as users of onnxruntime.quantization write it.

        Args:
            given: Key to value, or None.

        Returns:
            The options.

        Raises:
            OptionError: A key is unknown, the text gives the nearest; a value has the wrong type; or the key asks for
                what quantlab does not do.

        Warns:
            QuantlabWarning: A key changes nothing, here or in onnxruntime.quantization.

        Example:
            >>> ExtraOptions.parse({"QuantizeBias": False}).bias
            False
            >>> ExtraOptions.parse({"QuantiseBias": False})
            Traceback (most recent call last):
            quantlab.errors.OptionError: extra_options has no key 'QuantiseBias'; did you mean 'QuantizeBias'?
        """
        if given is not None and not isinstance(given, Mapping):
            raise OptionError(f"extra_options must be a dict from names to values, got {type(given).__name__}")
        found: dict[str, dict[str, Any]] = {"": {}, "layout": {}, "numerics": {}, "ranges": {}}
        overrides: dict[str, TensorOverride] = {}
        for key, value in (given or {}).items():
            if key not in KEYS:
                raise OptionError(f"extra_options has no key {key!r}{nearest(str(key), KEYS)}")
            target, reader = KEYS[key]
            typed = reader(f"extra_options[{key!r}]", value)
            group, _, name = target.rpartition(".")
            if group == "overrides":
                overrides = _joined(overrides, typed, key)
            elif name:
                found[group][name] = typed
            if key in _DOES_NOTHING and value:
                _say_idle(key, _DOES_NOTHING[key])
        return cls(
            **found[""],
            overrides=overrides,
            layout=Layout(**found["layout"]),
            numerics=Numerics(**found["numerics"]),
            ranges=tuple((name, value) for name, value in found["ranges"].items() if value is not None),
        )

    def recipe_fields(self) -> dict[str, Any]:
        """Return the fields of a `Recipe` that differ from its defaults on account of these options."""
        taken = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _NOT_IN_RECIPE}
        default = ExtraOptions()
        return {name: value for name, value in taken.items() if value != getattr(default, name)}

    def range_rule(self, rule: str, options: Mapping[str, Any]) -> RangeOptions:
        """Return the range rule to use: onnxruntime's own where one of its calibrator's options was given.

        Args:
            rule: Name of the range rule that was asked for.
            options: Its options.

        Returns:
            Name of the rule and its options.

        Raises:
            OptionError: There are options of both kinds, or the rule has none of onnxruntime's.

        Warns:
            QuantlabWarning: An option changes nothing.
        """
        if not self.ranges:
            return rule, dict(options)
        given = dict(self.ranges)
        _check_ranges(given, rule, options)
        if rule == "entropy":
            _say_idle("CalibTensorRangeSymmetric", "onnxruntime's entropy calibrator never reads it")
            return "onnxruntime_entropy", {}
        if "averaging_constant" in given and not (given.get("moving_average") and "stride" in given):
            _say_idle(
                "CalibMovingAverageConstant",
                "over one pass all samples weigh alike; it counts with CalibMovingAverage and CalibStridedMinMax",
            )
        return f"onnxruntime_{rule}", given


def _check_ranges(given: Mapping[str, Any], rule: str, options: Mapping[str, Any]) -> None:
    keys = {target.removeprefix("ranges."): key for key, (target, _) in KEYS.items()}
    first = keys[next(iter(given))]
    if options:
        raise OptionError(f"extra_options[{first!r}] and calibrate_options exclude each other: keep one of them")
    if rule not in _RANGE_OPTIONS:
        raise OptionError(
            f"extra_options[{first!r}] is for calibrate_method {' or '.join(_RANGE_OPTIONS)}, got {rule!r}: "
            "give the options of that rule as calibrate_options"
        )
    for name in given:
        if name not in _RANGE_OPTIONS[rule]:
            allowed = ", ".join(keys[other] for other in _RANGE_OPTIONS[rule])
            raise OptionError(f"extra_options[{keys[name]!r}] does nothing with {rule!r} (allowed: {allowed})")


def _say_idle(key: str, why: str) -> None:
    warnings.warn(f"extra_options[{key!r}] does nothing: {why}", QuantlabWarning, stacklevel=3)


def _joined(one: dict[str, TensorOverride], other: dict[str, TensorOverride], key: str) -> dict[str, TensorOverride]:
    if twice := sorted(one.keys() & other.keys()):
        raise OptionError(f"tensor {twice[0]!r} has an override in extra_options[{key!r}] and another before: keep one")
    return one | other


_NOT_IN_RECIPE = ("activation_symmetric", "weight_symmetric", "ranges")
_RANGE_OPTIONS = {
    "minmax": ("symmetric", "moving_average", "averaging_constant", "max_intermediate_outputs", "stride"),
    "percentile": ("symmetric", "percentile"),
    "entropy": ("symmetric",),
}

_WITHOUT_SMOOTHING = (
    "SmoothQuant is still to be built; leave it out, and where activations have outlying channels give them 16 bits "
    "(activation_type QUInt16) or leave the nodes that suffer in float (nodes_to_exclude)"
)

_DOES_NOTHING = {
    "MatMulConstBOnly": "MatMul of two activations is quantized in static models whatever it says",
    "DefaultTensorType": "types that are missing are found by inference, or by `quantlab preprocess --data`",
    "extra.Sigmoid.nnapi": "Sigmoid gets the grid of the range that was measured",
    "SmoothQuantAlpha": "it belongs to SmoothQuant, which is off",
    "SmoothQuantFolding": "it belongs to SmoothQuant, which is off",
}
"""Keys that are taken and change nothing, with the words to say so."""

KEYS: dict[str, tuple[str, read.Reader]] = {
    "ActivationSymmetric": ("activation_symmetric", read.flag),
    "WeightSymmetric": ("weight_symmetric", read.maybe(read.flag)),
    "ActivationRestrictedAsymmetric": ("numerics.restricted", read.flag),
    "EnableSubgraph": ("subgraphs", read.flag),
    "ForceQuantizeNoInputCheck": ("force_movement", read.flag),
    "OpTypesToExcludeOutputQuantization": ("float_outputs", read.operator_types),
    "QDQOpTypePerChannelSupportToAxis": ("matmul_axis", read.matmul_axis),
    "QuantizeBias": ("bias", read.flag),
    "MinimumRealRange": ("min_real_range", read.maybe(read.number)),
    "QDQKeepRemovableActivations": ("keep_clipping", read.flag),
    "QDQDisableWeightAdjustForInt32Bias": ("numerics.widen_weights", read.unless),
    "AddQDQPairToWeight": ("layout.weight_pairs", read.flag),
    "DedicatedQDQPair": ("layout.dedicated_pairs", read.flag),
    "UseQDQContribOps": ("layout.contrib_ops", read.flag),
    "TensorQuantOverrides": ("overrides.", read.overrides),
    "weights_tensor_override": ("overrides.", read.weight_overrides),
    "activations_tensor_override": ("overrides.", read.activation_overrides),
    "CalibTensorRangeSymmetric": ("ranges.symmetric", read.flag),
    "CalibMovingAverage": ("ranges.moving_average", read.flag),
    "CalibMovingAverageConstant": ("ranges.averaging_constant", read.number),
    "CalibMaxIntermediateOutputs": ("ranges.max_intermediate_outputs", read.maybe(read.count)),
    "CalibPercentile": ("ranges.percentile", read.number),
    "CalibStridedMinMax": ("ranges.stride", read.maybe(read.count)),
    "BlockSize": ("block_size", read.block_size),
    "SmoothQuant": ("", read.not_done(_WITHOUT_SMOOTHING)),
    "SmoothQuantAlpha": ("", read.number),
    "SmoothQuantFolding": ("", read.flag),
    "MatMulConstBOnly": ("", read.flag),
    "DefaultTensorType": ("", read.anything),
    "extra.Sigmoid.nnapi": ("", read.flag),
}
"""Key to the field that it sets, empty where it changes nothing in a QDQ model, and the reader of its values."""
