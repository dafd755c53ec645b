"""Methods that change weights before or while they are rounded, one paper a file. Pure NumPy, no ONNX."""

from quantlab.algorithms.attention_round import attention_round, reconstruct

__all__ = ["attention_round", "reconstruct"]
