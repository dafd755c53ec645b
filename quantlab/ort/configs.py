"""Configurations: the arguments of a quantization as an object, made by hand or for a whole model."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import onnx

from quantlab.errors import ModelError
from quantlab.graph.external import is_external
from quantlab.graph.files import MAX_PROTOBUF_BYTES, load
from quantlab.ort.kinds import QuantFormat, QuantType
from quantlab.ort.models import get_opset_version, model_has_external_data
from quantlab.ort.tensor_quant_overrides import TensorQuantOverridesHelper
from quantlab.ort.tensors_data import CalibrationMethod

Named = Enum | str
Excluded = Sequence[str] | Callable[[onnx.ModelProto, onnx.NodeProto], bool]

_NEVER = ("Cast", "DequantizeLinear", "QuantizeLinear")
_CALIBRATION_KEYS = {
    "symmetric": "CalibTensorRangeSymmetric",
    "moving_average": "CalibMovingAverage",
    "averaging_constant": "CalibMovingAverageConstant",
    "max_intermediate_outputs": "CalibMaxIntermediateOutputs",
    "percentile": "CalibPercentile",
}


def word(given: Named) -> str:
    """Return the name behind a member of an enumeration, ours or the peer's, or a text."""
    return given.name if isinstance(given, Enum) else str(given)


class QuantConfig:
    """What every quantization is told.

    Args:
        activation_type: Type of activations.
        weight_type: Type of weights.
        op_types_to_quantize: Operator types, or None for all.
        nodes_to_quantize: Node names, or None for all.
        nodes_to_exclude: Node names.
        per_channel: A scale for each output channel of a weight.
        reduce_range: Give away one bit of the weights.
        use_external_data_format: Write the weights into a file of their own.
    """

    def __init__(
        self,
        activation_type: Named = QuantType.QUInt8,
        weight_type: Named = QuantType.QInt8,
        op_types_to_quantize: Sequence[str] | None = None,
        nodes_to_quantize: Sequence[str] | None = None,
        nodes_to_exclude: Sequence[str] | None = None,
        per_channel: bool = False,
        reduce_range: bool = False,
        use_external_data_format: bool = False,
    ) -> None:
        self.activation_type = activation_type
        self.weight_type = weight_type
        self.op_types_to_quantize = op_types_to_quantize or []
        self.nodes_to_quantize = nodes_to_quantize or []
        self.nodes_to_exclude = nodes_to_exclude or []
        self.per_channel = per_channel
        self.reduce_range = reduce_range
        self.use_external_data_format = use_external_data_format


class StaticQuantConfig(QuantConfig):
    """What `quantize_static` is told, but for the two models; see there."""

    def __init__(
        self,
        calibration_data_reader: Any,
        calibrate_method: Named = CalibrationMethod.MinMax,
        quant_format: Named = QuantFormat.QDQ,
        activation_type: Named = QuantType.QInt8,
        weight_type: Named = QuantType.QInt8,
        op_types_to_quantize: Sequence[str] | None = None,
        nodes_to_quantize: Sequence[str] | None = None,
        nodes_to_exclude: Sequence[str] | None = None,
        per_channel: bool = False,
        reduce_range: bool = False,
        use_external_data_format: bool = False,
        calibration_providers: Sequence[str] | None = None,
        extra_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            activation_type,
            weight_type,
            op_types_to_quantize,
            nodes_to_quantize,
            nodes_to_exclude,
            per_channel,
            reduce_range,
            use_external_data_format,
        )
        self.calibration_data_reader = calibration_data_reader
        self.calibrate_method = calibrate_method
        self.quant_format = quant_format
        self.calibration_providers = calibration_providers
        self.extra_options = extra_options or {}


class DynamicQuantConfig(QuantConfig):
    """What `quantize_dynamic` is told, but for the two models; see there."""

    def __init__(
        self,
        weight_type: Named = QuantType.QInt8,
        op_types_to_quantize: Sequence[str] | None = None,
        nodes_to_quantize: Sequence[str] | None = None,
        nodes_to_exclude: Sequence[str] | None = None,
        per_channel: bool = False,
        reduce_range: bool = False,
        use_external_data_format: bool = False,
        extra_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            QuantType.QUInt8,
            weight_type,
            op_types_to_quantize,
            nodes_to_quantize,
            nodes_to_exclude,
            per_channel,
            reduce_range,
            use_external_data_format,
        )
        self.extra_options = extra_options or {}


@dataclass(frozen=True, kw_only=True)
class _Nodes:
    """Which nodes of a model a configuration is for."""

    op_types: list[str]
    excluded: list[str]


def get_qdq_config(
    model_input: str | os.PathLike[str] | onnx.ModelProto,
    calibration_data_reader: Any,
    calibrate_method: Named = CalibrationMethod.MinMax,
    calibrate_args: Mapping[str, Any] | None = None,
    activation_type: Named = QuantType.QUInt8,
    weight_type: Named = QuantType.QInt8,
    activation_symmetric: bool = False,
    weight_symmetric: bool | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    keep_removable_activations: bool = False,
    min_real_range: float | None = None,
    tensor_quant_overrides: dict[str, list[dict[str, Any]]] | None = None,
    calibration_providers: Sequence[str] | None = None,
    op_types_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Excluded | None = None,
    extra_options: Mapping[str, Any] | None = None,
) -> StaticQuantConfig:
    """Make the configuration that quantizes all of a model as QDQ.

    Args:
        model_input: Path of the float model, or the model.
        calibration_data_reader: As for `quantize_static`, like those that follow.
        calibrate_method: See there.
        calibrate_args: Options of the method: `symmetric`, `moving_average`, `averaging_constant`,
            `max_intermediate_outputs`, `percentile`.
        activation_type: See `quantize_static`.
        weight_type: See there.
        activation_symmetric: Center grids of activations on zero.
        weight_symmetric: Center grids of weights on zero; None for those of signed types only.
        per_channel: See `quantize_static`.
        reduce_range: See there.
        keep_removable_activations: Keep Relu and Clip.
        min_real_range: Least width of any range.
        tensor_quant_overrides: Tensor to a list of dicts with its own settings.
        calibration_providers: See `quantize_static`.
        op_types_to_quantize: Operator types; by default all of the model but Cast and those that quantize.
        nodes_to_exclude: Names of nodes, or a function of the model and a node.
        extra_options: Wins over all that is chosen here.

    Returns:
        The configuration, for `quantize`.

    Raises:
        ModelError: The model cannot be read, or the function excludes a node that has no name.
    """
    calibrate_args = calibrate_args or {}
    model = load(model_input)
    chosen = _chosen(model, op_types_to_quantize, nodes_to_exclude)
    overrides = TensorQuantOverridesHelper(copy.deepcopy(tensor_quant_overrides or {}))
    kinds = {word(kind) for kind in (activation_type, weight_type, *overrides.get_quant_types())}
    wide, narrow = {"QInt16", "QUInt16"}, {"QInt4", "QUInt4"}
    options: dict[str, Any] = {
        "MinimumRealRange": min_real_range,
        "QDQKeepRemovableActivations": keep_removable_activations,
        "ActivationSymmetric": activation_symmetric,
        "WeightSymmetric": weight_symmetric,
        "ForceQuantizeNoInputCheck": True,
        **({} if overrides.empty() else {"TensorQuantOverrides": overrides.get_dict()}),
        **{key: calibrate_args[name] for name, key in _CALIBRATION_KEYS.items() if name in calibrate_args},
    }
    # 16-bit types raise the model to opset 21, where ONNX's own operators take 4 bits.
    if get_opset_version(model) < 21 and kinds & narrow and not kinds & wide:
        options["UseQDQContribOps"] = True
    return StaticQuantConfig(
        calibration_data_reader,
        calibrate_method=calibrate_method,
        quant_format=QuantFormat.QDQ,
        activation_type=activation_type,
        weight_type=weight_type,
        op_types_to_quantize=chosen.op_types,
        nodes_to_exclude=chosen.excluded,
        per_channel=per_channel,
        reduce_range=reduce_range,
        use_external_data_format=_is_large(model_input, model),
        calibration_providers=calibration_providers,
        extra_options={**options, **(extra_options or {})},
    )


def _chosen(model: onnx.ModelProto, op_types: Sequence[str] | None, excluded: Excluded | None) -> _Nodes:
    names = [] if excluded is None or callable(excluded) else list(excluded)
    found = set()
    for node in model.graph.node:
        if (op_types and node.op_type not in op_types) or node.name in names:
            continue
        if callable(excluded) and excluded(model, node):
            if not node.name:
                raise ModelError(
                    f"nodes_to_exclude excludes a node that has no name, the {node.op_type} that makes "
                    f"{list(node.output)}: run quant_pre_process first, which names all nodes"
                )
            names.append(node.name)
        else:
            found.add(node.op_type)
    return _Nodes(op_types=list(op_types) if op_types else sorted(found.difference(_NEVER)), excluded=names)


def _is_large(source: Any, model: onnx.ModelProto) -> bool:
    outside = any(is_external(tensor) for tensor in model.graph.initializer)
    written_so = not isinstance(source, onnx.ModelProto) and model_has_external_data(source)
    return outside or written_so or model.ByteSize() >= MAX_PROTOBUF_BYTES
