"""Preparing models for QNN: not built yet, every name refuses its use."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "InputOutputNameMap",
    "qnn_preprocess_model",
    "save_and_reload_optimize_model",
    "update_io_to_channel_last",
]

qnn_preprocess_model = unbuilt("qnn_preprocess_model", __name__)
save_and_reload_optimize_model = unbuilt("save_and_reload_optimize_model", __name__)
InputOutputNameMap = unbuilt("InputOutputNameMap", __name__)
update_io_to_channel_last = unbuilt("update_io_to_channel_last", __name__)
