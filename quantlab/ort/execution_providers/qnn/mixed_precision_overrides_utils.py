"""Conversions between types of activations for QNN: not built yet, every name refuses its use."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "MixedPrecisionTensorQuantOverridesFixer",
    "TensorTypeRequest",
]

TensorTypeRequest = unbuilt("TensorTypeRequest", __name__)
MixedPrecisionTensorQuantOverridesFixer = unbuilt("MixedPrecisionTensorQuantOverridesFixer", __name__)
