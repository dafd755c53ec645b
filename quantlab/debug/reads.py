"""Who reads which tensor of a float model rounded, and how often rounded, as its quantized version has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx

from quantlab.debug.logical import Step
from quantlab.debug.matching import Matching
from quantlab.graph import GraphView
from quantlab.graph.quantized import Rounded, rounded_tensors

_MOVING = (
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "MaxPool", "TopK", "Gather",
    "GatherElements", "Pad", "Concat", "Expand", "Tile", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
"""Operators whose results lie on the grid of what they read."""


@dataclass(frozen=True, eq=False)
class Reads:
    """The answer for one pair of models.

    Attributes:
        reference: The float graph.
        quantized: The quantized graph.
        grids: Float tensor to its grids: mostly one; two where readers find it converted to a second one.
    """

    reference: GraphView
    quantized: GraphView
    grids: Mapping[str, tuple[Rounded, ...]]
    _times: Mapping[tuple[str, str], int]  # float tensor and quantized tensor to how often that was rounded
    _twins: Mapping[int, Mapping[int, str]]  # id of a float node: place of an input to what the quantized node reads

    @classmethod
    def of(cls, matching: Matching) -> Reads:
        """Take the answer from a quantized graph laid over the float graph it was made from."""
        reference, quantized = matching.exact.view, matching.rounded.view
        constants = {found.rounded.integers: found.name for found in matching.tensors if found.constant}
        times_of: dict[str, tuple[str, int]] = {}
        grids: dict[str, list[Rounded]] = {}
        for rounded in rounded_tensors(quantized):
            name, times = times_of.get(rounded.before or "", (None, 0))
            logical = matching.rounded.origin(rounded.integers)
            name = name or constants.get(rounded.integers) or matching.partners.get(logical)
            if name is None:
                continue
            if times == len(grids.setdefault(name, [])):
                grids[name].append(rounded)
            made = (tensor for tensor in (rounded.after, rounded.integers) if tensor is not None)
            times_of.update(dict.fromkeys(made, (name, times + 1)))
        return cls(
            reference=reference,
            quantized=quantized,
            grids={name: tuple(found) for name, found in grids.items()},
            _times={(name, tensor): times for tensor, (name, times) in times_of.items()},
            _twins=_twins(matching),
        )

    def times(self, node: onnx.NodeProto, index: int) -> int:
        """Return how often the tensor that a float node reads at a place has been rounded: 0, 1 or 2."""
        name = node.input[index]
        if name not in self.grids:
            return 0
        twin = self._twins.get(id(node), {})
        return self._times.get((name, twin[index]), 0) if index in twin else 1  # absorbed by the grid behind it

    def given_out(self, name: str) -> int:
        """Return how often a tensor has been rounded where callers and subgraphs know it by its name."""
        return self._times.get((name, name), 0)

    def home(self, name: str) -> str:
        """Return the name of the node that makes a tensor, or reads it first if it is a constant or an input."""
        maker = self.reference.producers.get(name) or next(iter(self.reference.readers(name)), None)
        return "" if maker is None else maker.name

    def quantizes(self, node: onnx.NodeProto) -> bool:
        """Say whether a float node reads anything rounded."""
        return any(self.times(node, index) for index in range(len(node.input)))

    def on_grid(self, name: str) -> bool:
        """Say whether a tensor lies on its grid already, for its maker only moves what was rounded onto it."""
        maker = self.reference.producers.get(name)
        if maker is None or maker.op_type not in _MOVING or len(self.grids.get(name, ())) > 1:
            return False
        moved = range(len(maker.input)) if maker.op_type == "Concat" else range(1)
        return all(self._shares(name, maker.input[i]) and self.times(maker, i) == 1 for i in moved)

    def sharing(self, name: str) -> frozenset[str]:
        """Return an activation with those that share its grid: what only moves values has one grid at both its ends."""
        group, queue = {name}, [name]
        while queue:
            tensor = queue.pop()
            for node in (*self._makers(tensor), *self._rounded_readers(tensor)):
                for other in (*node.input, *node.output):
                    if other not in group and self._shares(tensor, other):
                        group.add(other)
                        queue.append(other)
        return frozenset(group)

    def responsible(self, tensors: Iterable[str]) -> tuple[str, ...]:
        """Return the nodes that have to stay in float so that nobody rounds some tensors: makers and readers.

        Args:
            tensors: Tensors with a grid.

        Returns:
            Names of nodes in topological order.
        """
        nodes = [node for name in tensors for node in (*self._makers(name), *self._rounded_readers(name))]
        return tuple(dict.fromkeys(node.name for node in sorted(nodes, key=self.reference.position)))

    def _makers(self, name: str) -> Iterator[onnx.NodeProto]:
        """Yield the quantized node that makes a tensor, with those in between that a grid has absorbed."""
        node = self.reference.producers.get(name)
        while node is not None:
            if self.quantizes(node):
                yield node
                return
            if id(node) in self._twins or not node.input:
                return
            yield node
            node = self.reference.producers.get(node.input[0])

    def _rounded_readers(self, name: str) -> Iterator[onnx.NodeProto]:
        for use in self.reference.uses.get(name, ()):
            if not use.inside and self.times(use.node, use.index):
                yield use.node

    def _shares(self, name: str, other: str) -> bool:
        """Say whether two activations beside one node have the same grid."""
        pair = [self.grids.get(tensor, ()) for tensor in (name, other)]
        if not all(pair) or any(entries[0].constant for entries in pair):
            return False
        return pair[0][0].grid == pair[1][0].grid


def _twins(matching: Matching) -> dict[int, dict[int, str]]:
    found: dict[int, dict[int, str]] = {}
    for mine, other in matching.steps:
        places = found.setdefault(id(other.node), {})
        slots = reversed(mine.slots) if _is_turned(mine, other, matching.partners) else mine.slots
        pairs = zip(other.slots, slots, strict=False)
        places.update({place: mine.node.input[slot] for place, slot in pairs if place >= 0 and slot >= 0})
    return found


def _is_turned(mine: Step, other: Step, partners: Mapping[str, str]) -> bool:
    """Say whether a commutative operator has its two inputs in the other order."""
    if len(mine.inputs) != 2 or len(other.inputs) != 2 or mine.slots[0] < 0:
        return False
    return partners.get(mine.inputs[0]) == other.inputs[1] and partners.get(mine.inputs[1]) != other.inputs[1]
