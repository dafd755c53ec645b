"""A Recipe says what shall be quantized and how, before any model is seen.

It is a set of defaults and an ordered list of rules by operator type or node name; for each node the first rule that
matches wins. A recipe is a value, and plain JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from heapq import merge
from typing import Any, Literal, TypeAlias, get_args

import onnx

from quantlab.arrays import INT8, INT32, UINT8, DType, QuantSpec, dtype
from quantlab.errors import OptionError, nearest
from quantlab.plan.options import Layout, Numerics, options_from_json, options_to_json
from quantlab.plan.override_json import overrides_to_json, parse_overrides
from quantlab.plan.overrides import Overrides
from quantlab.plan.recipe_rule import RecipeRule, is_pattern, names_any, rule_from_json, rule_to_json

NonFinite: TypeAlias = Literal["refuse-nan", "refuse", "count"]
"""What becomes of NaN and infinities in activations while ranges are measured."""

Format: TypeAlias = Literal["QDQ", "QOperator"]
"""How a quantized model is written: pairs of QuantizeLinear and DequantizeLinear, or operators on integers."""

EIGHT_BITS = ("int8", "uint8")
"""Names of the types that operators on integers take."""

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
class Settings:
    """What a recipe comes down to for one node.

    Attributes:
        quantize: Whether the node may be quantized.
        listed: Whether its operator type was asked for by name.
        activation: Grid of its activations.
        weight: Grid of its weights, per tensor.
        per_channel: Whether weights get a scale a channel where the operator knows how.
        bias: Whether biases become int32.
        force_movement: Whether operators that only move values are quantized even where their input has no grid.
        matmul_axis: Channel axis of MatMul's constants, or None for the columns of a single matrix on the right.
        block_size: How many neighbours in a column of a single matrix share a scale, or None.
        overrides: What single tensors get instead.
        reason: Why `quantize` is False, or which rule applies.
    """

    quantize: bool
    listed: bool
    activation: QuantSpec
    weight: QuantSpec
    per_channel: bool
    bias: bool
    reason: str
    force_movement: bool = False
    matmul_axis: int | None = None
    block_size: int | None = None
    overrides: Overrides = field(default_factory=dict)

    def activation_of(self, tensor: str) -> QuantSpec:
        """Return the grid of an activation, its override counted."""
        override = self.overrides.get(tensor)
        return self.activation if override is None else override.grid.spec(self.activation)


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
        keep_clipping: Whether Relu and Clip stay even where the grid behind them does their work.
        force_movement: Whether operators that only move values (Reshape, MaxPool, ...) are quantized even where nobody
            else asks for a grid of their input.
        float_outputs: Operator types whose outputs get no grid on their account; a quantized reader may still ask.
        matmul_axis: Channel axis of MatMul's constants where `per_channel` holds, counted from the back if negative;
            None for the columns of a single matrix on the right, the only axis that integer kernels take.
        block_size: How many neighbours share a scale along the axis that Gemm and MatMul sum over, in weights that are
            single matrices, whatever `per_channel` says; None for no blocks. A Gemm's bias stays float then.
        layout: How grids are written.
        numerics: How numbers are computed.
        overrides: Tensor to what it gets instead of all this; see `quantlab.plan.parse_overrides`.
        format: `"QDQ"`, which runs wherever ONNX does, or `"QOperator"`, operators on integers as onnxruntime has them.
        weights_only: Whether constants alone get grids, those that nodes multiply by: activations and biases stay
            float. It is the way to weights of float8 beside activations of float.
        optimize: Whether the float graph is folded and fused first, see `quantlab.graph.prepare.prepare`.

    Raises:
        OptionError: `nonfinite` or `format` is unknown, float8 is to be written by operators that do not take it,
            `matmul_axis` is no integer, `numerics.restricted` has no uint8 grid to act on, or a grid or layout has no
            form in QOperator.
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
    keep_clipping: bool = False
    force_movement: bool = False
    float_outputs: tuple[str, ...] = ()
    matmul_axis: int | None = None
    block_size: int | None = None
    layout: Layout = field(default_factory=Layout)
    numerics: Numerics = field(default_factory=Numerics)
    overrides: Overrides = field(default_factory=dict)
    format: Format = "QDQ"
    weights_only: bool = False
    optimize: bool = True

    def __post_init__(self) -> None:
        if self.nonfinite not in get_args(NonFinite):
            allowed = get_args(NonFinite)
            raise OptionError(
                f"nonfinite {self.nonfinite!r} is unknown{nearest(str(self.nonfinite), allowed)} "
                f"(allowed: {', '.join(allowed)})"
            )
        specs = [self.activation, self.weight]
        specs += [spec for rule in self.rules for spec in (rule.activation, rule.weight) if spec is not None]
        if any(spec.dtype == INT32 for spec in specs):
            raise OptionError("int32 is for biases, which get it by themselves: take a type of 4, 8 or 16 bits")
        self._check_options()
        self._check_format(specs)

    def _check_format(self, specs: Iterable[QuantSpec]) -> None:
        if self.format not in get_args(Format):
            allowed = get_args(Format)
            raise OptionError(
                f"format {self.format!r} is unknown{nearest(str(self.format), allowed)} (allowed: {', '.join(allowed)})"
            )
        if self.format == "QDQ":
            return
        if wide := next((spec.dtype for spec in specs if spec.dtype.name not in EIGHT_BITS), None):
            raise OptionError(
                f"format QOperator has no operators on {wide}: take int8 or uint8 for activations and weights, "
                "or format QDQ"
            )
        if replace(self.layout, integer_inputs=False, integer_outputs=False) != Layout():
            raise OptionError(
                "layout says how pairs of QuantizeLinear and DequantizeLinear are written, save at inputs and outputs: "
                "take format QDQ"
            )
        if self.weights_only:
            raise OptionError("operators on integers take integers on every side: leave weights_only out, or take QDQ")
        if self.block_size is not None:
            raise OptionError("operators on integers take no blocks: leave block_size out, or take format QDQ")
        if not self.bias:
            raise OptionError(
                "bias=False leaves biases in float, and QLinearConv and QGemm take biases as integers only: "
                "take format QDQ"
            )
        for name, override in self.overrides.items():
            if override.grid.dtype is not None and override.grid.dtype.name not in EIGHT_BITS:
                raise OptionError(
                    f"override of tensor {name!r}: format QOperator has no operators on {override.grid.dtype}: "
                    "take int8 or uint8, or format QDQ"
                )
            if override.convert is not None:
                raise OptionError(f"override of tensor {name!r}: format QOperator knows no convert: take format QDQ")

    def _check_options(self) -> None:
        converted = [name for name, override in self.overrides.items() if override.convert is not None]
        if converted and self.layout.dedicated_pairs:
            raise OptionError(
                f"override of tensor {converted[0]!r}: convert and dedicated_pairs both say which pair a node reads: "
                "keep one of them"
            )
        if isinstance(self.matmul_axis, bool) or not isinstance(self.matmul_axis, int | None):
            raise OptionError(f"matmul_axis must be an integer or none, got {self.matmul_axis!r}")
        size = self.block_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise OptionError(f"block_size must be an integer of at least 1, or none, got {size!r}")
        grids = [self.activation, *(rule.activation for rule in self.rules if rule.activation is not None)]
        weights = [self.weight, *(rule.weight for rule in self.rules if rule.weight is not None)]
        if self.layout.contrib_ops and (kind := next((s.dtype for s in (*grids, *weights) if s.dtype.is_float), None)):
            raise OptionError(
                f"QuantizeLinear and DequantizeLinear of domain com.microsoft take no {kind}: leave contrib_ops out"
            )
        if self.numerics.restricted and not any(spec.dtype == UINT8 and not spec.symmetric for spec in grids):
            raise OptionError(
                f"restricted zero points are for asymmetric uint8 activations, got {self.activation}: "
                "make the activations uint8 or leave the option out"
            )

    @cached_property
    def has_float8(self) -> bool:
        """Whether any grid is of a float8 type."""
        specs = [self.activation, self.weight]
        specs += [spec for rule in self.rules for spec in (rule.activation, rule.weight) if spec is not None]
        return any(spec.dtype.is_float for spec in specs)

    def settings(self, node: onnx.NodeProto) -> Settings:
        """Return what holds for one node."""
        listed = self.op_types is not None and node.op_type in self.op_types
        named, others = self._rules_by_name
        for index in merge(named.get(node.name, ()), others) if self.rules else ():
            rule = self.rules[index]
            if (pattern := rule.matching(node)) is not None:
                return self._settings(rule, listed or node.op_type in rule.ops, rule.because or f"rule {pattern!r}")
        if self.op_types is not None and not listed:
            return self._settings(RecipeRule(quantize=False), False, f"operator {node.op_type} is not among op_types")
        return replace(self._defaults, listed=True) if listed else self._defaults

    @cached_property
    def _defaults(self) -> Settings:
        """What holds where no rule matches: nearly all nodes of a large graph share it."""
        return self._settings(RecipeRule(), False, "recipe's defaults")

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
        activation, weight = rule.activation or self.activation, rule.weight or self.weight
        return Settings(
            quantize=rule.quantize,
            listed=listed,
            activation=activation,
            weight=weight,
            per_channel=self.per_channel if rule.per_channel is None else rule.per_channel,
            # Sums of float8 products are floats, and so is what is added to them.
            bias=self.bias and not (activation.dtype.is_float or weight.dtype.is_float),
            reason=reason,
            force_movement=self.force_movement,
            matmul_axis=self.matmul_axis,
            block_size=self.block_size,
            overrides=self.overrides,
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
        for op in [*(self.op_types or ()), *(op for rule in self.rules for op in rule.ops), *self.float_outputs]:
            if op not in types:
                raise OptionError(f"unknown operator type {op!r}{nearest(op, types)}")
        unused = []
        for pattern in (pattern for rule in self.rules for pattern in rule.nodes):
            if names_any(pattern, names):
                continue
            if names_any(pattern, gone):
                unused.append(f"{pattern!r} names nodes that preparing the model has folded into their neighbours")
            elif is_pattern(pattern):
                unused.append(f"pattern {pattern!r} matches no node")
            else:
                raise OptionError(f"no node is called {pattern!r}{nearest(pattern, names)}")
        self._check_contradictions({node.name: node.op_type for node in nodes})
        return unused

    def _check_contradictions(self, ops: Mapping[str, str]) -> None:
        """Refuse rules that name a node and, beside it, operators that are not the node's."""
        for rule in self.rules:
            for name in rule.names if rule.ops else ():
                if (op := ops.get(name)) is not None and op not in rule.ops:
                    raise OptionError(
                        f"node {name!r} is chosen by name, and it is a {op}, while only {', '.join(rule.ops)} "
                        "are chosen by operator type: add the type, or leave the name out"
                    )

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values."""
        plain = asdict(self) | {"activation": self.activation.to_json(), "weight": self.weight.to_json()}
        plain["calibrate_options"] = dict(self.calibrate_options)
        plain["rules"] = [rule_to_json(rule) for rule in self.rules]
        plain |= {"layout": options_to_json(self.layout), "numerics": options_to_json(self.numerics)}
        plain["overrides"] = overrides_to_json(self.overrides)
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
            float_outputs=tuple(recipe.float_outputs),
            layout=options_from_json(Layout, plain.get("layout", {})),
            numerics=options_from_json(Numerics, plain.get("numerics", {})),
            overrides=parse_overrides(plain.get("overrides")),
            activation=QuantSpec.from_json(plain["activation"]) if "activation" in plain else ACTIVATION,
            weight=QuantSpec.from_json(plain["weight"]) if "weight" in plain else WEIGHT,
            rules=tuple(rule_from_json(rule) for rule in plain.get("rules", ())),
        )


_NESTED = ("activation", "weight", "rules", "layout", "numerics", "overrides")
