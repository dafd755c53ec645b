"""What the peer keeps of a weight, a value and a bias while it quantizes: plain records, fields in its order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from quantlab.ort.kinds import QuantizedValueType


@dataclass
class QuantizedInitializer:
    """A linearly quantized weight.

    Attributes:
        name: Of the float weight.
        initializer: The float weight.
        rmins: Smallest value, one for each channel where `axis` is given.
        rmaxs: Largest value, likewise.
        zero_points: Zero points, likewise.
        scales: Scales, likewise.
        data: The float values.
        quantized_data: The integers.
        axis: Channel axis, or None for one grid.
    """

    name: str
    initializer: onnx.TensorProto | None
    rmins: Any
    rmaxs: Any
    zero_points: Any
    scales: Any
    data: Any = ()
    quantized_data: Any = ()
    axis: int | None = None


@dataclass(init=False)
class QuantizedValue:
    """A linearly quantized input, output or initializer.

    Args:
        name: Of the float tensor; kept as `original_name`.
        new_quantized_name: Of the quantized tensor; kept as `q_name`.
        scale_name: Of its scale.
        zero_point_name: Of its zero point; kept as `zp_name`.
        quantized_value_type: Computed or constant; kept as `value_type`.
        axis: Channel axis, or None.
        node_type: Operator type of the node, if known.
        node_qtype: Quantized type of the node, if known.
        scale_type: `onnx.TensorProto.DataType` of the scale, if known.
    """

    original_name: str
    q_name: str
    scale_name: str
    zp_name: str
    value_type: QuantizedValueType
    axis: int | None
    node_type: str | None
    node_qtype: int | None
    scale_type: int | None

    def __init__(
        self,
        name: str,
        new_quantized_name: str,
        scale_name: str,
        zero_point_name: str,
        quantized_value_type: QuantizedValueType,
        axis: int | None = None,
        node_type: str | None = None,
        node_qtype: int | None = None,
        scale_type: int | None = None,
    ) -> None:
        self.original_name, self.q_name = name, new_quantized_name
        self.scale_name, self.zp_name = scale_name, zero_point_name
        self.value_type, self.axis = quantized_value_type, axis
        self.node_type, self.node_qtype, self.scale_type = node_type, node_qtype, scale_type


@dataclass
class BiasToQuantize:
    """A bias to be quantized with the product of two scales.

    Attributes:
        bias_name: The bias.
        input_name: The tensor whose scale is the first factor.
        weight_name: The weight whose scale is the second.
    """

    bias_name: str
    input_name: str
    weight_name: str
