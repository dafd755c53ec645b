"""What both quantizers are told and asked: the peer's `BaseQuantizer`, with our plan behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from quantlab.errors import OptionError
from quantlab.ort.kinds import row_of
from quantlab.ort.missing import refusing
from quantlab.ort.models import get_opset_version, model_has_infer_metadata, save_and_reload_model_with_shape_infer
from quantlab.ort.onnx_model import ONNXModel
from quantlab.ort.tensor_quant_overrides import TensorQuantOverridesHelper
from quantlab.ort.tensors_data import TensorData, TensorsData, table_of
from quantlab.plan import QuantPlan
from quantlab.plan.forms import known_operators
from quantlab.plan.recipe import Format
from quantlab.workflow import quantize as workflow
from quantlab.workflow.static import make_recipe

PLAN = "the attribute plan of a quantizer holds every tensor's decision and numbers after quantize_model()"
"""What to use in the place of the peer's steps on single tensors."""

_SYMMETRIC = (TensorProto.INT4, TensorProto.INT8, TensorProto.INT16, TensorProto.FLOAT8E4M3FN)


class QuantizationParams:
    """The numbers of a grid by name, such as `scale`, `zero_point`, `quant_type` and `axis`.

    Args:
        data: Name to number, text or array.

    Raises:
        TypeError: A value is none of these.
        OptionError: The scale is not float16 or float32; it is a ValueError too.
    """

    def __init__(self, **data: Any) -> None:
        for name, value in data.items():
            allowed: Any = (int, type(None)) if name == "axis" else (int, str, float, np.ndarray)
            if not isinstance(value, allowed):
                raise TypeError(f"{name!r} must be a number, a text or an array, got a {type(value).__name__}")
            if name == "scale" and getattr(value, "dtype", None) not in (np.float32, np.float16):
                raise OptionError(f"'scale' must be an array of float16 or float32, got {value!r}")
        self.data: dict[str, Any] = dict(data)

    def get(self, key: str, default_value: Any = None) -> Any:
        """Return a value, or the default."""
        return self.data.get(key, default_value)

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.data[key] = value

    def __len__(self) -> int:
        return len(self.data)


class BaseQuantizer:
    """A model, the ranges of its tensors, and what is wanted of it.

    Args:
        model: The float model; it is not changed.
        per_channel: A scale for each output channel of a weight.
        reduce_range: Give away one bit of the weights.
        weight_qType: Type of weights, a `QuantType` or an `onnx.TensorProto.DataType`.
        activation_qType: Type of activations, likewise.
        tensors_range: Tensor to `TensorData`.
        nodes_to_quantize: Node names; none for all.
        nodes_to_exclude: Node names.
        op_types_to_quantize: Operator types; none for all.
        extra_options: Further options; see `quantlab.workflow.extra_options`.

    Raises:
        TypeError: A range is no `TensorData`.
        OptionError: An override cannot be used; it is a ValueError too.
    """

    format: Format = "QDQ"

    def __init__(
        self,
        model: onnx.ModelProto,
        per_channel: bool,
        reduce_range: bool,
        weight_qType: Any,
        activation_qType: Any,
        tensors_range: TensorsData | Mapping[str, TensorData] | None,
        nodes_to_quantize: Sequence[str] | None,
        nodes_to_exclude: Sequence[str] | None,
        op_types_to_quantize: Sequence[str] | None,
        extra_options: Mapping[str, Any] | None = None,
    ) -> None:
        made = model if model_has_infer_metadata(model) else save_and_reload_model_with_shape_infer(model)
        graph = made.graph
        self.value_infos = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
        self.model = ONNXModel(made)
        self.opset_version = get_opset_version(made)
        self.per_channel, self.reduce_range = per_channel, reduce_range
        self.extra_options = dict(extra_options or {})
        self.activation_qType, self.weight_qType = (_code(kind) for kind in (activation_qType, weight_qType))
        for name, data in (tensors_range or {}).items():
            if not isinstance(data, TensorData):
                raise TypeError(f"the range of tensor {name!r} must be a TensorData, got a {type(data).__name__}")
        self.tensors_range = tensors_range
        self.nodes_to_quantize = nodes_to_quantize
        self.nodes_to_exclude = nodes_to_exclude
        self.op_types_to_quantize = op_types_to_quantize
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.tensor_quant_overrides = TensorQuantOverridesHelper(self.extra_options.get("TensorQuantOverrides") or {})
        usable, wrong = self.tensor_quant_overrides.is_valid(self.initializers, self.value_infos, activation_qType)
        if not usable:
            raise OptionError(wrong)
        self.plan: QuantPlan | None = None

    def is_weight_symmetric(self, weight_quant_type: int) -> bool:
        """Return whether grids of weights of a type are centred on zero."""
        given = self.extra_options.get("WeightSymmetric")
        return weight_quant_type in _SYMMETRIC if given is None else bool(given)

    def is_input_a_initializer(self, input_name: str) -> bool:
        """Return whether a tensor is a constant."""
        return self.model.get_initializer(input_name) is not None

    def is_per_channel(self) -> bool:
        """Return whether weights get a scale for each output channel."""
        return self.per_channel

    def is_valid_quantize_weight(self, weight_name: str) -> bool:
        """Return whether a tensor is a constant of float16 or float32."""
        tensor = self.model.get_initializer(weight_name)
        return tensor is not None and tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)

    def should_quantize_node(self, node: onnx.NodeProto) -> bool:
        """Return whether names and types of nodes leave a node to be quantized."""
        named = not self.nodes_to_quantize or node.name in self.nodes_to_quantize
        typed = node.op_type in (self.op_types_to_quantize or known_operators("QDQ"))
        return named and typed and node.name not in (self.nodes_to_exclude or ())

    def quantize_model(self) -> onnx.ModelProto:
        """Quantize the model; afterwards `model` holds the quantized one and `plan` what was decided.

        Returns:
            The quantized model.

        Raises:
            DataError: A range is missing; the text names the tensor.
            OptionError: An option does not fit the model.
            ModelError: The model cannot be used.
        """
        recipe = make_recipe(
            op_types_to_quantize=with_rules(self.op_types_to_quantize),
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
            activation_type=row_of(self.activation_qType).name,
            weight_type=row_of(self.weight_qType).name,
            nodes_to_quantize=self.nodes_to_quantize or None,
            nodes_to_exclude=self.nodes_to_exclude or None,
            optimize=False,
            extra_options={
                key: value
                for key, value in self.extra_options.items()
                if not key.startswith("Calib") and (value or key != "TensorQuantOverrides")
            },
        )
        table = table_of(self.tensors_range or {})
        layout = replace(recipe.layout, converts=self.format != "QDQ")  # what is not asked for is not converted there
        recipe = replace(recipe, format=self.format, layout=layout)
        result = workflow.quantize(self.model.model, None, recipe, ranges=table)
        self.model, self.plan = ONNXModel(result.model), result.plan
        return result.model

    adjust_tensor_ranges = refusing("adjust_tensor_ranges", PLAN)
    quantize_bias_static_impl = refusing("quantize_bias_static_impl", PLAN)
    quantize_initializer_impl = refusing("quantize_initializer_impl", PLAN)
    quantize_weight_per_channel_impl = refusing("quantize_weight_per_channel_impl", PLAN)


def with_rules(op_types: Sequence[str] | None) -> list[str] | None:
    """Return operator types without those that ONNX has and nothing here can quantize, if any are left.

    Lists of the peer's name all that it knows, whether or not a model has them.

    Args:
        op_types: Operator types, or None for all.
    """
    ours = known_operators("QDQ")
    known = [op for op in op_types or () if op in ours or not (onnx.defs.has(op) or op in _CONTRIB)]
    return known or (list(op_types) if op_types else None)


_CONTRIB = ("Attention", "EmbedLayerNormalization")
"""Operators of onnxruntime's own that the peer lists."""


def _code(kind: Any) -> int:
    return int(getattr(kind, "tensor_type", kind))
