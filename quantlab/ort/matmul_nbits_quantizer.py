"""Weights in 2, 4 or 8 bits for MatMulNBits: not built yet, every name refuses its use."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "DefaultWeightOnlyQuantConfig",
    "DefaultWeightOnlyQuantizer",
    "GPTQWeightOnlyQuantConfig",
    "HQQWeightOnlyQuantConfig",
    "HQQWeightOnlyQuantizer",
    "KQuantWeightOnlyQuantConfig",
    "MatMulNBitsQuantizer",
    "NVAWQWeightOnlyQuantConfig",
    "NVAWQWeightOnlyQuantizer",
    "RTNWeightOnlyQuantConfig",
    "WeightOnlyQuantConfig",
]

WeightOnlyQuantConfig = unbuilt("WeightOnlyQuantConfig", __name__)
DefaultWeightOnlyQuantConfig = unbuilt("DefaultWeightOnlyQuantConfig", __name__)
RTNWeightOnlyQuantConfig = unbuilt("RTNWeightOnlyQuantConfig", __name__)
KQuantWeightOnlyQuantConfig = unbuilt("KQuantWeightOnlyQuantConfig", __name__)
GPTQWeightOnlyQuantConfig = unbuilt("GPTQWeightOnlyQuantConfig", __name__)
HQQWeightOnlyQuantConfig = unbuilt("HQQWeightOnlyQuantConfig", __name__)
NVAWQWeightOnlyQuantConfig = unbuilt("NVAWQWeightOnlyQuantConfig", __name__)
DefaultWeightOnlyQuantizer = unbuilt("DefaultWeightOnlyQuantizer", __name__)
HQQWeightOnlyQuantizer = unbuilt("HQQWeightOnlyQuantizer", __name__)
NVAWQWeightOnlyQuantizer = unbuilt("NVAWQWeightOnlyQuantizer", __name__)
MatMulNBitsQuantizer = unbuilt("MatMulNBitsQuantizer", __name__)
