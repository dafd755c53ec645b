"""Pre-processing under the peer's name: types and shapes, and a graph that is ready to be quantized."""

from quantlab.workflow.preprocess import quant_pre_process

__all__ = ["quant_pre_process"]
