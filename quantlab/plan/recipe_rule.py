"""A RecipeRule says of some nodes, chosen by operator type or name, what holds for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import onnx

from quantlab.arrays import QuantSpec
from quantlab.errors import OptionError, nearest


@dataclass(frozen=True, kw_only=True)
class RecipeRule:
    """One rule: which nodes, and what holds for them instead of the recipe's defaults.

    Attributes:
        ops: Operator types; empty for any.
        nodes: Node names, glob patterns (`*`, `?`, `[...]`), or regular expressions that match a whole name, as
            `re:` and the expression; empty for any.
        quantize: False leaves the nodes in float.
        activation: Grid of activations, or None for the recipe's.
        weight: Grid of weights, or None for the recipe's.
        per_channel: Whether weights get a scale a channel, or None for the recipe's choice.
        because: Words for `explain`; made up from the patterns where empty.

    Raises:
        OptionError: A pattern is no regular expression.
    """

    ops: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    quantize: bool = True
    activation: QuantSpec | None = None
    weight: QuantSpec | None = None
    per_channel: bool | None = None
    because: str = ""

    def __post_init__(self) -> None:
        for pattern in self.nodes:
            try:
                re.compile(pattern.removeprefix(_REGEX) if pattern.startswith(_REGEX) else "")
            except re.error as error:
                raise OptionError(f"{pattern!r} is no regular expression: {error}") from error

    def matching(self, node: onnx.NodeProto) -> str | None:
        """Return the pattern by which the rule matches a node (`"*"` for a rule without patterns), or None."""
        if self.ops and node.op_type not in self.ops:
            return None
        if not self.nodes:
            return "*"
        if node.name in self.names:
            return node.name
        return next((pattern for pattern in self.globs if _matches(pattern, node.name)), None)

    @cached_property
    def names(self) -> frozenset[str]:
        """Those of `nodes` that are plain names; there may be thousands, so they are looked up and not compared."""
        return frozenset(pattern for pattern in self.nodes if not is_pattern(pattern))

    @cached_property
    def globs(self) -> tuple[str, ...]:
        """Those of `nodes` that are patterns."""
        return tuple(pattern for pattern in self.nodes if is_pattern(pattern))


_REGEX = "re:"


def is_pattern(pattern: str) -> bool:
    """Say whether a text is a pattern, and not the name of a node."""
    return pattern.startswith(_REGEX) or any(character in pattern for character in "*?[")


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith(_REGEX):
        return fnmatchcase(name, pattern)
    return re.fullmatch(pattern.removeprefix(_REGEX), name) is not None


def names_any(pattern: str, names: set[str]) -> bool:
    """Say whether a name or pattern is that of any node."""
    return pattern in names or (is_pattern(pattern) and any(_matches(pattern, name) for name in names))


def rule_to_json(rule: RecipeRule) -> dict[str, Any]:
    """Return a rule as plain JSON values."""
    values = {name: getattr(rule, name) for name in RecipeRule.__dataclass_fields__}
    values |= {name: spec.to_json() for name in ("activation", "weight") if (spec := values[name]) is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def rule_from_json(plain: Mapping[str, Any]) -> RecipeRule:
    """Read what `rule_to_json` wrote.

    Raises:
        OptionError: A field is unknown; the text gives the nearest.
    """
    values = dict(plain)
    for name in values:
        if name not in RecipeRule.__dataclass_fields__:
            raise OptionError(f"unknown field {name!r} in a rule{nearest(name, RecipeRule.__dataclass_fields__)}")
    for name in ("activation", "weight"):
        if values.get(name) is not None:
            values[name] = QuantSpec.from_json(values[name])
    for name in ("ops", "nodes"):
        values[name] = tuple(values.get(name, ()))
    return RecipeRule(**values)
