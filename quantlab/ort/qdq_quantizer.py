"""The quantizer behind QDQ models: ranges in, a quantized model out."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np

from quantlab.ort.base_quantizer import PLAN, BaseQuantizer, QuantizationParams
from quantlab.ort.kinds import row_of
from quantlab.ort.missing import refusing, unbuilt
from quantlab.ort.names import find_by_name
from quantlab.ort.scales import (
    compute_scale_zp,
    compute_scale_zp_float8,
    get_qmin_qmax_for_qType,
    snap_zero_point_to_uint8,
)
from quantlab.ort.tensors_data import TensorData
from quantlab.ort.weights import normalize_axis

__all__ = [
    "QDQBiasQuantInfo",
    "QDQQuantParamProvider",
    "QDQQuantTensorType",
    "QDQQuantizer",
    "QDQScaleZpInitializers",
    "QDQTensorQuantInfo",
    "QDQTensorQuantParams",
    "QDQTensorQuantizedValue",
    "QDQTensorScaleZpInitializers",
]

_RULE = "which tensors of a node get a grid is said by a rule in quantlab.plan.op_rules"


class QDQQuantTensorType(Enum):
    """What a tensor is to the operator that reads it."""

    ACTIVATION = 0
    WEIGHT = 1
    BIAS = 2


QDQBiasQuantInfo = unbuilt("QDQBiasQuantInfo", __name__, PLAN)
QDQQuantParamProvider = unbuilt("QDQQuantParamProvider", __name__, PLAN)
QDQScaleZpInitializers = unbuilt("QDQScaleZpInitializers", __name__, PLAN)
QDQTensorQuantInfo = unbuilt("QDQTensorQuantInfo", __name__, PLAN)
QDQTensorQuantParams = unbuilt("QDQTensorQuantParams", __name__, PLAN)
QDQTensorQuantizedValue = unbuilt("QDQTensorQuantizedValue", __name__, PLAN)
QDQTensorScaleZpInitializers = unbuilt("QDQTensorScaleZpInitializers", __name__, PLAN)


class QDQQuantizer(BaseQuantizer):
    """Writes a model as QuantizeLinear and DequantizeLinear pairs; arguments as for `BaseQuantizer`.

    The methods with which operators of the peer mark tensors raise: here that is said by rules, before any number.
    """

    def is_tensor_quantized(self, tensor_name: str) -> bool:
        """Return whether a tensor has a grid; to be asked after `quantize_model`."""
        return self.plan is not None and tensor_name in self.plan.tensors

    def is_tensor_per_channel(
        self, tensor_name: str, default_axis: int, op_type: str | None = None
    ) -> tuple[bool, int | None]:
        """Return whether a constant gets a scale for each channel, and along which axis, counted from the first.

        Args:
            tensor_name: The constant.
            default_axis: Axis of its channels, where neither an override nor `op_type` says otherwise.
            op_type: Operator type that `QDQOpTypePerChannelSupportToAxis` may have an axis for.
        """
        weight = find_by_name(tensor_name, self.model.initializer())
        if weight is None:
            return False, None
        listed = self.tensor_quant_overrides.get(tensor_name)
        if listed:
            axis = listed[0].get("axis")
        elif self.per_channel:
            axis = self.extra_options.get("QDQOpTypePerChannelSupportToAxis", {}).get(op_type, default_axis)
        else:
            axis = None
        if axis is None:
            return False, None
        exists, axis = normalize_axis(axis, len(weight.dims))
        return (True, axis) if exists else (False, None)

    def calc_quant_params(self, tensor_data: TensorData, quant_overrides: dict[str, Any]) -> QuantizationParams:
        """Compute the grid of an activation.

        Args:
            tensor_data: Its range, or its deviation for float8.
            quant_overrides: Settings of its own; an empty dict for none.

        Returns:
            `zero_point`, `scale` and `quant_type`.
        """
        given = quant_overrides.get("quant_type")
        kind = self.activation_qType if given is None else given.tensor_type
        if {"scale", "zero_point"} <= set(quant_overrides):
            zero, scale = quant_overrides["zero_point"], quant_overrides["scale"]
        elif row_of(kind).is_float:
            zero, scale = compute_scale_zp_float8(kind, tensor_data.avg_std[1])
        else:
            zero, scale = self._of_range(tensor_data, quant_overrides, kind)
        return QuantizationParams(zero_point=np.squeeze(zero), scale=np.squeeze(scale), quant_type=kind)

    def _of_range(self, tensor_data: TensorData, overrides: dict[str, Any], kind: int) -> Any:
        low, high = (
            np.squeeze(overrides.get(name, end))
            for name, end in zip(("rmin", "rmax"), tensor_data.range_value, strict=True)
        )
        symmetric = overrides.get("symmetric", self.extra_options.get("ActivationSymmetric", False))
        qmin, qmax = get_qmin_qmax_for_qType(kind, overrides.get("reduce_range", False), symmetric)
        width = self.extra_options.get("MinimumRealRange")
        restricted = self.extra_options.get("ActivationRestrictedAsymmetric", False)
        if restricted and row_of(kind).name == "uint8" and not symmetric:
            return snap_zero_point_to_uint8(low, high, int(qmin), int(qmax), width)
        return compute_scale_zp(low, high, qmin, qmax, symmetric, width)

    calc_graph_quant_params = refusing("QDQQuantizer.calc_graph_quant_params", PLAN)
    quantize_activation_tensor = refusing("QDQQuantizer.quantize_activation_tensor", _RULE)
    quantize_bias_static = refusing("QDQQuantizer.quantize_bias_static", PLAN)
    quantize_bias_tensor = refusing("QDQQuantizer.quantize_bias_tensor", _RULE)
    quantize_output_same_as_input = refusing("QDQQuantizer.quantize_output_same_as_input", _RULE)
    quantize_weight_tensor = refusing("QDQQuantizer.quantize_weight_tensor", _RULE)
    quantize_weight_tensor_per_channel = refusing("QDQQuantizer.quantize_weight_tensor_per_channel", _RULE)
    remove_node = refusing("QDQQuantizer.remove_node", _RULE)
    remove_nodes = refusing("QDQQuantizer.remove_nodes", _RULE)
    try_replacing_upstream_output = refusing("QDQQuantizer.try_replacing_upstream_output", _RULE)
