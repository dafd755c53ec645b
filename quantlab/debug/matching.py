"""Matching lays a quantized graph over its float graph and says which tensor is which, by structure.

Walking forward from the inputs, a node of the quantized model is the float node that has the same operator and
attributes and reads the partners of its inputs; among several the constants decide, which lie close to their rounded
versions. What is left is walked backward from the outputs, and entered again at nodes whose constants tell them from
all others. Names are the last resort: they only decide between nodes that nothing else tells apart.

A Relu or Clip that the quantized model does without has been absorbed by the grid in front of it: the partner of that
tensor is what the Relu makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quantlab.arrays import dequantize
from quantlab.debug.logical import Logical, Step
from quantlab.graph import GraphView
from quantlab.graph.prepare.edit import label
from quantlab.graph.quantized import Rounded, rounded_tensors

_ABSORBED = ("Relu", "Clip")
_COMMUTATIVE = ("Add", "Mul", "Max", "Min", "Sum", "Mean")

_ALIKE = 0.5
"""Noise over signal power up to which a constant may be the rounded version of another: 3 dB, less than 2 bits."""

Pairs = tuple[tuple[str, str], ...]
"""Inputs of a quantized and a float step that belong together."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A rounded tensor and its partner.

    Attributes:
        rounded: The tensor in the quantized model.
        name: Its partner in the float model, or None.
        step: The float node that makes the partner, or reads it first if it is a constant or an input; None if none.
        slot: The place of a constant among the inputs of `step`; -1 for other tensors.
        constant: Whether its values are known without running the models.
        reason: Why there is no partner; empty where there is one.
    """

    rounded: Rounded
    name: str | None
    step: Step | None
    slot: int
    constant: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Two graphs, one laid over the other.

    Attributes:
        exact: The float graph.
        rounded: The quantized graph.
        tensors: One entry a rounded tensor, in topological order; copies of one tensor with one grid are one.
        steps: Quantized step and its float partner, in topological order.
        partners: Logical tensor of the quantized graph to the float tensor that it holds behind its grid.
        outputs: How many outputs of the two models turned out to belong together.
    """

    exact: Logical
    rounded: Logical
    tensors: tuple[Match, ...]
    steps: tuple[tuple[Step, Step], ...]
    partners: Mapping[str, str]
    outputs: int

    @property
    def found(self) -> int:
        """How many rounded tensors have a partner."""
        return sum(match.name is not None for match in self.tensors)

    def absorbed(self, each: Match) -> tuple[float, float] | None:
        """Return the ends of the Relu or Clip that a tensor's grid has absorbed, or None where there is none."""
        maker = self.rounded.producers.get(self.rounded.origin(each.rounded.integers))
        step, ends = each.step, None
        while (
            each.slot < 0
            and maker is not None
            and step is not None
            and step.op in _ABSORBED
            and maker.op not in _ABSORBED
        ):
            lo, hi = ends or (-math.inf, math.inf)
            least, most = self.exact.clip_ends(step)
            ends = max(lo, least), min(hi, most)
            step = self.exact.producers.get(step.inputs[0])
        return ends


def match(exact: GraphView, rounded: GraphView) -> Matching:
    """Find the float partner of every rounded tensor.

    Args:
        exact: The float model.
        rounded: Its quantized version.

    Returns:
        The matching.
    """
    work = _Work(exact=Logical(exact), rounded=Logical(rounded))
    read = {*rounded.uses, *rounded.outputs}
    # Quantizers leave behind pairs that nothing reads: they are no part of what is computed.
    found = [tensor for tensor in rounded_tensors(rounded) if (tensor.after or tensor.integers) in read]
    work.grids.update({tensor.integers: tensor for tensor in found})
    work.run()
    outputs = common_outputs(exact, rounded)
    return Matching(
        exact=work.exact,
        rounded=work.rounded,
        tensors=tuple(_without_copies(_matches(work, found))),
        steps=tuple((step, work.joined[id(step)]) for step in work.rounded.steps if id(step) in work.joined),
        partners=work.partners,
        outputs=sum(work.belong(work.rounded.origin(mine), other) for mine, other in outputs),
    )


@dataclass
class _Work:
    """A matching that is being made.

    Attributes:
        partners: Logical tensor to the float tensor that it holds behind its grid.
        constants: Constant of the quantized model to the float one, its reader there, and the place among its inputs.
        joined: `id` of a quantized step to the float step.
        taken: `id` of float steps that have a partner.
    """

    exact: Logical
    rounded: Logical
    grids: dict[str, Rounded] = field(default_factory=dict)
    partners: dict[str, str] = field(default_factory=dict)
    constants: dict[str, tuple[str, Step, int]] = field(default_factory=dict)
    joined: dict[int, Step] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Walk forward, backward, and forward once more with entries in between."""
        self.partners.update(_inputs(self.exact.view, self.rounded.view))
        self._forward(strict=True)
        for mine, other in common_outputs(self.exact.view, self.rounded.view):
            self._backward([(self.rounded.origin(mine), self.exact.origin(other))])
        self._forward(strict=False)

    def belong(self, mine: str, other: str) -> bool:
        """Say whether a logical tensor has a float tensor for a partner."""
        partner = self.partners.get(mine)
        return partner is not None and self.exact.klass(partner) == self.exact.klass(self.exact.origin(other))

    def _forward(self, *, strict: bool) -> None:
        for step in self.rounded.steps:
            if id(step) in self.joined:
                continue
            found = self._best(step, self._candidates(step, strict=strict))
            if found is None and not strict:
                found = self._best(step, self._entries(step))
            if found is not None:
                self._join(step, *found)
                if not strict:
                    self._backward([pair for pair in found[1] if pair[0]])

    def _backward(self, pairs: list[tuple[str, str]]) -> None:
        """Follow two tensors that belong together to what makes them, as long as that agrees."""
        while pairs:
            mine, other = pairs.pop()
            step, partner = self.rounded.producers.get(mine), self.exact.producers.get(other)
            if step is None or partner is None or id(step) in self.joined:
                continue
            self.partners.setdefault(mine, other)
            while partner is not None and partner.op in _ABSORBED and step.op not in _ABSORBED:
                partner = self.exact.producers.get(partner.inputs[0])
            aligned = None if partner is None else self._aligned(step, partner)
            if partner is not None and aligned is not None:
                self._join(step, partner, aligned)
                pairs += aligned

    def _candidates(self, step: Step, *, strict: bool) -> Iterator[tuple[Step, Pairs]]:
        """Yield the float steps that read the partners of a step's inputs; all of them are known where it is strict."""
        computed = [name for name in step.inputs if name and not self.rounded.is_constant(name)]
        known = [name for name in computed if name in self.partners]
        if not known or (strict and len(known) < len(computed)):
            return
        for other in self.exact.readers.get(self.exact.klass(self.partners[known[0]]), ()):
            aligned = self._aligned(step, other)
            if aligned is not None:
                yield other, aligned

    def _entries(self, step: Step) -> Iterator[tuple[Step, Pairs]]:
        """Yield the free float steps that a step must be because of its constants, or else of its name."""
        free = (other for other in self.exact.steps if other.op == step.op and id(other) not in self.taken)
        fitting = [(other, aligned) for other in free if (aligned := self._aligned(step, other)) is not None]
        alike = [entry for entry in fitting if self._difference(entry[1]) < _ALIKE]
        yield from alike or (entry for entry in fitting if step.node.name and entry[0].node.name == step.node.name)

    def _best(self, step: Step, candidates: Iterator[tuple[Step, Pairs]]) -> tuple[Step, Pairs] | None:
        """Return the candidate that is free, has the closest constants, and last the same name."""
        found = list(candidates)
        if len(found) < 2:
            return found[0] if found else None
        free = [entry for entry in found if id(entry[0]) not in self.taken] or found
        name = step.node.name
        return min(free, key=lambda entry: (self._difference(entry[1]), entry[0].node.name != name))

    def _aligned(self, step: Step, other: Step) -> Pairs | None:
        """Return which inputs belong together if two steps may be the same, or None."""
        same = step.op == other.op and len(step.outputs) == len(other.outputs)
        shared = step.attributes.keys() & other.attributes.keys()
        if not same or any(step.attributes[key] != other.attributes[key] for key in shared):
            return None
        width = max(len(step.inputs), len(other.inputs))
        mine, others = (inputs + ("",) * (width - len(inputs)) for inputs in (step.inputs, other.inputs))
        orders = [others, others[::-1]] if step.op in _COMMUTATIVE and width == 2 else [others]
        for order in orders:
            pairs = tuple(zip(mine, order, strict=True))
            if all(self._fit(*pair) for pair in pairs):
                return tuple(pair for pair in pairs if pair[0])
        return None

    def _fit(self, mine: str, other: str) -> bool:
        """Say whether two inputs may belong together."""
        if not mine or not other:
            return mine == other
        constant = self.rounded.is_constant(mine)
        if constant or self.exact.is_constant(other):
            return constant and self.exact.is_constant(other) and self.rounded.shape(mine) == self.exact.shape(other)
        partner = self.partners.get(mine)
        return partner is None or self.exact.klass(partner) == self.exact.klass(other)

    def _difference(self, pairs: Pairs) -> float:
        """Return the noise power over the signal power of the constants among two steps' inputs; inf without any."""
        signal = noise = 0.0
        for mine, other in pairs:
            values, exact = self._floats(mine), self.exact.values(other)
            if values is None or exact is None or exact.dtype.kind not in "fV":
                continue
            signal += float(np.sum(np.square(exact, dtype=np.float64)))
            noise += float(np.sum(np.square(np.subtract(exact, values, dtype=np.float64))))
        return noise / signal if signal else 0.0 if pairs and noise else float("inf")

    def _floats(self, constant: str) -> np.ndarray | None:
        values = self.rounded.values(constant)
        grid = self.grids.get(constant)
        return values if values is None or grid is None else dequantize(values, grid.grid)

    def _join(self, step: Step, other: Step, pairs: Pairs) -> None:
        self.joined[id(step)] = other
        self.taken.add(id(other))
        for mine, partner in zip(step.outputs, other.outputs, strict=True):
            if mine:
                self.partners[mine] = self._absorbed(mine, partner)
        for mine, partner in pairs:
            if self.rounded.is_constant(mine):
                self.constants.setdefault(mine, (partner, other, other.slots[other.inputs.index(partner)]))
            else:
                self.partners.setdefault(mine, partner)

    def _absorbed(self, mine: str, partner: str) -> str:
        """Return what a Relu or Clip that the quantized model lacks makes of a tensor, or the tensor itself."""
        while True:
            readers = self.exact.readers.get(self.exact.klass(partner), [])
            kept = {step.op for step in self.rounded.readers.get(self.rounded.klass(mine), ())}
            given_out = partner in self.exact.given_out
            if len(readers) != 1 or readers[0].op not in _ABSORBED or readers[0].op in kept or given_out:
                return partner
            partner = readers[0].outputs[0]


def _inputs(exact: GraphView, rounded: GraphView) -> dict[str, str]:
    """Return which graph inputs belong together: by name, which data is given by, or else by place."""
    if set(rounded.inputs) <= set(exact.inputs) or len(rounded.inputs) != len(exact.inputs):
        return {name: name for name in rounded.inputs if name in exact.inputs}
    return dict(zip(rounded.inputs, exact.inputs, strict=True))


def common_outputs(exact: GraphView, rounded: GraphView) -> list[tuple[str, str]]:
    """Return which outputs belong together, the quantized model's first: by name, or else by place."""
    named = [(name, name) for name in rounded.outputs if name in exact.outputs]
    if named or len(rounded.outputs) != len(exact.outputs):
        return named
    return list(zip(rounded.outputs, exact.outputs, strict=True))


def _matches(work: _Work, found: Sequence[Rounded]) -> Iterator[Match]:
    read_by = {name: step for step in reversed(work.rounded.steps) for name in step.inputs}
    first = {name: step for step in reversed(work.exact.steps) for name in step.inputs}
    for rounded in found:
        logical = work.rounded.origin(rounded.integers)
        constant = work.rounded.is_constant(logical)
        if constant and logical in work.constants:
            name, step, slot = work.constants[logical]
            yield Match(rounded=rounded, name=name, step=step, slot=slot, constant=True, reason="")
            continue
        partner = None if constant else work.partners.get(logical)
        at = read_by.get(logical) if constant else work.rounded.producers.get(logical)
        maker = None if partner is None else work.exact.producers.get(partner, first.get(partner))
        reason = "" if partner is not None else _reason(work, at, "read" if constant else "made")
        if partner in work.exact.inner and maker is not None:
            reason = f"the float model computes it within {label(maker.node)}: {HINT}"
            partner = maker = None
        yield Match(rounded=rounded, name=partner, step=maker, slot=-1, constant=constant, reason=reason)


def _without_copies(matches: Iterator[Match]) -> Iterator[Match]:
    """Leave out further copies of a tensor: quantizers give every reader a pair of its own, or a weight of its own."""
    seen = set()
    for found in matches:
        key = (found.name or found.rounded.integers, found.rounded.grid)
        if key not in seen:
            seen.add(key)
            yield found


HINT = (
    "the float model was optimized before or after the other one was quantized: run `quantlab preprocess -i model.onnx "
    "-o prepared.onnx`, quantize prepared.onnx, and compare with that"
)


def _reason(work: _Work, step: Step | None, how: str) -> str:
    """Say why a tensor at a step of the quantized model has no partner."""
    if step is None:
        return "no node of the quantized model makes or reads it"
    inputs = [name for name in step.inputs if name and not work.rounded.is_constant(name)]
    lost = [name for name in inputs if name not in work.partners]
    what = f"it is {how} by {label(step.node)}"
    if id(step) in work.joined:
        return f"{what}, whose partner {label(work.joined[id(step)].node)} has no such tensor"
    if lost:
        return f"{what}, behind {lost[0]!r}, which has no partner either"
    return f"{what}, and the float model has no such node there: {HINT}"
