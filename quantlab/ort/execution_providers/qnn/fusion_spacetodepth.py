"""SpaceToDepth out of its parts for QNN: not built yet."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "FusionSpaceToDepth",
]

FusionSpaceToDepth = unbuilt("FusionSpaceToDepth", __name__)
