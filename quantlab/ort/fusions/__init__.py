"""Several nodes that are one operator become one node."""

from quantlab.ort.fusions.fusion import Fusion
from quantlab.ort.fusions.fusion_gelu import FusionGelu
from quantlab.ort.fusions.fusion_layernorm import FusionLayerNormalization
from quantlab.ort.fusions.replace_upsample_with_resize import ReplaceUpsampleWithResize

__all__ = ["Fusion", "FusionGelu", "FusionLayerNormalization", "ReplaceUpsampleWithResize"]
