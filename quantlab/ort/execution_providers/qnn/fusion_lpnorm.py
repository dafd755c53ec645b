"""LpNormalization out of its parts for QNN: not built yet."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "FusionLpNormalization",
]

FusionLpNormalization = unbuilt("FusionLpNormalization", __name__)
