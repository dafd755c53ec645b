"""A range rule turns a statistic into the closed range that a grid shall span; the table of rules holds them by name.

Adding a rule means adding a file to `quantlab/calibration/rules/`: a frozen, keyword-only dataclass whose fields are
its options, under `@calibrators.register("name")`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from quantlab.arrays import QuantSpec, Range
from quantlab.calibration.histogram import Histogram
from quantlab.calibration.statistic import Statistic
from quantlab.errors import DataError, OptionError, nearest
from quantlab.registry import Registry


class RangeRule(Protocol):
    """What every range rule can do. Its fields are its options, all of them plain JSON values.

    Laws:
        * The range is finite with `lo <= hi` and lies within the observed ends, or, with `symmetric=True`, within
          those of the absolute values.
        * Scaling the data by a power of two scales the range by the same.
        * NaN and infinities have no influence; whether to accept them is up to the caller, who finds their numbers in
          the statistic.
    """

    # What tells a dataclass, for `dataclasses.fields`.
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def empty(self) -> Statistic:
        """Return the statistic that the rule needs, with nothing in it yet."""

    def range(self, seen: Statistic, spec: QuantSpec) -> Range:
        """Return the range, with float64 ends of shape (), for a grid such as `spec`."""

    def explain(self, seen: Statistic, spec: QuantSpec) -> str:
        """Return one line that says how the range came about."""


@runtime_checkable
class TwoPassRule(RangeRule, Protocol):
    """A range rule that wants to know something of all data before it begins to count.

    The data is then read twice. Such a rule may serve single streams too, with the statistic that `empty` gives.
    """

    def first(self) -> Statistic:
        """Return the statistic of the first pass, with nothing in it yet."""

    def second(self, seen: Statistic) -> Statistic:
        """Return that of the second pass, with nothing in it yet, from what the first has seen."""


calibrators: Registry[type[RangeRule]] = Registry("range rule", "quantlab.calibration.rules")
"""Range rules by name."""


def calibrator(rule: str | RangeRule, options: Mapping[str, object] | None = None) -> RangeRule:
    """Return a range rule from its name and options.

    Args:
        rule: Registered name, or a rule that is ready and is handed back.
        options: Values for fields of the named rule; the others keep their defaults.

    Returns:
        The rule.

    Raises:
        OptionError: The name or an option is unknown, a value is impossible, or there are options for a rule that is
            ready.

    Example:
        >>> calibrator("percentile", {"percent": 99.9})
        PercentileRule(percent=99.9, tails='magnitude', max_bins=4096, symmetric=False, absolute=False)
    """
    given = dict(options or {})
    if not isinstance(rule, str):
        if given:
            raise OptionError(
                f"options {sorted(given)} were given for {rule!r}, which has its options already; "
                "give them with the name of a rule, or use dataclasses.replace"
            )
        return rule
    kind = calibrators[rule]
    allowed = [field.name for field in dataclasses.fields(kind)]
    for name in given:
        if name not in allowed:
            raise OptionError(
                f"range rule {rule!r} has no option {name!r}{nearest(str(name), allowed)} "
                f"(allowed: {', '.join(allowed) or 'none'})"
            )
    return kind(**given)


def require_flag(name: str, value: object) -> None:
    """Refuse an option that must be true or false and is neither.

    Args:
        name: The option.
        value: What was given for it.

    Raises:
        OptionError: It is no bool.
    """
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be true or false, got {value!r}")


def require_values(seen: Statistic) -> None:
    """Refuse a statistic that has seen no finite value.

    Args:
        seen: Any statistic.

    Raises:
        DataError: There is no finite value to take a range from.
    """
    if not seen.count:
        raise DataError(
            f"no finite value was seen ({seen.nan_count:,} NaN, {seen.inf_count:,} infinite), so there is no range; "
            "give calibration data that reaches this tensor, or set its range by hand"
        )


def require_histogram(seen: Statistic, rule: str, *, signed: bool = False) -> Histogram:
    """Return a statistic as the histogram that it must be for a rule.

    Args:
        seen: Any statistic.
        rule: Name of the rule, for the error text.
        signed: Whether the rule needs the signs of the values.

    Returns:
        The same statistic.

    Raises:
        OptionError: It is of another kind, or of absolute values where signs are needed.
        DataError: It has seen no finite value.
    """
    if not isinstance(seen, Histogram):
        raise OptionError(
            f"range rule {rule!r} needs a Histogram, got a {type(seen).__name__}; "
            "collect the statistic that the rule's empty() gives"
        )
    if signed and seen.absolute:
        raise OptionError(
            f"range rule {rule!r} needs the signs of the values, which a histogram of absolute values does not tell; "
            "collect the statistic that the rule's empty() gives"
        )
    require_values(seen)
    return seen


def within(lo: float, hi: float, seen: Statistic) -> Range:
    """Return the range `[lo, hi]` with both ends moved to the nearest point of the observed range.

    Args:
        lo: Lower end, possibly infinite.
        hi: Upper end, not below `lo`.
        seen: Statistic with at least one finite value.

    Returns:
        Float64 ends of shape (), within `[seen.lo, seen.hi]`.
    """
    # Adding 0.0 turns negative zero into zero.
    ends = np.clip(np.array([lo, hi]), seen.lo, seen.hi) + 0.0
    return Range(ends[0], ends[1])


def about_zero(values: Range, symmetric: bool) -> Range:
    """Return a range, or the least range around it that mirrors at zero.

    Args:
        values: Range of shape () or (C,).
        symmetric: Whether it shall mirror.

    Returns:
        `values`, or `[-m, m]` with m = max(|lo|, |hi|).

    Example:
        >>> about_zero(Range(np.float64(-1), np.float64(3)), True)
        Range(lo=array(-3.), hi=array(3.))
    """
    if not symmetric:
        return values
    largest = np.maximum(np.abs(values.lo), np.abs(values.hi))
    return Range(0.0 - largest, largest)


def provenance(how: str, chosen: Range, seen: Statistic) -> str:
    """Return the line that every rule ends its explanation with.

    Args:
        how: The rule's own words, such as `"minmax of 100 values"`.
        chosen: What the rule came to.
        seen: What it was given.

    Returns:
        One line: the words, the range, the observed range, and what was left out.
    """
    line = f"{how}: [{float(chosen.lo):.6g}, {float(chosen.hi):.6g}] of the observed [{seen.lo:.6g}, {seen.hi:.6g}]"
    left_out = [f"{n:,} {what}" for n, what in ((seen.nan_count, "NaN"), (seen.inf_count, "infinite")) if n]
    return f"{line}; {' and '.join(left_out)} left out" if left_out else line
