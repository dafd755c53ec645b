"""Drop-in for onnxruntime.quantization 1.31.1: its modules, names and arguments, over our own rooms.

    from quantlab.ort import CalibrationDataReader, QuantType, quantize_static

in the place of the same line of onnxruntime.quantization, and nothing else changes. What it has and quantlab has not
yet can be imported too, and raises a `QuantlabError` that says so when it is used.
"""

from quantlab.ort import fusions, onnx_quantizer, registry
from quantlab.ort.calibrate import (
    CalibraterBase,
    CalibrationDataReader,
    CalibrationMethod,
    MinMaxCalibrater,
    TensorData,
    TensorsData,
    create_calibrator,
    load_tensors_data,
    save_tensors_data,
)
from quantlab.ort.cuda_quantizer import CudaQuantizer
from quantlab.ort.qdq_quantizer import QDQQuantizer
from quantlab.ort.quant_utils import QuantFormat, QuantType, write_calibration_table
from quantlab.ort.quantize import (
    DynamicQuantConfig,
    QuantizationMode,
    StaticQuantConfig,
    get_qdq_config,
    quantize,
    quantize_dynamic,
    quantize_static,
)
from quantlab.ort.shape_inference import quant_pre_process

__all__ = [
    "CalibraterBase",
    "CalibrationDataReader",
    "CalibrationMethod",
    "CudaQuantizer",
    "DynamicQuantConfig",
    "MinMaxCalibrater",
    "QDQQuantizer",
    "QuantFormat",
    "QuantType",
    "QuantizationMode",
    "StaticQuantConfig",
    "TensorData",
    "TensorsData",
    "create_calibrator",
    "fusions",
    "get_qdq_config",
    "load_tensors_data",
    "onnx_quantizer",
    "quant_pre_process",
    "quantize",
    "quantize_dynamic",
    "quantize_static",
    "registry",
    "save_tensors_data",
    "write_calibration_table",
]
