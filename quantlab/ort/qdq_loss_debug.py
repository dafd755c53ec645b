"""Float and quantized tensors side by side, under the peer's names: the functions of `quantlab.debug`."""

from quantlab.debug.activation_errors import compute_activation_error, create_activation_matching
from quantlab.debug.noise import compute_signal_to_quantization_noice_ratio
from quantlab.debug.saved import collect_activations, modify_model_output_intermediate_tensors
from quantlab.debug.weight_errors import compute_weight_error, create_weight_matching

__all__ = [
    "collect_activations",
    "compute_activation_error",
    "compute_signal_to_quantization_noice_ratio",
    "compute_weight_error",
    "create_activation_matching",
    "create_weight_matching",
    "modify_model_output_intermediate_tensors",
]
