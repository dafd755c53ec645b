"""Calibration by itself: measured once, kept in a file, and used as often as a model is to be quantized.

    data -> statistics -> ranges -> quantized model

Each arrow is a step of its own, and what stands between them can be kept. Statistics serve any rule that needs no more
than they hold; ranges serve any grid. Whatever way is taken, the model that comes out has the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from quantlab.backend import Batch
from quantlab.calibration import RangeTable, Stored
from quantlab.plan import Recipe
from quantlab.progress import Track, quiet
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import decide, observe, prepare_for
from quantlab.workflow.ranges import check_origin, origin, range_table


def collect_statistics(
    model: onnx.ModelProto,
    batches: Iterable[Batch],
    recipe: Recipe = Recipe(),  # noqa: B008  # a frozen value
    *,
    engine: Engine | None = None,
    track: Track = quiet,
) -> Stored:
    """Run a float model on samples and collect the statistic that a recipe's range rule needs of every tensor.

    Args:
        model: A float model; it is not changed.
        batches: Input name to array, one mapping a sample; see `quantlab.data.batches`.
        recipe: Says which nodes are to be quantized, and names the range rule.
        engine: How it is carried out; onnxruntime on all cores of this machine by default.
        track: Shows progress.

    Returns:
        Tensor to statistic, and what they are of; `quantlab.calibration.save_statistics` keeps both.

    Raises:
        ModelError: The model cannot be used.
        DataError: The data cannot be used.
        OptionError: The recipe does not fit the model.
    """
    prepared = prepare_for(model, recipe)
    seen = observe(prepared, decide(prepared, recipe), batches, recipe, engine=engine, track=track)
    return Stored(statistics=seen, meta=origin(model, recipe))


def ranges_of(model: onnx.ModelProto, stored: Stored, recipe: Recipe = Recipe()) -> RangeTable:  # noqa: B008
    """Turn statistics into ranges by a recipe's range rule, without running the model.

    Args:
        model: The float model that they are of; it is not changed. A warning says where it is another one.
        stored: What `collect_statistics` returned, or `load_statistics` read.
        recipe: Names the range rule, and says which nodes are to be quantized: no more than when they were collected.

    Returns:
        The ranges of every tensor that the recipe gives a grid and whose range is not known otherwise.

    Raises:
        ModelError: The model cannot be used.
        DataError: The statistics lack a tensor, or one of them holds no finite value; the text names it.
        OptionError: The rule needs another kind of statistic, or the recipe does not fit the model.
    """
    check_origin("statistics", stored.meta, model)
    prepared = prepare_for(model, recipe)
    kept = {name: value for name, value in stored.meta.items() if name not in ("rule", "options")}
    meta = {**origin(model, recipe), **kept}
    return range_table(decide(prepared, recipe), stored.statistics, recipe, meta)


def calibrate_ranges(
    model: onnx.ModelProto,
    batches: Iterable[Batch],
    recipe: Recipe = Recipe(),  # noqa: B008  # a frozen value
    *,
    engine: Engine | None = None,
    track: Track = quiet,
) -> RangeTable:
    """Measure the ranges of a float model's tensors on samples, to be kept and used later.

    Args:
        model: A float model; it is not changed.
        batches: Input name to array, one mapping a sample; see `quantlab.data.batches`.
        recipe: Says which nodes are to be quantized, and names the range rule.
        engine: How it is carried out; onnxruntime on all cores of this machine by default.
        track: Shows progress.

    Returns:
        The ranges; `save_ranges` keeps them, `quantize(model, ranges=...)` uses them.

    Raises:
        ModelError: The model cannot be used.
        DataError: The data cannot be used.
        OptionError: The recipe does not fit the model.
    """
    return ranges_of(model, collect_statistics(model, batches, recipe, engine=engine, track=track), recipe)
