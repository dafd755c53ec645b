"""What is particular to QNN: not built yet, every name refuses its use."""

from quantlab.ort.execution_providers.qnn.preprocess import qnn_preprocess_model
from quantlab.ort.execution_providers.qnn.quant_config import get_qnn_qdq_config

__all__ = ["get_qnn_qdq_config", "qnn_preprocess_model"]
