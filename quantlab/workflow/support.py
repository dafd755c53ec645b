"""What is quantized in which format, with which types and granularities, asked of the rules themselves.

Nothing of it is written down by hand: for each operator of the registries a tiny graph is planned with every
combination of types and granularity (`quantlab.workflow.probes`), and the plan says what becomes of the operator. A
rule that somebody else registers shows up as those of quantlab do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from quantlab.arrays import QuantSpec
from quantlab.errors import OptionError, nearest
from quantlab.plan import Refuse, TensorPlan, op_rules
from quantlab.plan.forms import integer_needs
from quantlab.plan.recipe import Format
from quantlab.workflow.probes import GRANULARITIES, TYPES, Asked, Granularity, Planned, Probe, probes

Outcome: TypeAlias = Literal["quantized", "absorbed", "on request", "float"]
"""What becomes of an operator; on request means where its type is listed in `op_types`."""

Output: TypeAlias = Literal["own", "shared", "fixed", "none"]
"""Grid of an output: measured for it, that of the input, known without data, or none."""


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Types that work together, by their names.

    Attributes:
        activation: Type of the activations.
        weight: Type that is asked of the weights, or None where the operator has none.
        granularity: Of the weight's scales, or None likewise.
        stored: Type that the weight gets, which may be another one than was asked.
    """

    activation: str
    weight: str | None = None
    granularity: Granularity | None = None
    stored: str | None = None


@dataclass(frozen=True, kw_only=True)
class OperatorRow:
    """What becomes of one operator in one format.

    Attributes:
        operator: Operator type, with its domain in front where that is not ONNX's own.
        format: `"QDQ"` or `"QOperator"`.
        outcome: What becomes of it.
        reason: Why it stays in float, always or unless it is listed; empty otherwise.
        output: Grid of its first output.
        becomes: Operator that stands in its place in the model; empty where none does.
        combinations: What works; every other combination is refused, leaves the operator in float, or gives weights
            fewer scales than were asked.
    """

    operator: str
    format: Format
    outcome: Outcome
    reason: str = ""
    output: Output = "none"
    becomes: str = ""
    combinations: tuple[Combination, ...] = field(default=(), repr=False)

    @property
    def activations(self) -> tuple[str, ...]:
        """Types of activations that work, at least with some weights."""
        return tuple(dict.fromkeys(one.activation for one in self.combinations))

    def weights(self, granularity: Granularity) -> dict[str, str]:
        """Return the types of weights that work at a granularity, at least with some activations.

        Args:
            granularity: How many scales they have.

        Returns:
            Type that is asked to type that is stored; empty where there is no such granularity, or no weight.
        """
        works = {one.weight: one.stored for one in self.combinations if one.granularity == granularity}
        return {name: stored for name in TYPES if (stored := works.get(name)) is not None}

    def refused(self, granularity: Granularity) -> dict[str, tuple[str, ...]]:
        """Return the types that work, but not together.

        Args:
            granularity: How many scales the weights have.

        Returns:
            Type of activations to the types of weights that do not go with it at this granularity.
        """
        works = {(one.activation, one.weight) for one in self.combinations if one.granularity == granularity}
        wanted = self.weights(granularity)
        apart = {one: tuple(name for name in wanted if (one, name) not in works) for one in self.activations}
        return {activation: weights for activation, weights in apart.items() if weights}

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return {
            "operator": self.operator,
            "format": self.format,
            "outcome": self.outcome,
            "reason": self.reason,
            "output": self.output,
            "becomes": self.becomes,
            "activations": list(self.activations),
            "weights": {one: self.weights(one) for one in GRANULARITIES},
            "refused": {one: {key: list(kinds) for key, kinds in self.refused(one).items()} for one in GRANULARITIES},
        }


MODES: Mapping[str, Format] = {"qdq": "QDQ", "qoperator": "QOperator"}


def supported_ops(mode: str) -> tuple[str, ...]:
    """List the operators that can be quantized in a mode.

    Whatever is not listed stays in float, and the plan records why. `quantlab operators` adds which types and
    granularities go with each.

    Args:
        mode: `"qdq"` or `"qoperator"`.

    Returns:
        Operator types as `op_types` takes them, sorted. Those that are quantized only where they are listed there are
        among them, and those that a grid absorbs.

    Raises:
        OptionError: There is no such mode; the text names the nearest.

    Example:
        >>> "ConvTranspose" in supported_ops("qdq"), "ConvTranspose" in supported_ops("qoperator")
        (True, False)
    """
    if mode not in MODES:
        raise OptionError(f"unknown mode {mode!r}{nearest(str(mode), MODES)} (allowed: {', '.join(MODES)})")
    return tuple(sorted(name.rpartition(".")[2] for name in _operators() if _fitting(name, MODES[mode])))


def operator_rows(operators: Iterable[str] | None = None) -> tuple[OperatorRow, ...]:
    """Ask the rules what becomes of operators in each format.

    Args:
        operators: Operator types as the registries know them; every one that has a rule by default, which takes some
            seconds.

    Returns:
        Rows, sorted by format and operator.

    Example:
        >>> _, row = operator_rows(["Conv"])
        >>> row.becomes, row.activations, row.weights("per channel"), row.weights("blocked")
        ('QLinearConv', ('int8', 'uint8'), {'int8': 'int8', 'uint8': 'int8'}, {})
    """
    names = _operators() if operators is None else sorted(operators)
    return tuple(_row(name, kind) for kind in get_args(Format) for name in names)


def _operators() -> list[str]:
    return sorted({*op_rules, *integer_needs}, key=lambda name: name.rpartition(".")[2])


def _row(operator: str, kind: Format) -> OperatorRow:
    refusal = next(probes(operator, kind)).ask(Asked())
    reason = refusal.reason if isinstance(refusal, Refuse) else ""
    probe = _fitting(operator, kind)
    if probe is None:
        return OperatorRow(operator=operator, format=kind, outcome="float", reason=reason)
    works = dict(_combinations(probe))
    usual = next((one for key, one in works.items() if key.activation == "uint8"), next(iter(works.values())))
    outcome: Outcome = "absorbed" if usual.node.status == "absorbed" else "quantized"
    return OperatorRow(
        operator=operator,
        format=kind,
        outcome="on request" if probe.listed else outcome,
        reason=reason if probe.listed else "",
        output=_output(usual.plan.tensors.get(probe.view.outputs[0])),
        becomes=probe.written(usual.plan) if outcome == "quantized" else "",
        combinations=tuple(works),
    )


def _output(tensor: TensorPlan | None) -> Output:
    if tensor is None:
        return "none"
    return "shared" if tensor.like is not None else "fixed" if tensor.fixed is not None else "own"


def _fitting(operator: str, kind: Format) -> Probe | None:
    """Return the first probe by which an operator is quantized with any types at all, or None where there is none."""
    return next((probe for probe in probes(operator, kind) if any(_combinations(probe))), None)


def _combinations(probe: Probe) -> Iterator[tuple[Combination, Planned]]:
    """Yield what works, with its plan."""
    return (found for activation in TYPES for found in _with(probe, activation))


def _with(probe: Probe, activation: str) -> Iterator[tuple[Combination, Planned]]:
    """Yield what works with one type of activations; where an operator has no weights, their types do not matter."""
    for granularity in GRANULARITIES:
        for weight in TYPES:
            answer = probe.ask(Asked(activation=activation, weight=weight, granularity=granularity))
            if isinstance(answer, Refuse) or not all(_has(spec, granularity) for spec in answer.weights):
                continue
            if not answer.weights:
                yield Combination(activation=activation), answer
                return
            stored = answer.weights[0].dtype.name
            yield Combination(activation=activation, weight=weight, granularity=granularity, stored=stored), answer


def _has(spec: QuantSpec, granularity: Granularity) -> bool:
    """Say whether a weight got as many scales as were asked for."""
    if granularity == "per tensor":
        return spec.axis is None
    return spec.per_channel if granularity == "per channel" else spec.block_size is not None
