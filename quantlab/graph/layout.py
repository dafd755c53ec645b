"""A layout puts the nodes of a graph into layers, so that a picture of it reads from its inputs to its outputs.

Three steps, after Sugiyama, Tagawa and Toda 1981, "Methods for Visual Understanding of Hierarchical System Structures":

    1. layers      layer of a node = 1 + the largest layer of whatever it reads; what depends on constants alone, and
                   a graph input, stands one layer in front of its first reader
    2. order       an edge that passes layers gets a bend in each of them; vertices of a layer are sorted by the mean
                   place of their neighbours, in sweeps down and up; the order with fewest crossings is kept
    3. positions   each vertex as close to its neighbours as the order and the distance between vertices allow: least
                   squares by pooling adjacent violators, layer by layer; what depends on constants alone weighs little

All bends of one tensor are shared by its readers. Everything is deterministic, and near linear in nodes and bends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quantlab.graph.rows import Rows
from quantlab.graph.view import GraphView

Kind = Literal["node", "input", "output"]


@dataclass(frozen=True, kw_only=True)
class Vertex:
    """A node, a graph input or a graph output, and its place.

    Attributes:
        kind: `"node"`, `"input"` or `"output"`.
        name: Name of the node, which may be empty, or of the tensor.
        index: Place of the node in `GraphView.nodes`; None for inputs and outputs.
        layer: 0 for the first layer.
        position: Place in the layer, at least 0; two vertices of a layer are at least 1 apart.
    """

    kind: Kind
    name: str
    index: int | None
    layer: int
    position: float


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A tensor's way from one vertex to another.

    Attributes:
        tensor: Name of the tensor.
        source: Place of the vertex that gives it in `Layout.vertices`.
        target: Place of the vertex that reads it, in a later layer.
        bends: Layer and position of the points in between, one for each layer that is passed.
    """

    tensor: str
    source: int
    target: int
    bends: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything is drawn.

    Attributes:
        vertices: The nodes in the order of `GraphView.nodes`, then the graph inputs, then the graph outputs.
        edges: One entry for each tensor and vertex that reads it; constants have none.
    """

    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return max((vertex.layer for vertex in self.vertices), default=-1) + 1

    @property
    def width(self) -> float:
        """The largest position of anything drawn."""
        bends = (position for edge in self.edges for _, position in edge.bends)
        return max((*(vertex.position for vertex in self.vertices), *bends), default=0.0)


def layered(view: GraphView) -> Layout:
    """Lay a graph out in layers.

    Args:
        view: Any graph; subgraphs are not entered, what they read counts as read by their node.

    Returns:
        The layout, the same each time.

    Example:
        >>> from quantlab.demo import float_model
        >>> from quantlab.graph.files import load
        >>> found = layered(GraphView.of(load(float_model())))
        >>> found.vertices[0].name, found.vertices[0].layer, found.layers
        ('/stem/Conv', 1, 20)
    """
    vertices, edges = _vertices(view), _edges(view)
    layers, light = _layers(view, len(vertices), edges)
    rows = Rows.of(layers, [(source, target) for _, source, target in edges], light)
    rows.sort()
    places = rows.positions()
    return Layout(
        vertices=tuple(
            Vertex(kind=kind, name=name, index=index, layer=layers[number], position=places[number])
            for number, (kind, name, index) in enumerate(vertices)
        ),
        edges=tuple(
            Edge(tensor=tensor, source=source, target=target, bends=rows.bends(source, target, places))
            for tensor, source, target in edges
        ),
    )


_Edges = list[tuple[str, int, int]]
"""Tensor, number of the vertex that gives it, number of the one that reads it."""


def _vertices(view: GraphView) -> list[tuple[Kind, str, int | None]]:
    nodes: list[tuple[Kind, str, int | None]] = [("node", node.name, index) for index, node in enumerate(view.nodes)]
    return nodes + [("input", name, None) for name in view.inputs] + [("output", name, None) for name in view.outputs]


def _edges(view: GraphView) -> _Edges:
    """List the tensors with the numbers of the vertices that give and read them, sorted by reader."""
    count, ends = len(view.nodes), len(view.nodes) + len(view.inputs)
    origin = {name: count + number for number, name in enumerate(view.inputs)}
    origin |= {name: view.position(node) for name, node in view.producers.items()}
    found = [
        (view.position(node), source, tensor) for tensor, source in origin.items() for node in view.readers(tensor)
    ]
    found += [(ends + number, origin[name], name) for number, name in enumerate(view.outputs) if name in origin]
    return [(tensor, source, target) for target, source, tensor in sorted(found)]


def _layers(view: GraphView, total: int, edges: _Edges) -> tuple[list[int], set[int]]:
    """Return the layer of every vertex, and the vertices that depend on constants alone: step 1."""
    count, ends = len(view.nodes), len(view.nodes) + len(view.inputs)
    before: list[list[int]] = [[] for _ in range(total)]
    after: list[list[int]] = [[] for _ in range(total)]
    for _, source, target in edges:
        before[target].append(source)
        after[source].append(target)
    layers, fed = [0] * total, [False] * count + [True] * (total - count)
    for number in (*range(count), *range(ends, total)):  # topological
        layers[number] = 1 + max((layers[source] for source in before[number]), default=-1)
        fed[number] = any(fed[source] for source in before[number])
    for number in (*reversed(range(count)), *range(count, ends)):
        if after[number] and (number >= count or not fed[number]):
            layers[number] = min(layers[target] for target in after[number]) - 1
    return layers, {number for number in range(count) if not fed[number]}
