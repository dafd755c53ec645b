"""Recipes that suit an execution provider, by name.

Source: the guidance of onnxruntime.quantization 1.31.1, in `quantize_static` for processors and TensorRT and in
`get_qnn_qdq_config` for QNN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

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

OTHER_NAMES: Mapping[str, str] = MappingProxyType({"gpu": "tensorrt", "arm": "cpu-arm"})
"""Other names of presets."""


def preset(name: str, **changes: Any) -> Recipe:
    """Return the recipe that suits an execution provider.

    Args:
        name: `"cpu-x86-vnni"`, `"cpu-x86-avx2"`, `"cpu-arm"` or `"arm"`, `"tensorrt"` or `"gpu"`, or `"qnn"`.
        changes: Fields of the recipe that are to be different. The GPU multiplies int8 by int8 without zero points
            alone, so that other grids are refused for it.

    Returns:
        The recipe.

    Raises:
        OptionError: There is no preset of that name, the text gives the nearest; or the provider does not know the
            grids.

    Example:
        >>> str(preset("cpu-x86-avx2").weight)
        'int8, symmetric, reduce_range, per tensor'
        >>> preset("gpu", per_channel=True).per_channel
        True
    """
    known = OTHER_NAMES.get(name, name)
    if known not in PRESETS:
        allowed = (*PRESETS, *OTHER_NAMES)
        raise OptionError(f"no preset is called {name!r}{nearest(name, allowed)} (allowed: {', '.join(allowed)})")
    recipe = replace(PRESETS[known], **changes)
    if known == "tensorrt":
        _require_mirrored(recipe, name)
    return recipe


def _require_mirrored(recipe: Recipe, name: str) -> None:
    """Refuse grids that a GPU does not know: it has no zero points, and no unsigned integers."""
    for field, spec in (("activation", recipe.activation), ("weight", recipe.weight)):
        if spec.dtype.name != "int8" or not spec.symmetric:
            raise OptionError(
                f"preset {name!r} wants symmetric int8 activations and weights, got {field}={spec}: leave {field} out"
            )
