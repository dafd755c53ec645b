"""`python -m quantlab.ort.static_quantize_runner`: static quantization with the options of the peer's module.

Samples are those that ONNX keeps beside a model for tests: `test_data_set_*/input_N.pb`, one folder a sample.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from quantlab.backend import signature
from quantlab.errors import DataError, OptionError, QuantlabError
from quantlab.graph.files import load
from quantlab.ort.configs import StaticQuantConfig
from quantlab.ort.kinds import QuantFormat, QuantType
from quantlab.ort.quantize import quantize
from quantlab.ort.readers import CalibrationDataReader
from quantlab.ort.tensors_data import CalibrationMethod

Sample = dict[str, npt.NDArray[Any]]


class OnnxModelCalibrationDataReader(CalibrationDataReader):
    """Reads the samples beside a model, in the order of their folders' names.

    Args:
        model_path: The model.

    Raises:
        DataError: There is none, or a file is missing or damaged; the text names it.
    """

    def __init__(self, model_path: str | os.PathLike[str]) -> None:
        folder = Path(model_path).resolve().parent
        self.model_dir = str(folder)
        self.folders = sorted(path for path in folder.glob("test_data_set_*") if path.is_dir())
        if not self.folders:
            raise DataError(f"no data: there is no folder test_data_set_* beside the model in {self.model_dir!r}")
        self.names = [given.name for given in signature(load(model_path)).inputs]
        self.rewind()

    def rewind(self) -> None:
        """Begin anew."""
        self._samples: Iterator[Sample] = map(self._sample, self.folders)

    def _sample(self, folder: Path) -> Sample:
        return {name: self.read_onnx_pb_data(folder / f"input_{index}.pb") for index, name in enumerate(self.names)}

    def get_next(self) -> Sample | None:
        """Return the next sample, or None at the end."""
        return next(self._samples, None)

    def read_onnx_pb_data(self, file_pb: str | os.PathLike[str]) -> npt.NDArray[Any]:
        """Return the array of a file.

        Args:
            file_pb: A serialized `onnx.TensorProto`.

        Raises:
            DataError: It is none.
        """
        try:
            return numpy_helper.to_array(onnx.TensorProto.FromString(Path(file_pb).read_bytes()))
        except (OSError, DecodeError, ValueError, TypeError) as error:
            raise DataError(f"{str(file_pb)!r} holds no tensor: {error}") from error


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: Words behind the command; those of this process by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m quantlab.ort.static_quantize_runner",
        description="Quantize a model with ranges measured on the test data beside it.",
    )
    add = parser.add_argument
    types = {kind.name.lower() for kind in QuantType}
    add("-i", "--input_model_path", required=True, help="the float model, with test_data_set_* folders beside it")
    add("-o", "--output_quantized_model_path", required=True, help="where to write the quantized model")
    add("--activation_type", choices=sorted(types), default="quint8", help="type of activations")
    add("--weight_type", choices=sorted(types), default="qint8", help="type of weights")
    add("--calibration_method", choices=[one.name.lower() for one in CalibrationMethod], default="minmax")
    add("--quant_format", choices=["qdq", "qoperator"], default="qdq", help="how the model is written")
    add("--per_channel", action="store_true", help="a scale for each output channel of a weight")
    add("--nodes_to_quantize", nargs="+", metavar="NODE", help="only these nodes")
    add("--nodes_to_exclude", nargs="+", metavar="NODE", help="not these nodes")
    add("--op_per_channel_axis", nargs=2, action="append", default=[], metavar=("OP", "AXIS"), help="axis of channels")
    add("--op_types_to_exclude_output_quantization", nargs="+", default=[], metavar="OP", help="outputs left in float")
    add("--minimum_real_range", type=float, default=0.0001, help="least width of any range")
    add("--tensor_quant_overrides", metavar="FILE", help="JSON with settings for single tensors")
    for name, what in _SWITCHES.items():
        add(f"--{name}", action="store_true", help=what)
    return parser.parse_args(arguments)


_SWITCHES = {
    "enable_subgraph": "quantize the bodies of If, Loop and Scan too",
    "force_quantize_no_input_check": "quantize operators that only move values whatever their input",
    "matmul_const_b_only": "quantize MatMul only where its second input is constant",
    "add_qdq_pair_to_weight": "keep weights in float before a pair of their own",
    "dedicated_qdq_pair": "a pair for each reader of a tensor",
    "calib_tensor_range_symmetric": "make ranges mirror at zero",
    "calib_moving_average": "take the mean of the samples' ends",
    "disable_quantize_bias": "leave biases in float",
    "use_qdq_contrib_ops": "write onnxruntime's own QuantizeLinear and DequantizeLinear",
    "qdq_keep_removable_activations": "keep Relu and Clip",
    "qdq_disable_weight_adjust_for_int32_bias": "leave scales of weights as they are where a bias overflows",
}


def get_tensor_quant_overrides(file: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Read settings for single tensors.

    Args:
        file: JSON, tensor to a list of dicts with the keys of `TensorQuantOverrides`; None for none.

    Returns:
        The same with scales and zero points as arrays, and types as `QuantType`.

    Raises:
        OptionError: It cannot be read.
    """
    if not file:
        return {}
    try:
        found: dict[str, list[dict[str, Any]]] = json.loads(Path(file).read_text())
        return {name: [_override(entry) for entry in listed] for name, listed in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise OptionError(f"{str(file)!r} holds no overrides: {error}") from error


def _override(entry: dict[str, Any]) -> dict[str, Any]:
    made = dict(entry)
    if "scale" in made:
        made["scale"] = np.array(made["scale"], dtype=np.float32)
    if "zero_point" in made:
        made["zero_point"] = np.array(made["zero_point"])
    if "quant_type" in made:
        made["quant_type"] = QuantType.from_string(made["quant_type"])
    if "convert" in made:
        made["convert"] = _override(made["convert"])
    return made


def _axis(op: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"--op_per_channel_axis {op} wants a whole number, got {text!r}") from None


def _extra_options(given: argparse.Namespace) -> dict[str, Any]:
    options = {
        "EnableSubgraph": given.enable_subgraph,
        "ForceQuantizeNoInputCheck": given.force_quantize_no_input_check,
        "MatMulConstBOnly": given.matmul_const_b_only,
        "AddQDQPairToWeight": given.add_qdq_pair_to_weight,
        "OpTypesToExcludeOutputQuantization": given.op_types_to_exclude_output_quantization,
        "DedicatedQDQPair": given.dedicated_qdq_pair,
        "QDQOpTypePerChannelSupportToAxis": {op: _axis(op, axis) for op, axis in given.op_per_channel_axis},
        "QuantizeBias": not given.disable_quantize_bias,
        "UseQDQContribOps": given.use_qdq_contrib_ops,
        "MinimumRealRange": given.minimum_real_range,
        "QDQKeepRemovableActivations": given.qdq_keep_removable_activations,
        "QDQDisableWeightAdjustForInt32Bias": given.qdq_disable_weight_adjust_for_int32_bias,
        "TensorQuantOverrides": get_tensor_quant_overrides(given.tensor_quant_overrides),
    }
    if given.calibration_method in ("minmax", "percentile"):
        options["CalibTensorRangeSymmetric"] = given.calib_tensor_range_symmetric
    if given.calib_moving_average:
        options["CalibMovingAverage"] = True
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words behind the command; those of this process by default.

    Returns:
        0, or 2 where something cannot be used; the reason is on standard error.
    """
    given = parse_arguments(arguments)
    kinds = {kind.name.lower(): kind for kind in QuantType}
    try:
        config = StaticQuantConfig(
            OnnxModelCalibrationDataReader(given.input_model_path),
            calibrate_method=next(one for one in CalibrationMethod if one.name.lower() == given.calibration_method),
            quant_format=QuantFormat.QDQ if given.quant_format == "qdq" else QuantFormat.QOperator,
            activation_type=kinds[given.activation_type],
            weight_type=kinds[given.weight_type],
            nodes_to_quantize=given.nodes_to_quantize,
            nodes_to_exclude=given.nodes_to_exclude,
            per_channel=given.per_channel,
            extra_options=_extra_options(given),
        )
        quantize(given.input_model_path, given.output_quantized_model_path, config)
    except QuantlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
