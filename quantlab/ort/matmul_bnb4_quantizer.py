"""Weights in the 4-bit floats of bitsandbytes: not built yet, every name refuses its use."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "MatMulBnb4Quantizer",
]

MatMulBnb4Quantizer = unbuilt("MatMulBnb4Quantizer", __name__)
