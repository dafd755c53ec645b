"""Ranges that are kept: made from statistics, of this model or another, and those that a plan needs."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import onnx

from quantlab.calibration import Histogram, RangeRule, RangeTable, Statistic, TwoPassRule, calibrator
from quantlab.errors import DataError, OptionError, QuantlabWarning, nearest
from quantlab.graph import GraphView
from quantlab.plan import Calibrated, QuantPlan, Recipe
from quantlab.workflow.checkpoint import model_hash
from quantlab.workflow.measure import calibrated

ORIGIN = "model"
"""Field of a file's meta with the hash of the float model that was measured."""

_SETTINGS = ("constant", "axis", "bins", "absolute")
"""Attributes of statistics that must be what a rule wants, or the rule would say what is not so."""


def origin(model: onnx.ModelProto, recipe: Recipe) -> dict[str, Any]:
    """Return what is kept beside ranges and statistics: hash of the model, range rule and its options.

    Args:
        model: The float model, before it is prepared.
        recipe: Names the range rule.
    """
    return {ORIGIN: model_hash(model), "rule": recipe.calibrate, "options": dict(recipe.calibrate_options)}


def check_origin(what: str, meta: Mapping[str, Any], model: onnx.ModelProto) -> None:
    """Warn where what was kept is of another model. Where no hash was kept with it, nobody knows.

    It is a warning and no error, because a model that was only exported again has another hash too.

    Args:
        what: `"ranges"` or `"statistics"`.
        meta: What was kept with them.
        model: The float model that they are to be used for, before it is prepared.
    """
    found = meta.get(ORIGIN)
    if found is not None and found != (here := model_hash(model)):
        warnings.warn(
            f"the {what} were measured on another model: its hash is {found}, this one's is {here}; "
            "calibrate again unless both compute the same",
            QuantlabWarning,
            stacklevel=3,
        )


def kept_ranges(table: RangeTable, plan: QuantPlan, view: GraphView) -> dict[str, Calibrated]:
    """Pick from a table what a plan would have to measure.

    A table may have more, as when fewer nodes are quantized than were calibrated. What the model does not have at all
    is worth a warning.

    Args:
        table: The ranges.
        plan: A plan without numbers.
        view: The prepared graph that it is for.

    Returns:
        Tensor to range, for every tensor of `plan.observed()`.

    Raises:
        DataError: The table lacks a tensor; the text names it and what is near.
    """
    wanted = plan.observed()
    _require("ranges", wanted, table.ranges)
    known = {*view.producers, *view.constants, *view.inputs}
    if foreign := [name for name in table.ranges if name not in known]:
        warnings.warn(
            f"{len(foreign)} of {len(table.ranges)} ranges have no effect, since the model has no such tensor; "
            f"{_first(foreign, known)}",
            QuantlabWarning,
            stacklevel=3,
        )
    return {
        name: Calibrated(values=table.ranges[name], source=table.sources.get(name, "range given for the tensor"))
        for name in wanted
    }


def range_table(plan: QuantPlan, seen: Mapping[str, Statistic], recipe: Recipe, meta: Mapping[str, Any]) -> RangeTable:
    """Turn statistics into ranges by a recipe's rule, for every tensor that a plan would have to measure.

    Statistics may have been collected for another rule: any of them tells the ends, and a histogram with more bins
    than the rule wants becomes the one that it would have collected.

    Args:
        plan: A plan without numbers.
        seen: Tensor to statistic.
        recipe: Names the range rule.
        meta: What to keep beside the ranges.

    Returns:
        The ranges, in the types of the tensors, and the rule's words.

    Raises:
        DataError: The statistics lack a tensor, or one of them holds no finite value; the text names it.
        OptionError: The rule needs another kind of statistic.
    """
    wanted = plan.observed()
    _require("statistics", wanted, seen)
    rule = calibrator(recipe.calibrate, recipe.calibrate_options)
    suited = {name: _suited(name, seen[name], _wanted(rule, seen[name]), recipe.calibrate) for name in wanted}
    _note_coarse(suited, rule, recipe.calibrate)
    try:
        found = calibrated(plan, rule, suited)
    except OptionError as error:
        raise OptionError(f"the statistics were collected for another range rule: {error}") from error
    types = {tensor.range_of or name: tensor.dtype for name, tensor in plan.tensors.items()}
    return RangeTable(
        ranges={name: one.values.astype(types[name]) for name, one in found.items()},
        sources={name: one.source for name, one in found.items()},
        meta=dict(meta),
    )


def _wanted(rule: RangeRule, seen: Statistic) -> Statistic:
    """Return what a rule would have collected, empty; of a rule that reads the data twice, in one pass or in two."""
    if isinstance(rule, TwoPassRule):
        second = rule.second(rule.first())
        if type(seen) is type(second):
            return second
    return rule.empty()


def _suited(name: str, seen: Statistic, wanted: Statistic, rule: str) -> Statistic:
    """Return a statistic in the form that a rule wants; whether it is of the right kind, the rule itself will say."""
    if isinstance(seen, Histogram):
        room = wanted.max_bins if isinstance(wanted, Histogram) else seen.max_bins
        return seen.coarsened(room) if room < seen.max_bins else seen
    for setting in _SETTINGS:
        have, need = getattr(seen, setting, None), getattr(wanted, setting, None)
        if have is not None and need is not None and have != need:
            raise OptionError(
                f"the statistic of tensor {name!r} was collected with {setting}={have}, and range rule {rule!r} needs "
                f"{setting}={need}: collect statistics with that rule and option"
            )
    return seen


def _note_coarse(suited: Mapping[str, Statistic], rule: RangeRule, name: str) -> None:
    wanted = rule.empty()
    have = [seen.max_bins for seen in suited.values() if isinstance(seen, Histogram)]
    if isinstance(wanted, Histogram) and have and min(have) < wanted.max_bins:
        warnings.warn(
            f"the statistics are histograms of at most {min(have):,} bins, and range rule {name!r} would collect "
            f"{wanted.max_bins:,}: its ranges may differ a little from those it finds on the data",
            QuantlabWarning,
            stacklevel=3,
        )


def _require(what: str, wanted: list[str], given: Collection[str]) -> None:
    if missing := [name for name in wanted if name not in given]:
        raise DataError(
            f"the {what} lack {len(missing)} of {len(wanted)} tensors: calibrate with the options that are used here, "
            f"or leave the nodes around these tensors in float; {_first(missing, given)}"
        )


def _first(names: list[str], known: Collection[str]) -> str:
    return f"the first is {names[0]!r}{nearest(names[0], known)}"
