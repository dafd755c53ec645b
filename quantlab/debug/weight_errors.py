"""Weights side by side: those of the float model, and what the quantized model's integers stand for.

Integers are widened before the zero point is taken off: in int8, 100 - (-100) is -56.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import onnx

from quantlab.arrays import dequantize
from quantlab.debug.constants import constant_values
from quantlab.debug.models import matched
from quantlab.debug.noise import Array, compute_signal_to_quantization_noice_ratio
from quantlab.errors import QuantlabWarning
from quantlab.graph.files import load
from quantlab.graph.quantized import original_name

Model: TypeAlias = str | os.PathLike[str] | onnx.ModelProto


def create_weight_matching(float_model_path: Model, qdq_model_path: Model) -> dict[str, dict[str, Array]]:
    """Lay the constants of a quantized model beside those of its float model.

    They are matched by what reads them, so names may differ; formats QDQ and QOperator, all integer types and float8,
    scales per tensor, channel and block are read.

    Args:
        float_model_path: The float model, a path or a model.
        qdq_model_path: Its quantized version.

    Returns:
        Name in the float model to `{"float": ..., "dequantized": ...}`, of one shape, weights and biases in the order
        of the quantized model. A constant that was rounded onto several grids has further entries, by the names of
        their integers. What has no partner is named in a warning.

    Raises:
        ModelError: One of the models is not what it is given for.
    """
    exact, rounded = load(float_model_path), load(qdq_model_path)
    _, found = matched(exact, rounded)
    constants = [each for each in found.tensors if each.constant]
    warn_unmatched("weights", ((each.rounded.integers, each.reason) for each in constants if each.name is None))
    result: dict[str, dict[str, Array]] = {}
    for each in constants:
        if each.name is not None:
            values, stored = constant_values(each, found)
            name = each.name if each.name not in result else original_name(each.rounded.integers)
            result[name] = {"float": values, "dequantized": dequantize(stored, each.rounded.grid)}
    return result


def compute_weight_error(
    weights_match: dict[str, dict[str, Array]],
    err_func: Callable[[Any, Any], float] = compute_signal_to_quantization_noice_ratio,
) -> dict[str, float]:
    """Compare the weights that `create_weight_matching` has laid side by side.

    Args:
        weights_match: What it returned.
        err_func: Makes a number of the float weight and the dequantized one; the SQNR in dB by default.

    Returns:
        Name to number.
    """
    return {name: err_func(pair["float"], pair["dequantized"]) for name, pair in weights_match.items()}


def warn_unmatched(what: str, unmatched: Iterable[tuple[str, str]]) -> None:
    """Name in one warning what has no partner in the float model, with the first reason."""
    lost = list(unmatched)
    if lost:
        names = ", ".join(repr(name) for name, _ in lost)
        warnings.warn(
            f"{len(lost)} {what} have no partner in the float model: {names} ({lost[0][1]})",
            QuantlabWarning,
            stacklevel=3,
        )
