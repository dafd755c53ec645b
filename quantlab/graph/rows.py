"""Rows are the layers of a drawing while their order and their positions are found; see `quantlab.graph.layout`."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

Link = tuple[int, int]

ORDER_SWEEPS = 8
"""Sweeps of sorting, each down and up."""

PLACE_SWEEPS = 4
"""Sweeps of placing: so many times down and up, then as many with both neighbours at once."""

BEND_ROOM = 0.3
"""Distance that a bend needs on either side of it; that of a vertex is 0.5."""

STRAIGHT = 8.0
"""How much more strongly two bends pull at each other than a bend and a vertex: long edges become straight."""

VERTEX, BEND, ASIDE = 1e6, 1.0, 0.02
"""How hard each resists where another one wants its place; aside stands a vertex that depends on constants alone."""


@dataclass
class Rows:
    """The vertices and bends while they are sorted; bends are numbered after the vertices.

    Attributes:
        vertices: How many numbers are vertices.
        chains: Vertex to the numbers of the bends behind it, one for each layer from the next one on.
        before: Number to its neighbours in the layer in front.
        after: Number to its neighbours in the layer behind.
        rows: The numbers of each layer, in their order.
        layers: Number to its layer.
        light: The vertices that depend on constants alone.
    """

    vertices: int
    chains: dict[int, list[int]]
    before: list[list[int]]
    after: list[list[int]]
    rows: list[list[int]]
    layers: list[int]
    light: Set[int]

    @classmethod
    def of(cls, layers: Sequence[int], links: Sequence[Link], light: Set[int]) -> Rows:
        """Fill the rows, bends included, in the order of a walk along the links.

        Args:
            layers: The layer of each vertex.
            links: Pairs of vertices, the second in a later layer than the first.
            light: The vertices that depend on constants alone.

        Returns:
            Rows that are not sorted yet.
        """
        places, chains = list(layers), _chains(layers, links)
        for source, chain in chains.items():
            places += [layers[source] + 1 + step for step in range(len(chain))]
        steps: dict[Link, None] = {}
        for source, target in links:
            way = [source, *chains.get(source, [])[: layers[target] - layers[source] - 1], target]
            steps |= dict.fromkeys(pairwise(way))
        before: list[list[int]] = [[] for _ in places]
        after: list[list[int]] = [[] for _ in places]
        for first, second in steps:
            after[first].append(second)
            before[second].append(first)
        rows: list[list[int]] = [[] for _ in range(max(places, default=-1) + 1)]
        for number in _depth_first(after, before):
            rows[places[number]].append(number)
        return cls(
            vertices=len(layers), chains=chains, before=before, after=after, rows=rows, layers=places, light=light
        )

    def bends(self, source: int, target: int, positions: Sequence[float]) -> tuple[tuple[int, float], ...]:
        """Return layers and positions of the bends between two vertices."""
        passed = self.layers[target] - self.layers[source] - 1
        return tuple((self.layers[bend], positions[bend]) for bend in self.chains.get(source, [])[:passed])

    def sort(self) -> None:
        """Bring the rows into an order with few crossings: step 2."""
        best, fewest = [list(row) for row in self.rows], self.crossings()
        for _ in range(ORDER_SWEEPS):
            if not fewest:
                break
            _sort_all(self.rows, self.before)
            _sort_all(self.rows[::-1], self.after)
            if (found := self.crossings()) < fewest:
                best, fewest = [list(row) for row in self.rows], found
        self.rows = best

    def crossings(self) -> int:
        """Return how many pairs of lines cross."""
        total = 0
        for row, below in pairwise(self.rows):
            place = {number: index for index, number in enumerate(below)}
            total += _inversions([place[other] for other in self.after[number]] for number in row)
        return total

    def positions(self) -> list[float]:
        """Return the position of every vertex and bend: step 3."""
        places = [0.0] * len(self.layers)
        for row in self.rows:
            for number, place in zip(row, self._spread(row, [0.0] * len(row), [1.0] * len(row)), strict=True):
                places[number] = place
        above, below = (
            [self._pulling(number, near) for number, near in enumerate(side)] for side in (self.before, self.after)
        )
        both = [[*first, *second] for first, second in zip(above, below, strict=True)]
        for down, up in [(above, below)] * PLACE_SWEEPS + [(both, both)] * PLACE_SWEEPS:
            for row in self.rows:
                self._pull(row, places, down)
            for row in self.rows[::-1]:
                self._pull(row, places, up)
        least = min(places, default=0.0)
        return [round(place - least, 4) for place in places]

    def _pull(self, row: list[int], places: list[float], neighbours: Sequence[Sequence[int]]) -> None:
        """Move a row as close to its neighbours as its order allows."""
        wanted, weights = [], []
        for number in row:
            near = neighbours[number]
            pulls = [STRAIGHT if min(number, other) >= self.vertices else 1.0 for other in near]
            mean = sum(pull * places[other] for pull, other in zip(pulls, near, strict=True))
            wanted.append(mean / sum(pulls) if near else places[number])
            weights.append(BEND if number >= self.vertices else ASIDE if number in self.light else VERTEX)
        for number, place in zip(row, self._spread(row, wanted, weights), strict=True):
            places[number] = place

    def _pulling(self, number: int, near: list[int]) -> list[int]:
        """Return the neighbours that a number follows: a vertex follows the data, and long edges make way for it."""
        if number >= self.vertices or number in self.light:
            return near
        data = [other for other in near if other not in self.light]
        return [other for other in data if other < self.vertices] or data or near

    def _spread(self, row: list[int], wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
        """Return the positions nearest to those wanted that keep the order and the distances."""
        room = [0.5 if number < self.vertices else BEND_ROOM for number in row]
        offset = [0.0]
        for first, second in pairwise(room):
            offset.append(offset[-1] + first + second)
        fitted = _monotone([place - shift for place, shift in zip(wanted, offset, strict=False)], weights)
        return [place + shift for place, shift in zip(fitted, offset, strict=False)]


def _chains(layers: Sequence[int], links: Sequence[Link]) -> dict[int, list[int]]:
    """Number the bends behind each vertex whose tensors pass layers."""
    passed: dict[int, int] = {}
    for source, target in links:
        passed[source] = max(passed.get(source, 0), layers[target] - layers[source] - 1)
    chains, count = {}, len(layers)
    for source, length in sorted(passed.items()):
        chains[source] = list(range(count, count + length))
        count += length
    return chains


def _depth_first(after: Sequence[Sequence[int]], before: Sequence[Sequence[int]]) -> Iterator[int]:
    """Yield all numbers so that what hangs together comes close together: where step 2 begins."""
    seen: set[int] = set()
    for root in range(len(after)):
        stack = [root] if not before[root] else []
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            yield number
            stack += reversed(after[number])


def _sort_all(rows: Sequence[list[int]], neighbours: Sequence[Sequence[int]]) -> None:
    """Sort each row but the first by the mean places of the neighbours, which stand in the row in front of it."""
    for fixed, row in pairwise(rows):
        place = {number: float(index) for index, number in enumerate(fixed)}
        own = {number: float(index) for index, number in enumerate(row)}
        key = {number: _mean([place[other] for other in neighbours[number]], own[number]) for number in row}
        row.sort(key=key.__getitem__)  # stable: equals keep their order


def _inversions(lists: Iterable[list[int]]) -> int:
    """Return how many pairs of numbers from two lists have the larger one in the earlier list."""
    total, seen = 0, list[int]()
    for numbers in lists:
        total += sum(len(seen) - bisect_right(seen, number) for number in numbers)
        for number in numbers:
            insort(seen, number)
    return total


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _monotone(wanted: Iterable[float], weights: Iterable[float]) -> list[float]:
    """Return the ascending numbers nearest to some numbers, in weighted least squares: pool adjacent violators."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for place, weight in zip(wanted, weights, strict=True):
        mean, total, size = place, weight, 1
        while pools and pools[-1][0] > mean:
            other, heavy, many = pools.pop()
            mean = (mean * total + other * heavy) / (total + heavy)
            total, size = total + heavy, size + many
        pools.append((mean, total, size))
    return [mean for mean, _, size in pools for _ in range(size)]
