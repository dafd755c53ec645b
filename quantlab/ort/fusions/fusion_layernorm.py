"""LayerNormalization out of its parts: our pass `fuse-layer-norm`."""

from quantlab.graph.prepare import FUSE_LAYER_NORM, LIFT_CONSTANTS
from quantlab.ort.fusions.fusion import Fusion
from quantlab.ort.onnx_model import ONNXModel


class FusionLayerNormalization(Fusion):
    """Puts LayerNormalization in the place of its parts; needs opset 17.

    Args:
        model: The model.
    """

    def __init__(self, model: ONNXModel) -> None:
        super().__init__(model, LIFT_CONSTANTS, FUSE_LAYER_NORM)
