"""Debugging in one call: a line for each weight and activation that says how far it moved, worst first."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from quantlab.debug.activation_errors import stream_activation_error
from quantlab.debug.models import matched
from quantlab.debug.saved import modify_model_output_intermediate_tensors
from quantlab.debug.weight_errors import Model, compute_weight_error, create_weight_matching
from quantlab.graph.files import load

SAVED = ".save_tensors.onnx"
"""What the names of models that save their tensors end with."""


@dataclass(frozen=True, kw_only=True)
class DebugErrors:
    """What `debug` found.

    Attributes:
        weights: Weight to SQNR in dB.
        activations: Activation to `{"qdq_err": ..., "xmodel_err": ...}` in dB; empty without data.
    """

    weights: Mapping[str, float]
    activations: Mapping[str, Mapping[str, float]]

    def lines(self) -> Iterator[str]:
        """Yield one line a number: weights first, then activations, each worst first."""
        for name, error in sorted(self.weights.items(), key=lambda pair: pair[1]):
            yield cross_line(name, error)
        worst = sorted(self.activations.items(), key=lambda pair: min(pair[1].values()))
        for name, errors in worst:
            if "xmodel_err" in errors:
                yield cross_line(name, errors["xmodel_err"])
            yield qdq_line(name, errors["qdq_err"])


def cross_line(name: str, decibels: float) -> str:
    """Return the line that says how far a tensor moved from one model to the other.

    Example:
        >>> cross_line("conv1.weight", 45.0)
        "Cross model error of 'conv1.weight': 45.000 dB"
    """
    return f"Cross model error of {name!r}: {decibels:.3f} dB"


def qdq_line(name: str, decibels: float) -> str:
    """Return the line that says how far a tensor moves on its own grid."""
    return f"QDQ error of {name!r}: {decibels:.3f} dB"


def debug(
    float_model: Model,
    qdq_model: Model,
    input_reader: Any = None,
    *,
    keep: bool = False,
    write: Callable[[str], object] = print,
) -> DebugErrors:
    """Compare a QDQ model with its float model, weights and activations, and write a line for each.

    Copies of the models that save their tensors are written beside them, as `MODEL.save_tensors.onnx`, and are removed
    at the end.

    Args:
        float_model: The float model, prepared or not, a path or a model.
        qdq_model: Its quantized version in format QDQ.
        input_reader: A reader with `get_next`, or an iterable of mappings from input name to array, read once; None
            compares weights alone.
        keep: Whether the copies stay.
        write: Takes the lines.

    Returns:
        The numbers.

    Raises:
        DataError: The reader gave nothing.
        ModelError: A model cannot be read, or a copy not be written, or one of them does not run.
    """
    weights = compute_weight_error(create_weight_matching(float_model, qdq_model))
    activations: Mapping[str, Mapping[str, float]] = {}
    if input_reader is not None:
        with ExitStack() as copies:
            # The form of the float model that was quantized: folding batch normalization, say, moves tensors.
            exact, _ = matched(load(float_model), load(qdq_model))
            saved = [
                _saving(content, place, copies, keep=keep)
                for content, place in ((load(qdq_model), qdq_model), (exact, float_model))
            ]
            activations = stream_activation_error(saved[0], saved[1], input_reader)
    found = DebugErrors(weights=weights, activations=activations)
    for line in found.lines():
        write(line)
    return found


def _saving(model: onnx.ModelProto, place: Model, copies: ExitStack, *, keep: bool) -> Path:
    """Write a copy that saves its tensors beside a model, or in a temporary folder for one that has no file."""
    if isinstance(place, onnx.ModelProto):
        path = Path(copies.enter_context(tempfile.TemporaryDirectory(prefix="quantlab-"))) / f"model{SAVED}"
    else:
        path = Path(os.fspath(place)).with_suffix(SAVED)
        if not keep:
            for file in (path, Path(f"{path}.data")):
                copies.callback(file.unlink, missing_ok=True)
    modify_model_output_intermediate_tensors(model, path)
    return path
