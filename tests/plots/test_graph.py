"""Pictures of graphs: a box a node, coloured by what quantizing made of it, and no two at one place."""

import numpy as np
import onnx
import pytest
from matplotlib.colors import same_color
from onnx import TensorProto, helper

import quantlab
from quantlab.demo import digits, float_model
from quantlab.errors import OptionError
from quantlab.graph import GraphView
from quantlab.graph.layout import layered
from quantlab.plots import graph_figure, plot_graph, save_figure
from quantlab.plots.graph import LOOKS, classes

FLOAT = onnx.load_from_string(float_model())
SAMPLES = [{"image": digits().train_images[:4]}]


@pytest.fixture(scope="module")
def qdq():
    return quantlab.quantize(FLOAT, SAMPLES, quantlab.Recipe()).model


@pytest.fixture(scope="module")
def qoperator():
    return quantlab.quantize(FLOAT, SAMPLES, quantlab.Recipe(format="QOperator")).model


def boxes(axes):
    """Class to the boxes drawn in its look, as arrays of corners."""
    found = {kind: [] for kind in LOOKS}
    for collection in axes.collections:
        kind = collection.get_label().removeprefix("_")
        if kind in LOOKS:
            assert same_color(collection.get_facecolor()[0], LOOKS[kind].fill)
            found[kind] += [path.get_extents() for path in collection.get_paths()]
    return found


def chain(count):
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=f"n{i}") for i in range(count)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("t0", f"t{count}")]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))


def test_every_node_has_a_box_of_its_class(qdq):
    axes = plot_graph(qdq)
    counts = {kind: len(paths) for kind, paths in boxes(axes).items()}
    of_type = [node.op_type for node in qdq.graph.node]
    pairs = of_type.count("QuantizeLinear") + of_type.count("DequantizeLinear")
    assert counts == {
        "quantize, dequantize": pairs,
        "integer operator": 0,
        "float operator": len(of_type) - pairs,
        "input, output": 2,
    }
    assert axes.get_title() == f"{len(of_type)} nodes"
    assert sorted(text.get_text() for text in axes.texts) == sorted([*of_type, "image", "logits"])
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["quantize, dequantize", "float operator", "input, output"]


def test_boxes_do_not_overlap_and_hold_their_words(qdq):
    axes = plot_graph(qdq)
    extents = [box for found in boxes(axes).values() for box in found]
    for place, first in enumerate(extents):
        assert not any(first.overlaps(second) for second in extents[place + 1 :])
    for text in axes.texts:
        assert sum(box.contains(*text.get_position()) for box in extents) == 1


def test_edges_lead_from_box_to_box_downwards(qdq):
    axes = plot_graph(qdq)
    (edges,) = (found for found in axes.collections if found.get_label() == "_edges")
    assert len(edges.get_paths()) == len(layered(GraphView.of(qdq)).edges)
    for path in edges.get_paths():
        assert (np.diff(path.vertices[:, 1]) >= 0).all()  # y grows downwards
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_what_moves_integers_works_on_integers(qoperator):
    found = dict(zip((node.op_type for node in GraphView.of(qoperator).nodes), classes(GraphView.of(qoperator))))  # noqa: B905
    assert found["MaxPool"] == found["Flatten"] == found["QLinearConv"] == "integer operator"
    assert found["QuantizeLinear"] == found["DequantizeLinear"] == "quantize, dequantize"
    assert set(classes(GraphView.of(FLOAT))) == {"float operator"}


def test_integers_that_are_no_levels_make_no_integer_operator():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))
    assert classes(GraphView.of(model)) == ["float operator"] * 2


def test_side_by_side_layers_have_one_height(qdq, qoperator):
    figure = graph_figure({"QDQ": qdq, "QOperator": qoperator})
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim()
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == ["QDQ", "QOperator"]
    assert [axes.get_legend() is None for axes in figure.axes].count(False) == 1
    with pytest.raises(OptionError, match="models is empty: give at least one model to draw"):
        graph_figure({})


def test_letters_shrink_with_the_axes_and_long_names_are_cut():
    small = graph_figure({"chain": chain(40)})
    axes = small.add_axes((0.9, 0.9, 0.1, 0.1))
    assert plot_graph(chain(40), axes=axes) is axes
    assert axes.texts[0].get_fontsize() < small.axes[0].texts[0].get_fontsize() / 4
    node = helper.make_node("Relu", ["an_input_with_a_name_that_is_much_too_long"], ["y"])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in (node.input[0], "y")]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]))
    assert "an_input_with…_much_too_long" in {text.get_text() for text in plot_graph(model).texts}


def test_a_long_graph_is_drawn_smaller_than_the_largest_picture():
    axes = plot_graph(chain(900))
    assert axes.figure.get_figheight() < 202
    assert len(axes.texts) == 902


def test_a_model_without_nodes():
    axes = plot_graph(helper.make_model(helper.make_graph([], "g", [], [])))
    assert axes.get_title() == "0 nodes"


def test_the_same_bytes_each_time(tmp_path, qdq):
    for name in ("a.svg", "b.svg"):
        save_figure(graph_figure({"QDQ": qdq}), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
