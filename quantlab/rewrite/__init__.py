"""The only code that writes quantized protos."""

from quantlab.rewrite.qdq import insert_qdq
from quantlab.rewrite.qoperator import write_qoperator

__all__ = ["insert_qdq", "write_qoperator"]
