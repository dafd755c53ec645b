"""Recipes that suit an execution provider, by name.

Source: the guidance of onnxruntime.quantization 1.31.1, in `quantize_static` for processors and TensorRT and in
`get_qnn_qdq_config` for QNN.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantlab.errors import OptionError, nearest
from quantlab.plan.options import Layout
from quantlab.plan.recipe import Recipe, activation_spec, weight_spec

_UNSIGNED, _MIRRORED = activation_spec("uint8"), activation_spec("int8", symmetric=True)
_SIGNED, _SEVEN_BITS = weight_spec("int8"), weight_spec("int8", reduce_range=True)

PRESETS: Mapping[str, Recipe] = MappingProxyType(
    {
        "cpu-x86-vnni": Recipe(activation=_UNSIGNED, weight=_SIGNED),
        "cpu-x86-avx2": Recipe(activation=_UNSIGNED, weight=_SEVEN_BITS),
        "cpu-arm": Recipe(activation=_MIRRORED, weight=_SIGNED),
        "tensorrt": Recipe(activation=_MIRRORED, weight=_SIGNED, bias=False, layout=Layout(weight_pairs=True)),
        "qnn": Recipe(activation=_UNSIGNED, weight=weight_spec("uint8"), force_movement=True, min_real_range=1e-4),
    }
)
"""Execution provider to recipe."""


def preset(name: str) -> Recipe:
    """Return the recipe that suits an execution provider.

    Args:
        name: `"cpu-x86-vnni"`, `"cpu-x86-avx2"`, `"cpu-arm"`, `"tensorrt"` or `"qnn"`.

    Returns:
        The recipe; change it with `dataclasses.replace`.

    Raises:
        OptionError: There is none of that name; the text gives the nearest.

    Example:
        >>> str(preset("cpu-x86-avx2").weight)
        'int8, symmetric, reduce_range, per tensor'
    """
    if name not in PRESETS:
        raise OptionError(f"no preset is called {name!r}{nearest(name, PRESETS)} (allowed: {', '.join(PRESETS)})")
    return PRESETS[name]
