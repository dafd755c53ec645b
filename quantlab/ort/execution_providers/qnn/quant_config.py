"""Configurations for QNN: not built yet, every name refuses its use."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "QnnCompatibilityOverrides",
    "get_qnn_qdq_config",
    "warn_unable_to_override",
]

_INSTEAD = "quantlab.ort.get_qdq_config makes a configuration for any provider"
get_qnn_qdq_config = unbuilt("get_qnn_qdq_config", __name__, _INSTEAD)
warn_unable_to_override = unbuilt("warn_unable_to_override", __name__, _INSTEAD)
QnnCompatibilityOverrides = unbuilt("QnnCompatibilityOverrides", __name__, _INSTEAD)
