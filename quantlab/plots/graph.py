"""A picture of an ONNX graph in layers, from its inputs on top to its outputs, coloured by what quantizing did to it.

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import onnx

from quantlab.errors import OptionError
from quantlab.graph import GraphView
from quantlab.graph.check import is_quantized
from quantlab.graph.layout import Layout, Vertex, layered
from quantlab.plots.figures import new_figure
from quantlab.plots.style import CLIPPED, CLIPPED_TEXT, FAINT, IDLE, INK, USED, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, LAYER = 1.3, 0.36
"""Inches between neighbours in a layer, and between layers, where there is room for that."""

BOX = (0.86, 0.62)
"""Width and height of a box in columns and layers."""

LETTERS, FULL_SIZE = 28, 19
"""Most letters in a box, and most that keep their size."""

TALLEST = 200.0
"""Most inches of a new figure; larger graphs are drawn smaller, for which SVG is the better format."""

FONT = 7.0
"""Size of letters where there is room, in points."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one class of nodes is drawn: fill, outline, letters."""

    fill: str
    edge: str
    text: str


LOOKS: Mapping[str, Look] = {
    "quantize, dequantize": Look(fill=CLIPPED, edge="#d9b866", text=CLIPPED_TEXT),
    "integer operator": Look(fill=USED, edge=USED, text="white"),
    "float operator": Look(fill=FAINT, edge=IDLE, text=INK),
    "input, output": Look(fill="white", edge=INK, text=INK),
}
"""Class of a node to its look, in the order of the legend."""

_BORDERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def plot_graph(model: onnx.ModelProto, *, title: str = "", axes: Axes | None = None) -> Axes:
    """Draw the nodes of a model in layers, each in a later one than whatever it reads.

    Nodes that quantize or dequantize are amber, operators on integers blue, operators on floats grey; graph inputs and
    outputs are outlined. An operator that only moves integers, such as a MaxPool behind a QLinearConv, is one on
    integers. Constants and what subgraphs hold are left out.

    Args:
        model: Any model, with or without its weights.
        title: What stands above, followed by the number of nodes.
        axes: Where to draw; a new figure by default, as large as the graph needs, up to 200 inches.

    Returns:
        The axes; `plot_graph(...).figure` is the figure.

    Raises:
        ModelError: The graph has a cycle, or a tensor with two origins or none.
        QuantlabError: matplotlib is not installed.

    Example:
        >>> from quantlab.demo import float_model
        >>> axes = plot_graph(onnx.load_from_string(float_model()), title="float")
        >>> axes.get_title()
        'float: 18 nodes'
    """
    view = GraphView.of(model)
    layout = layered(view)
    if axes is None:
        axes = new_figure(_inches([layout])).add_subplot()
    _draw(axes, view, layout, max(1, layout.layers))
    axes.set_title(_title(title, view), fontsize=9)
    _legend(axes, {*classes(view), "input, output"})
    return axes


def graph_figure(models: Mapping[str, onnx.ModelProto]) -> Figure:
    """Draw several models side by side on one scale, such as the QDQ and the QOperator version of one model.

    Args:
        models: Title to model, at least one.

    Returns:
        A figure that is ready for `save_figure`.

    Raises:
        OptionError: There is no model.
        ModelError: A graph has a cycle, or a tensor with two origins or none.
        QuantlabError: matplotlib is not installed.
    """
    if not models:
        raise OptionError("models is empty: give at least one model to draw")
    views = {title: GraphView.of(model) for title, model in models.items()}
    layouts = [layered(view) for view in views.values()]
    figure = new_figure(_inches(layouts))
    grid = figure.add_gridspec(1, len(models), width_ratios=[layout.width + 1 for layout in layouts])
    tallest = max(1, *(layout.layers for layout in layouts))
    found: set[str] = {"input, output"}
    for place, ((title, view), layout) in enumerate(zip(views.items(), layouts, strict=True)):
        axes = figure.add_subplot(grid[0, place])
        _draw(axes, view, layout, tallest)
        axes.set_title(_title(title, view), fontsize=9)
        found |= set(classes(view))
    _legend(figure.axes[len(models) // 2], found)
    return figure


def classes(view: GraphView) -> list[str]:
    """Say of each node what quantizing made of it.

    Args:
        view: Any graph.

    Returns:
        A key of `LOOKS` for each of `view.nodes`.
    """
    found: list[str] = []
    integers: set[str] = set()  # tensors of levels; other integers, such as shapes, make no integer operator
    for node in view.nodes:
        if node.op_type in _BORDERS:
            found.append("quantize, dequantize")
            holds_levels = node.op_type != "DequantizeLinear"
        else:
            moves = bool(node.input) and node.input[0] in integers
            found.append("integer operator" if moves or is_quantized(node) else "float operator")
            holds_levels = moves or node.op_type.startswith(("QLinear", "QGemm"))
        if holds_levels:
            integers.update(node.output[:1])
    return found


def _title(title: str, view: GraphView) -> str:
    count = f"{len(view.nodes):,} node{'s' * (len(view.nodes) != 1)}"
    return f"{title}: {count}" if title else count


def _inches(layouts: Sequence[Layout]) -> tuple[float, float]:
    width = sum(layout.width + 1 for layout in layouts) * COLUMN
    height = max(1, *(layout.layers for layout in layouts)) * LAYER
    shrunk = min(1.0, TALLEST / height, TALLEST / width)
    return max(width * shrunk, 3.2) + 0.2, height * shrunk + 0.9


def _letters(axes: Axes, layout: Layout, layers: int) -> float:
    """Return the size of letters that fits into the boxes, in points."""
    place, figure = axes.get_position(), axes.get_figure(root=True)
    across, down = (1.0, 1.0) if figure is None else figure.get_size_inches()
    column = float(across) * place.width / (layout.width + 1) / COLUMN
    layer = float(down) * place.height / layers / LAYER
    return FONT * min(1.0, 1.1 * column, 1.1 * layer)


def _draw(axes: Axes, view: GraphView, layout: Layout, layers: int) -> None:
    kinds = [*classes(view), *["input, output"] * (len(layout.vertices) - len(view.nodes))]
    words = [_words(vertex, view) for vertex in layout.vertices]
    size = _letters(axes, layout, layers)
    _draw_edges(axes, layout)
    for kind, look in LOOKS.items():
        chosen = [place for place, other in enumerate(kinds) if other == kind]
        if chosen:
            _draw_boxes(axes, [layout.vertices[place] for place in chosen], kind, look)
        for place in chosen:
            _write(axes, layout.vertices[place], words[place], size, look)
    middle, half = layout.width / 2, max(layout.width, 1.0) / 2 + 0.5
    axes.set_xlim(middle - half, middle + half)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.axis("off")


def _write(axes: Axes, vertex: Vertex, words: str, size: float, look: Look) -> None:
    size *= min(1.0, FULL_SIZE / len(words)) if words else 1.0
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": look.text, "zorder": 3}
    axes.text(vertex.position, vertex.layer, words, fontsize=size, **style)


def _words(vertex: Vertex, view: GraphView) -> str:
    return shortened(vertex.name if vertex.index is None else view.nodes[vertex.index].op_type, LETTERS)


def _part(name: str) -> Any:
    return importlib.import_module(f"matplotlib.{name}")


def _draw_boxes(axes: Axes, vertices: Sequence[Vertex], kind: str, look: Look) -> None:
    width, height = BOX
    boxes = [
        _part("patches").FancyBboxPatch(
            (vertex.position - width / 2, vertex.layer - height / 2),
            width,
            height,
            boxstyle=f"round,pad=0,rounding_size={0.08 if kind == 'input, output' else 0.04}",
            mutation_aspect=COLUMN / LAYER,
        )
        for vertex in vertices
    ]
    style = {"facecolor": look.fill, "edgecolor": look.edge, "linewidth": 0.7, "zorder": 2}
    axes.add_collection(_part("collections").PatchCollection(boxes, label=f"_{kind}", **style), autolim=False)


def _draw_edges(axes: Axes, layout: Layout) -> None:
    paths = [_way(_points(layout, edge.source, edge.target, edge.bends)) for edge in layout.edges]
    style = {"facecolor": "none", "edgecolor": "#8c98a5", "linewidth": 0.7, "zorder": 1}
    axes.add_collection(_part("collections").PathCollection(paths, label="_edges", **style), autolim=False)


def _points(layout: Layout, source: int, target: int, bends: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Return the points of an edge: the end of one box, both ends of the layer at each bend, the top of the other."""
    first, last, half = layout.vertices[source], layout.vertices[target], BOX[1] / 2
    passed = [(x, layer + side) for layer, x in bends for side in (-half, half)]
    return [(first.position, first.layer + half), *passed, (last.position, last.layer - half)]


def _way(points: Sequence[tuple[float, float]]) -> Any:
    """Return a path that leaves and enters every point straight down."""
    path = _part("path").Path
    corners, codes = [points[0]], [path.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 == x1:
            corners, codes = [*corners, (x1, y1)], [*codes, path.LINETO]
        else:
            middle = (y0 + y1) / 2
            corners, codes = [*corners, (x0, middle), (x1, middle), (x1, y1)], [*codes, *[path.CURVE4] * 3]
    return path(corners, codes)


def _legend(axes: Axes, found: set[str]) -> None:
    patch = _part("patches").Patch
    handles = [
        patch(facecolor=look.fill, edgecolor=look.edge, linewidth=0.7, label=kind)
        for kind, look in LOOKS.items()
        if kind in found
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, fontsize=7, frameon=False)
