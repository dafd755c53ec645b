"""A Recipe says what shall be quantized and how, before any model is seen.

It is a set of defaults and an ordered list of rules by operator type or node name; for each node the first rule that
matches wins. A recipe is a value, and plain JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from heapq import merge
from typing import Any, Literal, TypeAlias, get_args

import onnx

from quantlab.arrays import INT8, UINT8, DType, QuantSpec, dtype
from quantlab.errors import OptionError, nearest

NonFinite: TypeAlias = Literal["refuse-nan", "refuse", "count"]
"""What becomes of NaN and infinities in activations while ranges are measured."""

ACTIVATION = QuantSpec(dtype=UINT8)
WEIGHT = QuantSpec(dtype=INT8, symmetric=True, narrow_range=True)


def activation_spec(kind: str | DType, *, symmetric: bool = False) -> QuantSpec:
    """Return the grid of activations of a type: asymmetric unless asked for, a symmetric signed one without -2^(b-1).

    Args:
        kind: Type or its name.
        symmetric: Whether the grid is centred on zero.

    Returns:
        A specification per tensor.
    """
    row = dtype(kind)
    narrow = symmetric and row.signed and row.bits > 4 and not row.is_float
    return QuantSpec(dtype=row, symmetric=symmetric or row.is_float, narrow_range=narrow)


def weight_spec(kind: str | DType, *, symmetric: bool | None = None, reduce_range: bool = False) -> QuantSpec:
    """Return the grid of weights of a type, as onnxruntime.quantization chooses it.

    Args:
        kind: Type or its name.
        symmetric: Whether the grid is centred on zero; None means for signed types only.
        reduce_range: Whether to give one bit away.

    Returns:
        A specification per tensor; symmetric 8- and 16-bit signed grids leave out their most negative value.
    """
    row = dtype(kind)
    centred = row.signed if symmetric is None else symmetric
    narrow = centred and row.signed and row.bits > 4 and not reduce_range and not row.is_float
    return QuantSpec(dtype=row, symmetric=centred, narrow_range=narrow, reduce_range=reduce_range)


@dataclass(frozen=True, kw_only=True)
class RecipeRule:
    """One rule: which nodes, and what holds for them instead of the recipe's defaults.

    Attributes:
        ops: Operator types; empty for any.
        nodes: Node names or glob patterns (`*`, `?`, `[...]`); empty for any.
        quantize: False leaves the nodes in float.
        activation: Grid of activations, or None for the recipe's.
        weight: Grid of weights, or None for the recipe's.
        per_channel: Whether weights get a scale a channel, or None for the recipe's choice.
        because: Words for `explain`; made up from the patterns where empty.
    """

    ops: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    quantize: bool = True
    activation: QuantSpec | None = None
    weight: QuantSpec | None = None
    per_channel: bool | None = None
    because: str = ""

    def matching(self, node: onnx.NodeProto) -> str | None:
        """Return the pattern by which the rule matches a node (`"*"` for a rule without patterns), or None."""
        if self.ops and node.op_type not in self.ops:
            return None
        if not self.nodes:
            return "*"
        if node.name in self.names:
            return node.name
        return next((pattern for pattern in self.globs if fnmatchcase(node.name, pattern)), None)

    @cached_property
    def names(self) -> frozenset[str]:
        """Those of `nodes` that are plain names; there may be thousands, so they are looked up and not compared."""
        return frozenset(pattern for pattern in self.nodes if not _is_glob(pattern))

    @cached_property
    def globs(self) -> tuple[str, ...]:
        """Those of `nodes` that are patterns."""
        return tuple(pattern for pattern in self.nodes if _is_glob(pattern))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a recipe comes down to for one node.

    Attributes:
        quantize: Whether the node may be quantized.
        listed: Whether its operator type was asked for by name.
        activation: Grid of its activations.
        weight: Grid of its weights, per tensor.
        per_channel: Whether weights get a scale a channel where the operator knows how.
        bias: Whether biases become int32.
        reason: Why `quantize` is False, or which rule applies.
    """

    quantize: bool
    listed: bool
    activation: QuantSpec
    weight: QuantSpec
    per_channel: bool
    bias: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Defaults and ordered rules.

    Attributes:
        activation: Grid of activations.
        weight: Grid of weights; its axis is chosen by the operator.
        per_channel: Whether weights get a scale a channel.
        bias: Whether constant biases become int32 with scale `scale_x * scale_w`.
        calibrate: Name of the range rule.
        calibrate_options: Options of the range rule.
        min_real_range: Least width of any range, in the tensor's unit, or None.
        nonfinite: What becomes of NaN and infinities in activations. `"refuse-nan"`: NaN is refused with the tensor and
            the sample, infinities are counted and left out of the range. `"refuse"`: both are refused. `"count"`: both
            are counted and left out; a warning names the tensors that hold most of them.
        op_types: Operator types to quantize, or None for all that gain from it.
        rules: First match wins.
        subgraphs: Whether the bodies of If, Loop and Scan are quantized too.

    Raises:
        OptionError: `nonfinite` is unknown, or a grid is of a type that no model is written with yet.
    """

    activation: QuantSpec = ACTIVATION
    weight: QuantSpec = WEIGHT
    per_channel: bool = False
    bias: bool = True
    calibrate: str = "minmax"
    calibrate_options: Mapping[str, Any] = field(default_factory=dict)
    min_real_range: float | None = None
    nonfinite: NonFinite = "refuse-nan"
    op_types: tuple[str, ...] | None = None
    rules: tuple[RecipeRule, ...] = ()
    subgraphs: bool = False

    def __post_init__(self) -> None:
        if self.nonfinite not in get_args(NonFinite):
            allowed = get_args(NonFinite)
            raise OptionError(
                f"nonfinite {self.nonfinite!r} is unknown{nearest(str(self.nonfinite), allowed)} "
                f"(allowed: {', '.join(allowed)})"
            )
        specs = [self.activation, self.weight]
        specs += [spec for rule in self.rules for spec in (rule.activation, rule.weight) if spec is not None]
        if kind := next((spec.dtype for spec in specs if spec.dtype.is_float), None):
            raise OptionError(
                f"models with {kind} are not written yet: take an integer type, or round arrays with quantlab.arrays"
            )

    def settings(self, node: onnx.NodeProto) -> Settings:
        """Return what holds for one node."""
        listed = self.op_types is not None and node.op_type in self.op_types
        named, others = self._rules_by_name
        for index in merge(named.get(node.name, ()), others):
            rule = self.rules[index]
            if (pattern := rule.matching(node)) is not None:
                return self._settings(rule, listed or node.op_type in rule.ops, rule.because or f"rule {pattern!r}")
        if self.op_types is not None and not listed:
            return self._settings(RecipeRule(quantize=False), False, f"operator {node.op_type} is not among op_types")
        return self._settings(RecipeRule(), listed, "recipe's defaults")

    @cached_property
    def _rules_by_name(self) -> tuple[dict[str, list[int]], list[int]]:
        """Positions of the rules that are for plain names, by name, and those of all others."""
        named: dict[str, list[int]] = {}
        others = []
        for index, rule in enumerate(self.rules):
            if rule.globs or not rule.nodes:
                others.append(index)
                continue
            for name in rule.names:
                named.setdefault(name, []).append(index)
        return named, others

    def _settings(self, rule: RecipeRule, listed: bool, reason: str) -> Settings:
        return Settings(
            quantize=rule.quantize,
            listed=listed,
            activation=rule.activation or self.activation,
            weight=rule.weight or self.weight,
            per_channel=self.per_channel if rule.per_channel is None else rule.per_channel,
            bias=self.bias,
            reason=reason,
        )

    def check(self, nodes: Iterable[onnx.NodeProto], known_ops: Iterable[str], gone: Iterable[str] = ()) -> list[str]:
        """Compare the recipe with the nodes of a model.

        Args:
            nodes: The model's nodes.
            known_ops: Operator types that have a rule.
            gone: Names of nodes that preparing the model has folded away; naming them is no mistake.

        Returns:
            One line for each pattern that matched nothing.

        Raises:
            OptionError: A rule names a node or operator that does not exist; the text gives the nearest.
        """
        nodes = list(nodes)
        names, gone = {node.name for node in nodes}, set(gone)
        types = {node.op_type for node in nodes} | set(known_ops)
        for op in [*(self.op_types or ()), *(op for rule in self.rules for op in rule.ops)]:
            if op not in types:
                raise OptionError(f"unknown operator type {op!r}{nearest(op, types)}")
        unused = []
        for pattern in (pattern for rule in self.rules for pattern in rule.nodes):
            if _names_any(pattern, names):
                continue
            if _names_any(pattern, gone):
                unused.append(f"{pattern!r} names nodes that preparing the model has folded into their neighbours")
            elif _is_glob(pattern):
                unused.append(f"pattern {pattern!r} matches no node")
            else:
                raise OptionError(f"no node is called {pattern!r}{nearest(pattern, names)}")
        return unused

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values."""
        plain = asdict(self) | {"activation": self.activation.to_json(), "weight": self.weight.to_json()}
        plain["calibrate_options"] = dict(self.calibrate_options)
        plain["rules"] = [_rule_to_json(rule) for rule in self.rules]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Recipe:
        """Read what `to_json` wrote; fields left out keep their defaults.

        Raises:
            OptionError: A field is unknown; the text gives the nearest.
        """
        for name in plain:
            if name not in cls.__dataclass_fields__:
                raise OptionError(f"unknown recipe field {name!r}{nearest(name, cls.__dataclass_fields__)}")
        recipe = cls(**{name: value for name, value in plain.items() if name not in _NESTED})
        if recipe.op_types is not None:
            recipe = replace(recipe, op_types=tuple(recipe.op_types))
        return replace(
            recipe,
            activation=QuantSpec.from_json(plain["activation"]) if "activation" in plain else ACTIVATION,
            weight=QuantSpec.from_json(plain["weight"]) if "weight" in plain else WEIGHT,
            rules=tuple(_rule_from_json(rule) for rule in plain.get("rules", ())),
        )


def _is_glob(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def _names_any(pattern: str, names: set[str]) -> bool:
    return pattern in names or (_is_glob(pattern) and any(fnmatchcase(name, pattern) for name in names))


_NESTED = ("activation", "weight", "rules")


def _rule_to_json(rule: RecipeRule) -> dict[str, Any]:
    values = {name: getattr(rule, name) for name in RecipeRule.__dataclass_fields__}
    values |= {name: spec.to_json() for name in ("activation", "weight") if (spec := values[name]) is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _rule_from_json(plain: Mapping[str, Any]) -> RecipeRule:
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
