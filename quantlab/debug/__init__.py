"""What quantization did to a model, and which part of it is to blame."""

from quantlab.debug.activation_errors import (
    compute_activation_error,
    create_activation_matching,
    stream_activation_error,
)
from quantlab.debug.compare import compare
from quantlab.debug.lines import DebugErrors, debug
from quantlab.debug.noise import compute_signal_to_quantization_noice_ratio
from quantlab.debug.saved import (
    collect_activations,
    modify_model_output_intermediate_tensors,
    stream_activations,
)
from quantlab.debug.shadow import ShadowError, shadow_compare
from quantlab.debug.tables import Table
from quantlab.debug.weight_errors import compute_weight_error, create_weight_matching

__all__ = [
    "DebugErrors",
    "ShadowError",
    "Table",
    "collect_activations",
    "compare",
    "compute_activation_error",
    "compute_signal_to_quantization_noice_ratio",
    "compute_weight_error",
    "create_activation_matching",
    "create_weight_matching",
    "debug",
    "modify_model_output_intermediate_tensors",
    "shadow_compare",
    "stream_activation_error",
    "stream_activations",
]
