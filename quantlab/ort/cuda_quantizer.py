"""Weights prepared for CUDA kernels: not built yet, every name refuses its use."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "CudaQuantizer",
    "has_cuda_weight_prepacking",
]

CudaQuantizer = unbuilt("CudaQuantizer", __name__)
has_cuda_weight_prepacking = unbuilt("has_cuda_weight_prepacking", __name__)
