"""Gelu out of its parts: our pass `fuse-gelu`, with onnxruntime's own operator below opset 20."""

from quantlab.graph.prepare import LIFT_CONSTANTS, fuse_gelu
from quantlab.ort.fusions.fusion import Fusion
from quantlab.ort.onnx_model import ONNXModel


class FusionGelu(Fusion):
    """Puts Gelu in the place of its parts.

    Args:
        model: The model.
    """

    def __init__(self, model: ONNXModel) -> None:
        super().__init__(model, LIFT_CONSTANTS, fuse_gelu(contrib=True))
