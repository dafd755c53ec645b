"""Suggest: which nodes to leave in float so that most of the error at the outputs goes away.

Sources are taken greedily, the largest share first, each with the nodes that have to stay in float so that nobody
rounds its tensor, until the noise that is left is small enough. How much is left after each step has been measured by
`attribute`, in the simulation.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from quantlab.debug.findings import Attribution, Source
from quantlab.errors import OptionError
from quantlab.plan.recipe_rule import RecipeRule, is_pattern

FEW = 4
"""Even in the smallest model so many nodes may be left in float."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Nodes to leave in float.

    Attributes:
        rules: One rule of a recipe for each source that goes away, with its nodes and the reason.
        left: Share of the noise that is left then, in the simulation.
    """

    rules: tuple[RecipeRule, ...]
    left: float

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes, for `nodes_to_exclude`; names that look like patterns are written as regular expressions."""
        return tuple(node for rule in self.rules for node in rule.nodes)

    @property
    def gain_db(self) -> float:
        """By how much the SQNR of the outputs rises in the simulation, in dB."""
        return -10 * math.log10(self.left) if self.left > 0 else math.inf

    def to_json(self) -> dict[str, Any]:
        """Return a recipe of these rules alone as plain JSON values, which `Recipe.from_json` reads.

        Returns:
            The fields that differ from a recipe's defaults; `quantlab quantize --exclude @FILE` takes such a file.
        """
        return {
            "rules": [{"nodes": list(rule.nodes), "quantize": False, "because": rule.because} for rule in self.rules]
        }


def suggest(attribution: Attribution, *, gain_db: float = 10.0, most: int | None = None) -> Suggestion:
    """Choose nodes to leave in float.

    Args:
        attribution: What `attribute` found; only sources that it has measured count.
        gain_db: By how much the SQNR of the outputs shall rise, in dB. The default takes nine tenths of the noise away.
        most: How many nodes may be left in float; None for a quarter of those that round anything, and at least four.

    Returns:
        As few of the largest sources as give the gain; where that cannot be had, as many as give most.

    Raises:
        OptionError: `gain_db` is not positive, or `most` is below 1.

    Example:
        >>> source = Source(tensor="x", part="rounding", node="conv", estimate=0.8, alone=0.9, relieved=0.9,
        ...                 advice="", nodes=("conv", "relu"), left=0.05)
        >>> found = Attribution(sqnr_db=10.0, simulated_db=10.0, sources=(source,), alone=0.9, interaction=0.1,
        ...                     requantization=0.0, samples=1)
        >>> suggest(found).nodes, round(suggest(found).gain_db, 3)
        (('conv', 'relu'), 13.01)
    """
    if not gain_db > 0:
        raise OptionError(f"gain_db must be above 0, got {gain_db}")
    if most is None:
        most = max(FEW, len({node for source in attribution.sources for node in source.nodes}) // 4)
    if most < 1:
        raise OptionError(f"most must be at least 1, got {most}")
    best, chosen, rules = Suggestion(rules=(), left=1.0), frozenset[str](), list[RecipeRule]()
    for source in attribution.sources:
        new = tuple(node for node in source.nodes if node not in chosen)
        if source.left is None or best.gain_db >= gain_db or len(chosen) + len(new) > most:
            break
        chosen |= frozenset(new)
        if new:
            rules.append(RecipeRule(nodes=tuple(map(_pattern, new)), quantize=False, because=_because(source)))
        if source.left < best.left:
            best = Suggestion(rules=tuple(rules), left=source.left)
    return best


def _because(source: Source) -> str:
    return f"{source.alone or 0.0:.0%} of the output error: {source.part}, tensor {source.tensor!r}"


def _pattern(name: str) -> str:
    return f"re:{re.escape(name)}" if is_pattern(name) else name
