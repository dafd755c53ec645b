"""Calibrators: a model opened with its inner tensors visible, what samples show of them, and the ranges that follow.

The ranges are those of onnxruntime.quantization 1.31.1 (`calibrate.py`) to the bit, from our rule `onnxruntime_minmax`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from quantlab.arrays import INT8, QuantSpec
from quantlab.backend import OrtBackend
from quantlab.calibration import OnnxruntimeMinMaxRule
from quantlab.errors import DataError, OptionError
from quantlab.graph.expose import expose
from quantlab.graph.files import MAX_PROTOBUF_BYTES, load, save
from quantlab.ort.models import load_model_with_shape_infer
from quantlab.ort.readers import CalibrationDataReader
from quantlab.ort.tensors_data import CalibrationMethod, TensorData, TensorsData

CPU = ("CPUExecutionProvider",)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


class CalibraterBase:
    """What all calibrators do: choose the tensors, make them outputs, and run the model.

    A subclass says in `collect_data` and `compute_data` what becomes of the values.

    Args:
        model_path: The float model.
        op_types_to_calibrate: Operators whose inputs and outputs are watched; all by default.
        augmented_model_path: Where the model with visible tensors is written.
        symmetric: Make ranges mirror at zero.
        use_external_data_format: Write its weights into a file of their own.
        per_channel: Watch each channel of axis 1 by itself.

    Raises:
        OptionError: `model_path` is no path; it is a ValueError too.
        ModelError: The model cannot be read.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        symmetric: bool = False,
        use_external_data_format: bool = False,
        per_channel: bool = False,
    ) -> None:
        if not isinstance(model_path, str | os.PathLike):
            raise OptionError(f"model_path must be the path of a model, got a {type(model_path).__name__}")
        self.model = load_model_with_shape_infer(model_path)
        self.op_types_to_calibrate = op_types_to_calibrate
        self.augmented_model_path = augmented_model_path
        self.symmetric = symmetric
        self.use_external_data_format = use_external_data_format
        self.per_channel = per_channel
        self.infer_session: Any = None
        self.execution_providers: Sequence[str] = list(CPU)
        self.tensors_to_calibrate: list[str] = []

    def set_execution_providers(self, execution_providers: Sequence[str] = CPU) -> None:
        """Open the model anew with other execution providers.

        Args:
            execution_providers: In order of preference.
        """
        self.execution_providers = execution_providers
        self.create_inference_session()

    def create_inference_session(self) -> None:
        """Open the written model without optimization, so that the numbers are those of its operators one by one."""
        backend = OrtBackend(optimize=False, providers=tuple(self.execution_providers))
        self.infer_session = backend.session(load(self.augmented_model_path))

    def select_tensors_to_calibrate(self, model: onnx.ModelProto) -> tuple[set[str], dict[str, onnx.ValueInfoProto]]:
        """Return the float32 and float16 tensors around the chosen operators, and all typed tensors by name.

        Args:
            model: A model whose types were inferred.
        """
        typed = {value.name: value for value in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
        constants = {tensor.name for tensor in model.graph.initializer}
        chosen = [
            node
            for node in model.graph.node
            if not self.op_types_to_calibrate or node.op_type in self.op_types_to_calibrate
        ]
        named = {name for node in chosen for name in (*node.input, *node.output) if name in typed}
        return {name for name in named - constants if typed[name].type.tensor_type.elem_type in _FLOATS}, typed

    def get_augment_model(self) -> onnx.ModelProto:
        """Return the model with visible tensors; before `augment_graph`, the model itself."""
        return self.model

    def augment_graph(self) -> None:
        """Make the tensors outputs, and write that model."""
        chosen, _ = self.select_tensors_to_calibrate(self.model)
        made = [name for node in self.model.graph.node for name in node.output if name in chosen]
        self.tensors_to_calibrate = [*(value.name for value in self.model.graph.input if value.name in chosen), *made]
        self.model = expose(self.model, made)
        save(
            self.model,
            self.augmented_model_path,
            external_above=0 if self.use_external_data_format else MAX_PROTOBUF_BYTES,
        )

    def run(self, data_reader: CalibrationDataReader | Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Run the model on every sample of a reader.

        Args:
            data_reader: Anything with `get_next`, or an iterable of samples.

        Yields:
            Tensor to value, for the tensors to calibrate.

        Raises:
            DataError: `augment_graph` and `create_inference_session` were not called.
        """
        if self.infer_session is None:
            raise DataError("the model is not open: call augment_graph() and create_inference_session() first")
        outputs = [output.name for output in self.infer_session.get_outputs()]
        for sample in samples_of(data_reader):
            values = {**sample, **dict(zip(outputs, self.infer_session.run(None, dict(sample)), strict=True))}
            yield {name: np.asarray(values[name]) for name in self.tensors_to_calibrate}

    def collect_data(self, data_reader: CalibrationDataReader) -> None:
        """Take in the samples of a reader; may be called several times."""
        raise NotImplementedError(f"{type(self).__name__} does not say what to collect")

    def compute_data(self) -> TensorsData:
        """Return the ranges."""
        raise NotImplementedError(f"{type(self).__name__} does not say what follows from its data")


def samples_of(data_reader: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the samples of a reader up to its end, which is anything empty, or of an iterable."""
    if not callable(getattr(data_reader, "get_next", None)):
        yield from data_reader
        return
    while sample := data_reader.get_next():
        yield sample


class MinMaxCalibrater(CalibraterBase):
    """Takes the smallest and largest values, or the mean over the samples of each.

    Args:
        model_path: As for `CalibraterBase`, like those that follow.
        op_types_to_calibrate: See there.
        augmented_model_path: See there.
        symmetric: See there.
        use_external_data_format: See there.
        moving_average: Take the mean of the samples' ends; between calls of `collect_data`, step towards the new one.
        averaging_constant: Length of that step, from 0 to 1.
        max_intermediate_outputs: Forget so many samples at a time, as the peer does; None for none.
        per_channel: See there.

    Raises:
        OptionError: `averaging_constant` or `max_intermediate_outputs` is out of its limits; it is a ValueError too.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        symmetric: bool = False,
        use_external_data_format: bool = False,
        moving_average: bool = False,
        averaging_constant: float = 0.01,
        max_intermediate_outputs: int | None = None,
        per_channel: bool = False,
    ) -> None:
        super().__init__(
            model_path, op_types_to_calibrate, augmented_model_path, symmetric, use_external_data_format, per_channel
        )
        self.rule = OnnxruntimeMinMaxRule(
            symmetric=symmetric,
            moving_average=moving_average,
            averaging_constant=averaging_constant,
            max_intermediate_outputs=max_intermediate_outputs,
            per_channel=per_channel,
        )
        self.moving_average = moving_average
        self.averaging_constant = averaging_constant
        self.max_intermediate_outputs = max_intermediate_outputs
        self.calibrate_tensors_range: TensorsData | None = None

    def clear_collected_data(self) -> None:
        """Do nothing: no values are kept, only their ends."""

    def collect_data(self, data_reader: CalibrationDataReader) -> None:
        """Take in the samples of a reader; may be called several times.

        Args:
            data_reader: Anything with `get_next`, or an iterable of samples.

        Raises:
            DataError: There was no sample, or a tensor had no finite value.
        """
        seen = {name: self.rule.empty() for name in self.tensors_to_calibrate}
        types: dict[str, Any] = {}
        for values in self.run(data_reader):
            types = {name: value.dtype for name, value in values.items()}
            seen = {name: seen[name].update(value) for name, value in values.items()}
        if not types:
            raise DataError("no data: the reader gave no sample")
        new = TensorsData(
            CalibrationMethod.MinMax, {name: self._ends(name, seen[name], kind) for name, kind in types.items()}
        )
        old = self.calibrate_tensors_range
        self.calibrate_tensors_range = new if old is None else self.merge_range(old, new)

    def _ends(self, name: str, seen: Any, kind: Any) -> tuple[Any, Any]:
        try:
            found = self.rule.range(seen, QuantSpec(dtype=INT8, axis=1 if self.per_channel else None))
        except DataError as error:
            raise DataError(f"tensor {name!r}: {error}") from error
        return np.atleast_1d(found.lo).astype(kind), np.atleast_1d(found.hi).astype(kind)

    def merge_range(self, old_range: TensorsData, new_range: TensorsData) -> TensorsData:
        """Return the ranges of two calls of `collect_data`.

        Args:
            old_range: Of the calls before.
            new_range: Of the last call, with the same tensors.
        """
        merged = {}
        for name, old in old_range.items():
            ends = zip(old.range_value, new_range[name].range_value, strict=True)
            if self.moving_average:
                low, high = (was + self.averaging_constant * (now - was) for was, now in ends)
            else:
                low, high = (pick(was, now) for pick, (was, now) in zip((np.minimum, np.maximum), ends, strict=True))
            merged[name] = TensorData(lowest=low, highest=high)
        return TensorsData(CalibrationMethod.MinMax, merged)

    def compute_data(self) -> TensorsData:
        """Return the ranges: arrays of shape (1,), or (C,) by channel, in the types of the tensors.

        Raises:
            DataError: Nothing was collected.
        """
        if self.calibrate_tensors_range is None:
            raise DataError("no data: call collect_data first")
        return self.calibrate_tensors_range
