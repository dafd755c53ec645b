"""Quantization under the peer's names, argument by argument: each function hands over to our own workflow.

Ranges are measured as onnxruntime.quantization 1.31.1 does it, by the rules `onnxruntime_*` on a graph that is not
optimized, so that scales and zero points are its own to the bit, and nodes of the float graph stay as they are. A
reader that can be read only once is enough for any method: where the samples are needed twice, they are kept.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, cast

import numpy as np
import onnx

from quantlab.backend import OrtBackend
from quantlab.errors import OptionError, nearest
from quantlab.graph.files import MAX_PROTOBUF_BYTES, check_writable, load, save
from quantlab.ort.cache import cached_ranges
from quantlab.ort.calibrators import CPU, samples_of
from quantlab.ort.configs import (
    DynamicQuantConfig,
    Named,
    QuantConfig,
    StaticQuantConfig,
    get_qdq_config,
    word,
)
from quantlab.ort.kinds import QuantFormat, QuantizationMode, QuantType
from quantlab.ort.missing import refuse
from quantlab.ort.tensors_data import CalibrationMethod
from quantlab.plan import Recipe
from quantlab.plan.forms import known_operators
from quantlab.plan.recipe import Format
from quantlab.workflow import quantize as workflow
from quantlab.workflow import static
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import QuantResult

OURS_ALONE = (
    "Sub", "Div", "HardSwish", "HardSigmoid", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "GroupNormalization",
)  # fmt: skip
"""Operator types that we quantize on request and the peer does not know; all others are asked for by default."""

Source = str | os.PathLike[str] | onnx.ModelProto

__all__ = [
    "DynamicQuantConfig",
    "QuantConfig",
    "QuantizationMode",
    "StaticQuantConfig",
    "check_static_quant_arguments",
    "get_qdq_config",
    "quantize",
    "quantize_dynamic",
    "quantize_static",
]


def quantize_static(
    model_input: Source,
    model_output: str | os.PathLike[str],
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
    calibration_cache_path: str | os.PathLike[str] | None = None,
) -> QuantResult:
    """Quantize a float model with ranges measured on samples, and write it.

    Args:
        model_input: Path of the float model, or the model; it is not changed.
        model_output: Where to write the quantized model.
        calibration_data_reader: A `CalibrationDataReader`, or anything that `quantlab.batches` takes; None where there
            is a calibration cache.
        quant_format: `QDQ` or `QOperator`.
        op_types_to_quantize: Operator types, or None for all that the peer quantizes.
        per_channel: A scale for each output channel of a weight.
        reduce_range: Give away one bit of the weights.
        activation_type: Type of activations.
        weight_type: Type of weights.
        nodes_to_quantize: Node names, or None for all.
        nodes_to_exclude: Node names.
        use_external_data_format: Write the weights into a file beside the model, whatever their size.
        calibrate_method: `MinMax`, `Entropy` or `Percentile`.
        calibration_providers: Execution providers to measure with; the CPU by default.
        extra_options: Further options; see `quantlab.workflow.extra_options`.
        calibration_cache_path: A file of ranges: read where it exists, written where it does not.

    Returns:
        The quantized model, its plan, and the prepared float model; the peer returns nothing.

    Raises:
        ModelError: The model cannot be read, used or written.
        DataError: There is no data, or it does not fit the model.
        OptionError: An option is unknown or does not fit the model.
    """
    method = _method(calibrate_method)
    wanted: dict[str, Any] = {
        "op_types_to_quantize": op_types_to_quantize or sorted(known_operators("QDQ") - set(OURS_ALONE)),
        "per_channel": per_channel,
        "reduce_range": reduce_range,
        "activation_type": activation_type,
        "weight_type": weight_type,
        "nodes_to_quantize": nodes_to_quantize or None,
        "nodes_to_exclude": nodes_to_exclude or None,
        "calibrate_method": method,
        "extra_options": _given(extra_options),
        "quant_format": quant_format,
        "optimize": False,
    }
    recipe = _as_the_peer(static.make_recipe(**wanted))
    backend = OrtBackend(optimize=False, providers=tuple(calibration_providers or CPU))
    engine = replace(Engine.like_onnxruntime(), backend=backend)
    data = calibration_data_reader if method == "MinMax" else kept(calibration_data_reader)
    if calibration_cache_path is None:
        return static.quantize_by(
            recipe,
            model_input,
            model_output,
            data,
            use_external_data_format=use_external_data_format,
            engine=engine,
        )
    model = load(model_input)
    check_writable(model_output)
    table = cached_ranges(calibration_cache_path, method, model, data, recipe, engine)
    result = workflow.quantize(model, None, recipe, ranges=table)
    save(result.model, model_output, external_above=0 if use_external_data_format else MAX_PROTOBUF_BYTES)
    return result


def _as_the_peer(recipe: Recipe) -> Recipe:
    """Return a recipe with the habits of the peer that have no option there."""
    rule = f"onnxruntime_{recipe.calibrate.removeprefix('onnxruntime_')}"
    pairs = recipe.format == "QDQ"
    numerics = replace(
        recipe.numerics,
        degenerate="onnxruntime",
        reduced_constants=pairs,
        deviation_scales=recipe.calibrate.endswith("distribution"),
    )
    layout = replace(recipe.layout, rounded_for_all=pairs, converts=not pairs)
    return replace(recipe, calibrate=rule, numerics=numerics, layout=layout)


def _given(extra_options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options without those that are empty and so ask for nothing."""
    return {key: value for key, value in (extra_options or {}).items() if key != "TensorQuantOverrides" or value}


def _method(given: Named) -> str:
    name, allowed = word(given), CalibrationMethod.__members__
    if name not in allowed:
        raise OptionError(f"unknown calibrate_method {name!r}{nearest(name, allowed)} (allowed: {', '.join(allowed)})")
    return name


def kept(reader: Any) -> Any:
    """Return data that can be read more than once: a reader that begins anew as it is, of any other the samples.

    Args:
        reader: A reader, or anything that `quantlab.batches` takes.
    """
    if callable(getattr(reader, "rewind", None)):
        return reader
    if not callable(getattr(reader, "get_next", None)) and not isinstance(reader, Iterator):
        return reader
    # A reader may hand out the same buffers again and again.
    return [{name: np.array(value) for name, value in sample.items()} for sample in samples_of(reader)]


def quantize_dynamic(
    model_input: Source,
    model_output: str | os.PathLike[str],
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    weight_type: Named = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    extra_options: Mapping[str, Any] | None = None,
) -> NoReturn:
    """Refuse: models whose activations get their grids while they run are not built yet.

    Raises:
        QuantlabError: Always.
    """
    refuse("quantize_dynamic")


def quantize(model_input: Source, model_output: str | os.PathLike[str], quant_config: QuantConfig) -> QuantResult:
    """Quantize a model as a configuration says.

    Args:
        model_input: Path of the float model, or the model; it is not changed.
        model_output: Where to write the quantized model.
        quant_config: A `StaticQuantConfig`.

    Returns:
        The quantized model, its plan, and the prepared float model; the peer returns nothing.

    Raises:
        QuantlabError: The configuration is for something that is not built yet.
        TypeError: It is no configuration.
        ModelError, DataError, OptionError: As `quantize_static`.
    """
    if isinstance(quant_config, DynamicQuantConfig):
        refuse("quantize_dynamic")
    if not isinstance(quant_config, StaticQuantConfig):
        raise TypeError(f"quant_config must be a StaticQuantConfig, got a {type(quant_config).__name__}")
    known = inspect.signature(quantize_static).parameters  # a subclass may have fields of its own
    told = {name: value for name, value in vars(quant_config).items() if name in known}
    return quantize_static(model_input, model_output, **told)


def check_static_quant_arguments(quant_format: Named, activation_type: Named, weight_type: Named) -> None:
    """Check that a format and two types go together.

    Args:
        quant_format: `QDQ` or `QOperator`.
        activation_type: Type of activations.
        weight_type: Type of weights.

    Raises:
        OptionError: They do not; it is a ValueError too.
    """
    recipe = static.make_recipe(activation_type=activation_type, weight_type=weight_type)
    replace(recipe, format=cast(Format, word(quant_format)))
