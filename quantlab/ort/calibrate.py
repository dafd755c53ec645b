"""The names of the peer's `calibrate`, each from the file here that it belongs to, and the maker of calibrators."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from quantlab.errors import OptionError, nearest
from quantlab.ort.calibrators import CalibraterBase, MinMaxCalibrater
from quantlab.ort.entropies import entropy, rel_entr
from quantlab.ort.histograms import (
    CalibrationDataCollector,
    DistributionCalibrater,
    EntropyCalibrater,
    HistogramCalibrater,
    HistogramCollector,
    PercentileCalibrater,
)
from quantlab.ort.readers import CalibrationDataReader
from quantlab.ort.tensors_data import (
    CalibrationCacheEncoder,
    CalibrationMethod,
    TensorData,
    TensorsData,
    load_tensors_data,
    save_tensors_data,
)

__all__ = [
    "CalibraterBase",
    "CalibrationCacheEncoder",
    "CalibrationDataCollector",
    "CalibrationDataReader",
    "CalibrationMethod",
    "DistributionCalibrater",
    "EntropyCalibrater",
    "HistogramCalibrater",
    "HistogramCollector",
    "MinMaxCalibrater",
    "PercentileCalibrater",
    "TensorData",
    "TensorsData",
    "create_calibrator",
    "entropy",
    "load_tensors_data",
    "rel_entr",
    "save_tensors_data",
]

# Defaults of the peer's function, which are not those of its classes.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "MinMax": {
        "symmetric": False,
        "moving_average": False,
        "averaging_constant": 0.01,
        "max_intermediate_outputs": None,
        "per_channel": False,
    },
    "Entropy": {"symmetric": False, "num_bins": 128, "num_quantized_bins": 128},
    "Percentile": {"symmetric": True, "num_bins": 2048, "percentile": 99.999},
    "Distribution": {"num_bins": 2048, "scenario": "same"},
}
_CLASSES: Mapping[str, type[CalibraterBase]] = {
    "MinMax": MinMaxCalibrater,
    "Entropy": EntropyCalibrater,
    "Percentile": PercentileCalibrater,
    "Distribution": DistributionCalibrater,
}


def create_calibrator(
    model: str | os.PathLike[str],
    op_types_to_calibrate: Sequence[str] | None = None,
    augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
    calibrate_method: Enum | str = CalibrationMethod.MinMax,
    use_external_data_format: bool = False,
    providers: Sequence[str] | None = None,
    extra_options: Mapping[str, Any] | None = None,
) -> Any:
    """Make a calibrator that is ready for `collect_data`.

    Args:
        model: Path of the float model.
        op_types_to_calibrate: Operators whose inputs and outputs are watched; all by default.
        augmented_model_path: Where the model with visible tensors is written.
        calibrate_method: `MinMax`, `Entropy`, `Percentile` or `Distribution`.
        use_external_data_format: Write the weights of that model into a file of their own.
        providers: Execution providers; the CPU by default.
        extra_options: Options of the method; those of other methods have no effect.

    Returns:
        A `MinMaxCalibrater`, `EntropyCalibrater`, `PercentileCalibrater` or `DistributionCalibrater`.

    Raises:
        OptionError: There is no such method, or an option is unknown or out of its limits; it is a ValueError too.
        ModelError: The model cannot be read or opened.
    """
    method = calibrate_method.name if isinstance(calibrate_method, Enum) else str(calibrate_method)
    if method not in _CLASSES:
        raise OptionError(
            f"unknown calibration method {method!r}{nearest(method, _CLASSES)} (allowed: {', '.join(_CLASSES)})"
        )
    given, known = dict(extra_options or {}), {name for options in _DEFAULTS.values() for name in options}
    for name in given:
        if name not in known:
            raise OptionError(f"unknown option {name!r}{nearest(name, known)} (allowed: {', '.join(sorted(known))})")
    options = {name: given.get(name, default) for name, default in _DEFAULTS[method].items()}
    made = _CLASSES[method](
        model,
        op_types_to_calibrate,
        augmented_model_path,
        use_external_data_format=use_external_data_format,
        **options,
    )
    made.augment_graph()
    if providers:
        made.execution_providers = providers
    made.create_inference_session()
    return made
