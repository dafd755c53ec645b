"""Statistics that several trials need are collected once, for all of them in one run of the model over the data.

Trials share a run where they have the same prepared model, the same calibration data, and a statistic that serves the
rules of all: one histogram serves every rule that reads histograms, and anything tells the ends that min-max needs.
Each rule then turns the statistics of its own tensors into ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from quantlab.backend import Batch
from quantlab.calibration import Histogram, MinMax, RangeRule, RangeTable, Statistic, TwoPassRule, calibrator
from quantlab.plan import QuantPlan, Recipe
from quantlab.progress import Track, quiet
from quantlab.workflow.checkpoint import model_hash
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import Prepared, observe
from quantlab.workflow.ranges import range_table

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """What one trial wants to know of its tensors.

    Attributes:
        name: The trial.
        prepared: Its float model, prepared.
        plan: Its plan, without numbers.
        recipe: Names its range rule.
        data: Hash of its calibration data; equal for equal data.
    """

    name: str
    prepared: Prepared
    plan: QuantPlan
    recipe: Recipe
    data: str

    @property
    def rule(self) -> RangeRule:
        """Its range rule."""
        return calibrator(self.recipe.calibrate, self.recipe.calibrate_options)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """A collection of statistics for several trials.

    Attributes:
        members: The trials; the first has the rule that the statistic is collected for.
        reads: How often the data is read: twice for a rule that looks at all of it before it counts.
    """

    members: tuple[Wanted, ...]
    reads: int

    def plan(self) -> QuantPlan:
        """Return a plan that asks for every tensor that any of the trials wants measured."""
        measured = {
            name: tensor for one in self.members for name, tensor in one.plan.tensors.items() if tensor.measured
        }
        return replace(self.members[0].plan, tensors=measured)

    def collect(
        self, batches: Iterable[Batch], *, engine: Engine | None = None, track: Track = quiet
    ) -> dict[str, RangeTable]:
        """Read the data, and turn it into the ranges of each trial.

        Args:
            batches: The calibration data.
            engine: How it is carried out.
            track: Shows progress.

        Returns:
            Name of the trial to its ranges.

        Raises:
            DataError: The data cannot be used.
            OptionError: A range rule or one of its options does not exist.
        """
        first = self.members[0]
        seen = observe(first.prepared, self.plan(), batches, first.recipe, engine=engine, track=track)
        return {one.name: range_table(one.plan, seen, one.recipe, {}) for one in self.members}


def passes(wanted: Sequence[Wanted]) -> tuple[Pass, ...]:
    """Find the least number of collections that serve all trials.

    Args:
        wanted: What the trials want; those that have nothing to measure are left out.

    Returns:
        The collections, in the order of their first trials.
    """
    wanted = [one for one in wanted if one.plan.observed()]
    # Models are told apart by content, for two recipes may prepare the same graph; each is hashed once.
    models = {id(one.prepared): one.prepared.model for one in wanted}
    hashes = {place: model_hash(model) for place, model in models.items()}
    groups = _grouped(wanted, lambda one: (hashes[id(one.prepared)], one.data, one.recipe.nonfinite))
    found = [Pass(members=tuple(part), reads=_reads(part[0])) for group in groups for part in _by_statistic(group)]
    order = {one.name: place for place, one in enumerate(wanted)}
    return tuple(sorted(found, key=lambda one: min(order[member.name] for member in one.members)))


def _reads(one: Wanted) -> int:
    return 2 if isinstance(one.rule, TwoPassRule) else 1


def _by_statistic(group: Sequence[Wanted]) -> list[list[Wanted]]:
    """Divide the trials of one prepared model by the statistic that serves them, the one to collect first."""
    kinds = _grouped(group, lambda one: _kind(one.rule))
    parts = [sorted(kind, key=lambda one: -_bins(one.rule)) for kind in kinds]
    plain = next((part for part in parts if _is_plain(part[0].rule)), None)
    host = next((part for part in parts if part is not plain and _tells_ends(part[0].rule)), None)
    if plain is not None and host is not None:
        host.extend(plain)
        parts.remove(plain)
    return parts


def _kind(rule: RangeRule) -> str:
    """Return what tells statistics apart that do not serve the same rules; the number of bins does not."""
    if isinstance(rule, TwoPassRule):
        return repr((rule.first(), rule.second(rule.first())))
    empty = rule.empty()
    return f"{empty.kind} {empty.absolute}" if isinstance(empty, Histogram) else repr(empty)


def _bins(rule: RangeRule) -> int:
    empty = rule.empty()
    return empty.max_bins if isinstance(empty, Histogram) else 0


def _is_plain(rule: RangeRule) -> bool:
    return not isinstance(rule, TwoPassRule) and type(rule.empty()) is MinMax


def _tells_ends(rule: RangeRule) -> bool:
    """Say whether the statistic of a rule tells the ends of signed values, tensor by tensor."""
    empty: Statistic = rule.empty()
    return not isinstance(rule, TwoPassRule) and not getattr(empty, "absolute", False) and _axis(empty) is None


def _axis(empty: Statistic) -> object:
    return getattr(empty, "axis", None)


def _grouped(items: Iterable[T], key: Callable[[T], object]) -> list[list[T]]:
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
