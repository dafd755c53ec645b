"""Float and quantized tensors side by side: not built yet under these names, every one refuses its use."""

from quantlab.ort.missing import unbuilt

__all__ = [
    "collect_activations",
    "compute_activation_error",
    "compute_signal_to_quantization_noice_ratio",
    "compute_weight_error",
    "create_activation_matching",
    "create_weight_matching",
    "modify_model_output_intermediate_tensors",
]

_INSTEAD = "quantlab.compare shows a float and a quantized model side by side"
modify_model_output_intermediate_tensors = unbuilt("modify_model_output_intermediate_tensors", __name__, _INSTEAD)
collect_activations = unbuilt("collect_activations", __name__, _INSTEAD)
create_activation_matching = unbuilt("create_activation_matching", __name__, _INSTEAD)
create_weight_matching = unbuilt("create_weight_matching", __name__, _INSTEAD)
compute_signal_to_quantization_noice_ratio = unbuilt("compute_signal_to_quantization_noice_ratio", __name__, _INSTEAD)
compute_weight_error = unbuilt("compute_weight_error", __name__, _INSTEAD)
compute_activation_error = unbuilt("compute_activation_error", __name__, _INSTEAD)
