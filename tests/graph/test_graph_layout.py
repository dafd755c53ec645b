"""The layout of a graph: edges go down, nothing lies on anything, and it looks the same each time."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict

import onnx
import pytest
from onnx import helper

import quantlab
from quantlab.demo import digits, float_model
from quantlab.graph import GraphView
from quantlab.graph.layout import Layout, layered
from quantlab.graph.rows import Rows, _inversions, _monotone
from tests.graph.builders import CAPTURING, build

DIAMOND = "g (float[2,3] x) => (float[2,3] y) { [a] t = Relu(x) [b] u = Neg(t) [c] v = Mul(t, t) [d] y = Add(u, v) }"
SKIP = "g (float[2] x) => (float[2] y) { [a] t = Relu(x) [b] u = Neg(t) [c] v = Neg(u) [d] y = Add(t, v) }"


def sums(reads: list[list[str]]) -> onnx.ModelProto:
    """A graph of Sum nodes n0, n1 ... that make t0, t1 ... of what is listed for each."""
    nodes = [helper.make_node("Sum", names, [f"t{i}"], name=f"n{i}") for i, names in enumerate(reads)]
    given = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "m")]
    last = helper.make_tensor_value_info(f"t{len(reads) - 1}", onnx.TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph(nodes, "g", given, [last]))


def drawn_at_random(seed: int, count: int = 60) -> onnx.ModelProto:
    choose = random.Random(seed)
    known = ["x", "m"]
    reads = []
    for number in range(count):
        reads.append(choose.sample(known[-12:], min(choose.randint(1, 3), len(known))))
        known.append(f"t{number}")
    return sums(reads)


MODELS = {
    "diamond": build(DIAMOND),
    "skip": build(SKIP),
    "demo": onnx.load_from_string(float_model()),
    **{f"random {seed}": drawn_at_random(seed) for seed in range(8)},
}


def quantized(**recipe: str) -> onnx.ModelProto:
    samples = [{"image": digits().train_images[:4]}]
    return quantlab.quantize(MODELS["demo"], samples, quantlab.Recipe(**recipe)).model


@pytest.fixture(scope="module")
def qdq() -> Layout:
    return layered(GraphView.of(quantized()))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_laws(model: onnx.ModelProto) -> None:
    view = GraphView.of(model)
    layout = layered(view)
    check_laws(layout)
    nodes = layout.vertices[: len(view.nodes)]
    assert [vertex.index for vertex in nodes] == list(range(len(view.nodes)))
    assert [vertex.name for vertex in nodes] == [node.name for node in view.nodes]
    assert [v.name for v in layout.vertices[len(view.nodes) :]] == [*view.inputs, *view.outputs]
    wanted = {
        (name, node.name) for node in view.nodes for name in node.input if name in view.producers or name in view.inputs
    } | {(name, name) for name in view.outputs}
    assert {(edge.tensor, layout.vertices[edge.target].name) for edge in layout.edges} == wanted
    for edge in layout.edges:
        source = layout.vertices[edge.source]
        maker = view.producers.get(edge.tensor)
        assert source.name == (edge.tensor if maker is None else maker.name)
    assert layered(GraphView.of(model)) == layout


def check_laws(layout: Layout) -> None:
    """Edges lead to later layers and bend once in each that they pass; in a layer there is room between all."""
    room = defaultdict(list)
    for vertex in layout.vertices:
        room[vertex.layer].append(vertex.position)
    for positions in room.values():
        for first, second in itertools.pairwise(sorted(positions)):
            assert second - first >= 1 - 1e-3  # rounded to four digits
    for edge in layout.edges:
        source, target = layout.vertices[edge.source], layout.vertices[edge.target]
        assert [layer for layer, _ in edge.bends] == list(range(source.layer + 1, target.layer))
        for layer, position in edge.bends:  # half a box is 0.43 wide
            assert all(abs(position - other) >= 0.5 for other in room[layer])
    assert min(vertex.layer for vertex in layout.vertices) == 0
    assert min([v.position for v in layout.vertices] + [p for e in layout.edges for _, p in e.bends]) == 0
    assert layout.layers == 1 + max(vertex.layer for vertex in layout.vertices)


def test_a_chain_is_a_straight_line_and_what_passes_it_bends_around() -> None:
    layout = layered(GraphView.of(MODELS["skip"]))
    assert len({vertex.position for vertex in layout.vertices}) == 1
    assert [vertex.layer for vertex in layout.vertices] == [1, 2, 3, 4, 0, 5]
    (long,) = (edge for edge in layout.edges if edge.bends)
    assert (long.tensor, [layer for layer, _ in long.bends]) == ("t", [2, 3])
    assert len({position for _, position in long.bends}) == 1


def test_the_branches_of_a_diamond_stand_side_by_side() -> None:
    layers = {vertex.name: vertex.layer for vertex in layered(GraphView.of(MODELS["diamond"])).vertices}
    assert layers == {"x": 0, "a": 1, "b": 2, "c": 2, "d": 3, "y": 4}


def test_what_depends_on_constants_alone_stands_in_front_of_its_reader(qdq: Layout) -> None:
    check_laws(qdq)
    readers = defaultdict(list)
    givers = {edge.target for edge in qdq.edges}
    for edge in qdq.edges:
        readers[edge.source].append(qdq.vertices[edge.target].layer)
    lonely = [number for number, v in enumerate(qdq.vertices) if v.kind == "node" and number not in givers]
    assert len(lonely) == 12  # a weight and a bias of six operators
    for number in lonely:
        assert qdq.vertices[number].layer == min(readers[number]) - 1


def test_a_late_input_stands_close_to_its_first_reader() -> None:
    layout = layered(GraphView.of(sums([["x"], ["t0"], ["t1", "m"], ["t2", "m"]])))
    layers = {vertex.name: vertex.layer for vertex in layout.vertices}
    assert layers == {"x": 0, "n0": 1, "n1": 2, "m": 2, "n2": 3, "n3": 4, "t3": 5}


def test_what_a_body_reads_counts_as_read_by_its_node() -> None:
    layout = layered(GraphView.of(build(CAPTURING)))
    check_laws(layout)
    view_of = {number: vertex.index for number, vertex in enumerate(layout.vertices)}
    assert ("t", 0, 1) in {(edge.tensor, view_of[edge.source], view_of[edge.target]) for edge in layout.edges}


def test_a_graph_without_nodes_and_one_that_goes_nowhere() -> None:
    empty = layered(GraphView.of(helper.make_model(helper.make_graph([], "g", [], []))))
    assert (empty.layers, empty.width, empty.vertices, empty.edges) == (0, 0.0, (), ())
    dead = layered(GraphView.of(build("g (float[2] x) => (float[2] y) { [a] y = Relu(x) [b] z = Neg(x) }")))
    check_laws(dead)


def test_sorting_never_adds_crossings_and_removes_those_of_a_twisted_ladder() -> None:
    count = 6
    links = [(number, 2 * count - 1 - number) for number in range(count)]
    rows = Rows.of([0] * count + [1] * count, links, set())
    rows.rows[1] = list(range(count, 2 * count))
    assert rows.crossings() == count * (count - 1) // 2
    rows.sort()
    assert rows.crossings() == 0


@pytest.mark.parametrize("seed", range(5))
def test_crossings_are_those_of_a_naive_count(seed: int) -> None:
    choose = random.Random(seed)
    lists = [[choose.randrange(9) for _ in range(choose.randrange(4))] for _ in range(7)]
    pairs = itertools.combinations(range(len(lists)), 2)
    assert _inversions(lists) == sum(a > b for i, j in pairs for a in lists[i] for b in lists[j])


def test_pooling_gives_the_least_squares() -> None:
    # By hand: 3 and 1 join in their weighted mean (3 * 1 + 1 * 3) / 4, which lies below 4.
    assert _monotone([3.0, 1.0, 4.0], [1.0, 3.0, 1.0]) == [1.5, 1.5, 4.0]
    assert _monotone([3.0, 2.0, 1.0], [1.0, 1.0, 1.0]) == [2.0, 2.0, 2.0]
