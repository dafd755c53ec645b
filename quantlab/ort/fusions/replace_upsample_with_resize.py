"""Resize in the place of Upsample: part of raising the opset here."""

from quantlab.ort.missing import unbuilt

__all__ = ["ReplaceUpsampleWithResize"]

ReplaceUpsampleWithResize = unbuilt(
    "ReplaceUpsampleWithResize", __name__, "quant_pre_process does it where it raises the opset"
)
