"""Static quantization under the argument names that users of onnxruntime.quantization know."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import onnx

from quantlab.backend import OrtBackend, signature
from quantlab.data import batches
from quantlab.errors import OptionError
from quantlab.graph.files import MAX_PROTOBUF_BYTES, check_writable, load, save
from quantlab.plan import Recipe, RecipeRule, activation_spec, weight_spec
from quantlab.progress import Track, quiet
from quantlab.workflow.engine import Engine
from quantlab.workflow.extra_options import ExtraOptions
from quantlab.workflow.quantize import QuantResult, quantize


class QuantType(Enum):
    """Types of quantized values, in onnxruntime's spelling."""

    QInt8 = "int8"
    QUInt8 = "uint8"
    QInt16 = "int16"
    QUInt16 = "uint16"
    QInt4 = "int4"
    QUInt4 = "uint4"
    QFLOAT8E4M3FN = "float8e4m3fn"


class QuantFormat(Enum):
    """How a quantized graph is written: QuantizeLinear/DequantizeLinear pairs, or integer operators."""

    QDQ = "QDQ"
    QOperator = "QOperator"


class CalibrationMethod(Enum):
    """Range rules, in onnxruntime's spelling."""

    MinMax = "minmax"
    Percentile = "percentile"
    Entropy = "entropy"
    Distribution = "distribution"


Named = str | Enum


def _word(value: Named) -> str:
    """Return the name behind a string or an enum member, ours or onnxruntime's."""
    return value.name if isinstance(value, Enum) else str(value)


def make_recipe(
    *,
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    activation_type: Named = QuantType.QInt8,
    weight_type: Named = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    calibrate_method: Named = CalibrationMethod.MinMax,
    calibrate_options: dict[str, Any] | None = None,
    extra_options: Mapping[str, Any] | None = None,
    quant_format: Named = QuantFormat.QDQ,
    optimize: bool = True,
) -> Recipe:
    """Build a Recipe from the options of `quantize_static`; see there.

    Raises:
        OptionError: A type or method does not exist, the two types do not go together, or an extra option is unknown.
    """
    extra = ExtraOptions.parse(extra_options)
    both = [name for name in nodes_to_quantize or () if name in (nodes_to_exclude or ())]
    if both:
        raise OptionError(f"{both[0]!r} is in nodes_to_quantize and in nodes_to_exclude: take it out of one of them")
    rule, options = extra.range_rule(_word(calibrate_method).lower(), calibrate_options or {})
    activation, weight = (
        activation_spec(_word(activation_type), symmetric=extra.activation_symmetric),
        weight_spec(_word(weight_type), symmetric=extra.weight_symmetric, reduce_range=reduce_range),
    )
    if activation.dtype.signed and not weight.dtype.signed:
        raise OptionError(
            f"activations of {activation.dtype} with weights of {weight.dtype} have no kernel in onnxruntime: "
            "make the weights signed, or the activations unsigned"
        )
    if activation.dtype.is_float and not weight.dtype.is_float:
        raise OptionError(
            f"activations of {activation.dtype} with weights of {weight.dtype} have no kernel anywhere: "
            "give both float8, or the activations integers"
        )
    rules = [
        RecipeRule(nodes=(name,), quantize=False, because=f"excluded by {name!r} in nodes_to_exclude")
        for name in nodes_to_exclude or ()
    ]
    if nodes_to_quantize:
        ops = tuple(op_types_to_quantize or ())
        rules.append(RecipeRule(nodes=tuple(nodes_to_quantize), ops=ops, because="listed in nodes_to_quantize"))
        rules.append(RecipeRule(quantize=False, because="not listed in nodes_to_quantize"))
    return Recipe(
        activation=activation,
        weight=weight,
        per_channel=per_channel,
        op_types=tuple(op_types_to_quantize) if op_types_to_quantize else None,
        calibrate=rule,
        calibrate_options=options,
        rules=tuple(rules),
        format=_word(quant_format),  # type: ignore[arg-type]  # checked by Recipe
        optimize=optimize,
        **extra.recipe_fields(),
    )


def quantize_static(
    model_input: str | os.PathLike[str] | bytes | onnx.ModelProto,
    model_output: str | os.PathLike[str] | None = None,
    calibration_data_reader: Any = None,
    quant_format: Named = QuantFormat.QDQ,
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    activation_type: Named = QuantType.QInt8,
    weight_type: Named = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    calibrate_method: Named = CalibrationMethod.MinMax,
    calibration_providers: Sequence[str] | None = None,
    extra_options: Mapping[str, Any] | None = None,
    *,
    calibrate_options: dict[str, Any] | None = None,
    optimize: bool = True,
    engine: Engine | None = None,
    track: Track = quiet,
) -> QuantResult:
    """Quantize a float model to integers with ranges measured on calibration data.

    Args:
        model_input: Path, bytes or ModelProto; it is not changed.
        model_output: Where to write the model, or None to only return it.
        calibration_data_reader: Any object with `get_next()`, any iterable of dicts from input name to array, a dict of
            stacked arrays, or a path; see `quantlab.data.batches`.
        quant_format: `QDQ`, pairs of QuantizeLinear and DequantizeLinear, or `QOperator`, operators on integers.
        op_types_to_quantize: Operator types, or None for all that gain from it.
        per_channel: A scale for each output channel of a weight.
        reduce_range: Give away one bit of the weights, for processors without VNNI.
        activation_type: Type of activations.
        weight_type: Type of weights: symmetric for signed types, asymmetric for unsigned ones.
        nodes_to_quantize: Node names, glob patterns, or `re:` and a regular expression; None for all.
        nodes_to_exclude: Likewise; wins over `nodes_to_quantize`.
        use_external_data_format: Write the weights into a file beside the model whatever their size.
        calibrate_method: `MinMax`, `Percentile`, `Entropy` or `Distribution`.
        calibration_providers: Execution providers for calibration; the CPU by default.
        extra_options: Further options under the keys of onnxruntime.quantization; see
            `quantlab.workflow.extra_options`.
        calibrate_options: Options of the method, such as `{"percent": 99.99}`.
        optimize: Fold and fuse the float graph first; False leaves its nodes as they are.
        engine: How calibration is carried out: cores, memory, checkpoint, machines. Brings its own providers.
        track: Shows progress.

    Returns:
        The quantized model, its plan, and the prepared float model.

    Raises:
        ModelError: The model cannot be read, used or written.
        DataError: There is no data, or it does not fit the model.
        OptionError: An option is unknown or does not fit the model.
    """
    recipe = make_recipe(
        op_types_to_quantize=op_types_to_quantize,
        per_channel=per_channel,
        reduce_range=reduce_range,
        activation_type=activation_type,
        weight_type=weight_type,
        nodes_to_quantize=nodes_to_quantize,
        nodes_to_exclude=nodes_to_exclude,
        calibrate_method=calibrate_method,
        calibrate_options=calibrate_options,
        extra_options=extra_options,
        quant_format=quant_format,
        optimize=optimize,
    )
    if calibration_providers and engine is not None:
        raise OptionError(
            "calibration_providers and engine exclude each other: give the providers to the engine's backend"
        )
    if calibration_providers:
        engine = Engine(backend=OrtBackend(threads=1, providers=tuple(calibration_providers)))
    return quantize_by(
        recipe,
        model_input,
        model_output,
        calibration_data_reader,
        use_external_data_format=use_external_data_format,
        engine=engine,
        track=track,
    )


def quantize_by(
    recipe: Recipe,
    model_input: str | os.PathLike[str] | bytes | onnx.ModelProto,
    model_output: str | os.PathLike[str] | None,
    calibration_data_reader: Any,
    *,
    use_external_data_format: bool = False,
    engine: Engine | None = None,
    track: Track = quiet,
) -> QuantResult:
    """Do what `quantize_static` does, with a recipe in place of its options; see there for arguments and errors."""
    model = load(model_input)
    if calibration_data_reader is None:
        raise OptionError("calibration_data_reader is missing: static quantization needs sample inputs")
    if model_output is not None:
        if isinstance(model_input, str | os.PathLike) and os.path.realpath(model_input) == os.path.realpath(
            model_output
        ):
            raise OptionError(f"model_output {str(model_output)!r} is the float model itself: give another name")
        check_writable(model_output)
    fed_back = engine.state.values() if engine is not None else ()
    data = batches(calibration_data_reader, signature(model).with_optional(fed_back))
    result = quantize(model, data, recipe, engine=engine, track=track)
    if model_output is not None:
        save(result.model, model_output, external_above=0 if use_external_data_format else MAX_PROTOBUF_BYTES)
    return result
