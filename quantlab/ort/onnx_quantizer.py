"""The quantizer behind models of integer operators: ranges in, a quantized model out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from quantlab.ort.base_quantizer import PLAN, BaseQuantizer
from quantlab.ort.kinds import QuantizationMode
from quantlab.ort.missing import refuse, refusing
from quantlab.ort.tensors_data import TensorData, TensorsData
from quantlab.plan.recipe import Format


class ONNXQuantizer(BaseQuantizer):
    """Writes a model with operators on integers; the arguments that `BaseQuantizer` has too are as there.

    Args:
        model: See there.
        per_channel: See there.
        reduce_range: See there.
        mode: `QuantizationMode.QLinearOps`.
        static: True; grids that are computed while the model runs are not built yet.
        weight_qType: See there, like those that follow.
        activation_qType: See there.
        tensors_range: See there.
        nodes_to_quantize: See there.
        nodes_to_exclude: See there.
        op_types_to_quantize: See there.
        extra_options: See there.

    Raises:
        QuantlabError: `mode` or `static` ask for what is not built yet.
    """

    format: Format = "QOperator"

    def __init__(
        self,
        model: onnx.ModelProto,
        per_channel: bool,
        reduce_range: bool,
        mode: QuantizationMode,
        static: bool,
        weight_qType: Any,
        activation_qType: Any,
        tensors_range: TensorsData | Mapping[str, TensorData] | None,
        nodes_to_quantize: Sequence[str] | None,
        nodes_to_exclude: Sequence[str] | None,
        op_types_to_quantize: Sequence[str] | None,
        extra_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not static or mode == QuantizationMode.IntegerOps:
            refuse("dynamic quantization")
        super().__init__(
            model,
            per_channel,
            reduce_range,
            weight_qType,
            activation_qType,
            tensors_range,
            nodes_to_quantize,
            nodes_to_exclude,
            op_types_to_quantize,
            extra_options,
        )
        self.mode, self.static = mode, static

    def has_QDQ_nodes(self) -> bool:  # the peer's spelling
        """Return whether the model has QuantizeLinear or DequantizeLinear nodes."""
        return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in self.model.nodes())

    def contains_tensor(self, tensor_name: str) -> bool:
        """Return whether the model has a tensor."""
        return tensor_name in self.value_infos or self.is_input_a_initializer(tensor_name)

    def get_tensor_type(self, tensor_name: str, mandatory: bool = False) -> int | None:
        """Return the element type of a tensor that is computed, or None where it is not known.

        Args:
            tensor_name: The tensor.
            mandatory: Refuse a tensor whose type is not known, but for `DefaultTensorType` in `extra_options`.

        Raises:
            RuntimeError: It is not known.
        """
        found = self.value_infos.get(tensor_name)
        if found is not None and found.type.HasField("tensor_type"):
            return int(found.type.tensor_type.elem_type)
        default: int | None = self.extra_options.get("DefaultTensorType")
        if mandatory and default is None:
            raise RuntimeError(f"the type of tensor {tensor_name!r} is not known: run quant_pre_process first")
        return default if mandatory else None

    def is_float_tensor(self, tensor_name: str) -> bool:
        """Return whether a tensor is of float16 or float32."""
        if self.is_input_a_initializer(tensor_name):
            return self.is_valid_quantize_weight(tensor_name)
        return self.get_tensor_type(tensor_name) in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)

    add_new_nodes = refusing("ONNXQuantizer.add_new_nodes", PLAN)
    adjust_single_weight_scale_if_needed = refusing("ONNXQuantizer.adjust_single_weight_scale_if_needed", PLAN)
    calculate_quantization_params = refusing("ONNXQuantizer.calculate_quantization_params", PLAN)
    find_initializer_in_path = refusing("ONNXQuantizer.find_initializer_in_path", PLAN)
    find_quantized_value = refusing("ONNXQuantizer.find_quantized_value", PLAN)
    quantize_activation = refusing("ONNXQuantizer.quantize_activation", PLAN)
    quantize_bias_static = refusing("ONNXQuantizer.quantize_bias_static", PLAN)
    quantize_initializer = refusing("ONNXQuantizer.quantize_initializer", PLAN)
    quantize_node_with_sub_graph = refusing("ONNXQuantizer.quantize_node_with_sub_graph", PLAN)
    quantize_subgraph = refusing("ONNXQuantizer.quantize_subgraph", PLAN)
    quantize_weight = refusing("ONNXQuantizer.quantize_weight", PLAN)
    quantize_weight_per_channel = refusing("ONNXQuantizer.quantize_weight_per_channel", PLAN)
