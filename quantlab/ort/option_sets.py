"""The option sets on which quantlab and onnxruntime.quantization are compared: arguments of `quantize_static`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from quantlab.errors import OptionError, nearest
from quantlab.graph import GraphView

GRIDS = ("quick", "full")
LINEAR = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True, kw_only=True)
class OptionSet:
    """Arguments of `quantize_static` under a name.

    Attributes:
        name: What people call it.
        options: Argument to value; enumerations by their names, and what is left out keeps its default.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def option_sets(model: onnx.ModelProto, grid: str = "quick") -> tuple[OptionSet, ...]:
    """Return the option sets of a grid.

    Args:
        model: The float model; nodes and tensors that some options name are taken from it.
        grid: `"quick"` or `"full"`.

    Returns:
        The sets, in an order for reading.

    Raises:
        OptionError: There is no such grid.
    """
    if grid not in GRIDS:
        raise OptionError(f"unknown grid {grid!r}{nearest(grid, GRIDS)} (allowed: {', '.join(GRIDS)})")
    return tuple(_quick()) if grid == "quick" else (*_quick(), *_more(), *_of(model))


def _set(name: str, /, **options: Any) -> OptionSet:
    return OptionSet(name=name, options=options)


def _extra(name: str, /, **extra: Any) -> OptionSet:
    return OptionSet(name=name, options={"extra_options": extra})


_U8S8 = {"activation_type": "QUInt8", "weight_type": "QInt8"}
_U8U8 = {"activation_type": "QUInt8", "weight_type": "QUInt8"}


def _quick() -> Iterator[OptionSet]:
    yield _set("defaults (S8S8)")
    yield _set("U8S8", **_U8S8)
    yield _set("U8U8", **_U8U8)
    yield _set("per channel", per_channel=True)
    yield _set("per channel, reduced range", per_channel=True, reduce_range=True, **_U8S8)
    yield _set("percentile", calibrate_method="Percentile")
    yield _set("entropy", calibrate_method="Entropy")
    yield _set("QOperator U8S8", quant_format="QOperator", **_U8S8)
    yield _set("QOperator U8U8 per channel", quant_format="QOperator", per_channel=True, **_U8U8)


def _more() -> Iterator[OptionSet]:
    yield _set("QOperator S8S8", quant_format="QOperator")
    yield _set("U16S8", activation_type="QUInt16", weight_type="QInt8", extra_options={"UseQDQContribOps": True})
    yield _set("S16S16", activation_type="QInt16", weight_type="QInt16", extra_options={"UseQDQContribOps": True})
    yield _set("U8S4", activation_type="QUInt8", weight_type="QInt4")
    yield _set("S8S8 of 4-bit weights per channel", weight_type="QInt4", per_channel=True)
    yield _set("reduced range", reduce_range=True)
    yield _set("linear operators only", op_types_to_quantize=list(LINEAR))
    yield _extra("symmetric activations", ActivationSymmetric=True)
    yield _set("asymmetric weights", extra_options={"WeightSymmetric": False})
    yield _set("symmetric unsigned weights", **_U8U8, extra_options={"WeightSymmetric": True})
    yield _extra("symmetric calibration", CalibTensorRangeSymmetric=True)
    yield _extra("moving average", CalibMovingAverage=True)
    yield _set("percentile 99", calibrate_method="Percentile", extra_options={"CalibPercentile": 99.0})
    yield _extra("least range", MinimumRealRange=0.5)
    yield _extra("float biases", QuantizeBias=False)
    yield _extra("biases never widen weights", QDQDisableWeightAdjustForInt32Bias=True)
    yield _extra("pairs on weights", AddQDQPairToWeight=True)
    yield _extra("a pair for each reader", DedicatedQDQPair=True)
    yield _extra("operators of com.microsoft", UseQDQContribOps=True)
    yield _set("Relu and Clip stay", extra_options={"ActivationSymmetric": True, "QDQKeepRemovableActivations": True})
    yield _extra("outputs of MatMul in float", OpTypesToExcludeOutputQuantization=["MatMul"])
    yield _extra("movement always", ForceQuantizeNoInputCheck=True)
    yield _set("MatMul's columns", per_channel=True, extra_options={"QDQOpTypePerChannelSupportToAxis": {"MatMul": 1}})


def _of(model: onnx.ModelProto) -> Iterator[OptionSet]:
    """Make the sets that name nodes and tensors: the first linear node and what it reads and makes."""
    view = GraphView.of(model)
    linear = [node for node in view.nodes if node.op_type in LINEAR and len(node.input) > 1]
    if not linear:
        return
    first = linear[0]
    if first.name:
        yield _set("without the first linear node", nodes_to_exclude=[first.name])
        yield _set("the first linear node alone", nodes_to_quantize=[first.name])
    yield _extra(
        "another type for one tensor",
        TensorQuantOverrides={first.output[0]: [{"quant_type": "QUInt8", "symmetric": False}]},
    )
    yield _extra("a range for one tensor", TensorQuantOverrides={first.output[0]: [{"rmin": -1.0, "rmax": 2.0}]})
