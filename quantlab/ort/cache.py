"""A calibration cache: the file of ranges that spares the next quantization its samples."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quantlab.arrays import Range
from quantlab.backend import signature
from quantlab.calibration import (
    RangeRule,
    RangeTable,
    Statistic,
    TwoPassRule,
    calibrator,
    load_ranges,
    save_ranges,
)
from quantlab.data import Batches, batches
from quantlab.errors import DataError, OptionError, QuantlabWarning
from quantlab.graph import GraphView
from quantlab.ort.tensors_data import load_tensors_data
from quantlab.plan import Recipe
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import prepare_for
from quantlab.workflow.ranges import origin


def cached_ranges(
    path: str | os.PathLike[str], method: str, model: onnx.ModelProto, data: Any, recipe: Recipe, engine: Engine
) -> RangeTable:
    """Read ranges from a cache, or measure them and write it.

    Args:
        path: The cache.
        method: Name of the calibration method that is wanted.
        model: The float model.
        data: Its samples; None where the cache exists.
        recipe: What is to be quantized, and by which range rule.
        engine: How to measure.

    Returns:
        The ranges. A warning says where a cache is of another model.

    Raises:
        DataError: The cache is none, or there is neither cache nor data.
        OptionError: The cache was made with another method.
    """
    if Path(path).exists() and not _smoothed(path):
        found = load_tensors_data(path).calibration_method
        if getattr(found, "name", found) != method:
            raise OptionError(
                f"calibration cache {str(path)!r} was made with {found}, and calibrate_method is {method!r}: "
                "delete it, or give the method that it was made with"
            )
        return load_ranges(path, format="onnxruntime")
    if data is None:
        raise OptionError(f"there is no calibration cache {str(path)!r} yet: give a calibration_data_reader")
    table = _measured(model, batches(data, signature(model)), recipe, engine)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_ranges(path, table, format="onnxruntime")
    return table


def _measured(model: onnx.ModelProto, data: Batches, recipe: Recipe, engine: Engine) -> RangeTable:
    """Measure every float tensor of the prepared model: the peer asks its caches for more than a plan needs."""
    prepared = prepare_for(model, recipe).model
    view = GraphView.of(prepared)
    tensors = dict.fromkeys([*view.inputs, *view.producers])
    types = {name: kind for name in tensors if (kind := view.float_type(name)) in _KEPT}
    rule = calibrator(recipe.calibrate, recipe.calibrate_options)
    if isinstance(rule, TwoPassRule):
        first = engine.measure(prepared, {name: rule.first() for name in types}, data)
        seen = engine.measure(prepared, {name: rule.second(first[name]) for name in types}, data)
    else:
        seen = engine.measure(prepared, {name: rule.empty() for name in types}, data)
    return RangeTable(
        ranges={name: _range(rule, name, seen[name], recipe).astype(kind) for name, kind in types.items()},
        meta=origin(model, recipe),
    )


_KEPT = (np.float16, np.float32)


def _range(rule: RangeRule, name: str, seen: Statistic, recipe: Recipe) -> Range:
    try:
        return rule.range(seen, recipe.activation)
    except DataError as error:
        raise DataError(f"tensor {name!r}: {error}") from error


def _smoothed(path: str | os.PathLike[str]) -> bool:
    """Return whether a cache is of a model that SmoothQuant had changed, so that it is of no use here."""
    try:
        smoothed = bool(json.loads(Path(path).read_text()).get("smooth_quant", False))
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{str(path)!r} is no calibration cache: {error}") from error
    if smoothed:
        warnings.warn(
            f"calibration cache {str(path)!r} was made with SmoothQuant: ranges are measured anew, and it is replaced",
            QuantlabWarning,
            stacklevel=4,
        )
    return smoothed
