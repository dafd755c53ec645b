"""The only code that writes quantized protos."""

from quantlab.rewrite.qdq import insert_qdq

__all__ = ["insert_qdq"]
