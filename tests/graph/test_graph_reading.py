"""GraphView, Names, Pass and tensors: what everything else in the room stands on."""

from __future__ import annotations

import itertools
import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from quantlab.arrays import DTYPES
from quantlab.errors import ModelError, PassError
from quantlab.graph import FLOATS, GraphView, Names, Pass, Sequential, captured, default_opset, subgraphs
from quantlab.graph.passes import Workpiece
from quantlab.graph.prepare import prepare
from quantlab.graph.tensors import float_tensor, integer_tensor, to_array
from tests.graph.builders import CAPTURING, build, normal

DIAMOND = "g (float[2,3] x) => (float[2,3] y) { [a] t = Relu(x) [b] u = Neg(t) [c] v = Mul(t, t) [d] y = Add(u, v) }"


def names_of(nodes: tuple[onnx.NodeProto, ...]) -> list[str]:
    return [node.name for node in nodes]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_nodes_come_after_what_they_read_whatever_the_file_says(order: tuple[int, ...]) -> None:
    model = build(DIAMOND)
    nodes = [model.graph.node[index] for index in order]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    view = GraphView.of(model)
    made = {"x"}
    for position, node in enumerate(view.nodes):
        assert set(node.input) <= made
        assert view.position(node) == position
        made |= set(node.output)
    assert len(view.nodes) == 4


def test_a_sorted_file_keeps_its_order() -> None:
    assert names_of(GraphView.of(build(DIAMOND)).nodes) == ["a", "b", "c", "d"]


def test_readers_uses_and_origins() -> None:
    view = GraphView.of(build(DIAMOND))
    assert names_of(view.readers("t")) == ["b", "c"]
    assert [(use.node.name, use.index) for use in view.uses["t"]] == [("b", 0), ("c", 0), ("c", 1)]
    assert view.only_reader("t") is None
    assert view.only_reader("v") is view.producers["y"]
    assert view.only_reader("y") is None
    assert view.readers("nobody") == ()
    assert (view.inputs, view.outputs) == (("x",), ("y",))


def test_captures_count_as_reading() -> None:
    view = GraphView.of(build(CAPTURING))
    (use, again) = view.uses["t"]
    assert (use.node.op_type, use.index, use.inside, again.inside) == ("If", -1, True, True)
    assert view.only_reader("t") is None
    assert [captured(graph) for graph in subgraphs(use.node)] == [["t"], ["t"]]


def test_captures_through_two_levels_and_shadowed_names() -> None:
    text = """g (bool c, float[2] x) => (float[A] y) {
        far = Relu(x) near = Exp(x)
        y = If(c) <
            then_branch = r () => (float[A] b) {
                near = Neg(x)
                b = If(c) <
                    then_branch = p () => (float[A] m) { m = Neg(far) },
                    else_branch = q () => (float[A] k) { k = Abs(near) }
                >
            },
            else_branch = s () => (float[A] o) { o = Abs(x) }
        >
    }"""
    view = GraphView.of(build(text))
    assert {name for name, uses in view.uses.items() if any(use.inside for use in uses)} == {"c", "x", "far"}


def test_types_shapes_and_constants() -> None:
    text = "g (float[2,N] x, float16[3] h, int64 i) => (float[2,N] y) { t = own.Thing(h, i) y = Add(x, w) }"
    view = GraphView.of(build(text, {"w": normal(0, 2, 1)}, domains={"own": 1}))
    assert view.shape("x") == (2, "N")
    assert (view.shape("w"), view.shape("t"), view.shape("i")) == ((2, 1), None, ())
    assert view.float_type("x") == np.float32
    assert view.float_type("h") == np.float16
    assert (view.float_type("i"), view.float_type("t")) == (None, None)
    np.testing.assert_array_equal(view.constant("w"), normal(0, 2, 1))
    assert view.constant("x") is None


def test_attributes_by_name() -> None:
    view = GraphView.of(build("g (float[2,3] x) => (float[2,3] y) { y = Softmax<axis = 1>(x) }"))
    assert view.attribute(view.nodes[0], "axis") == 1
    assert view.attribute(view.nodes[0], "none", "default") == "default"


def test_the_opset_is_that_of_the_default_domain() -> None:
    assert default_opset(build(DIAMOND, opset=17, domains={"ai.onnx.ml": 3})) == 17
    assert default_opset(onnx.ModelProto()) == 1


REFUSED = {
    "[a] t = Relu(y) [b] y = Neg(t)": "the graph has a cycle through Relu 'a'",
    "[a] t = Relu(x) [b] t = Neg(x) y = Abs(t)": "tensor 't' is made twice: by Neg 'b' and by Relu 'a'",
    "[a] x = Relu(w) y = Neg(x)": "tensor 'x' is made twice: by Relu 'a' and by a graph input or initializer",
    "y = Relu(gone)": "unnamed Relu making ['y'] reads tensor 'gone', which nothing makes",
}


@pytest.mark.parametrize("nodes", REFUSED)
def test_a_graph_that_does_not_hang_together_is_refused(nodes: str) -> None:
    with pytest.raises(ModelError) as caught:
        GraphView.of(build(f"g (float[2] x) => (float[2] y) {{ {nodes} }}", {"w": normal(0, 2)}))
    assert str(caught.value) == REFUSED[nodes]


def test_a_cycle_through_a_subgraph_is_found() -> None:
    with pytest.raises(ModelError, match="the graph has a cycle through "):
        GraphView.of(build(CAPTURING.replace("t = Relu(x)", "t = Relu(y)")))


@settings(deadline=None, max_examples=100)
@given(
    taken=st.lists(st.sampled_from(["a", "a_1", "a_2", "b", ""])), wanted=st.lists(st.sampled_from(["a", "a_1", "b"]))
)
def test_fresh_names_are_never_taken(taken: list[str], wanted: list[str]) -> None:
    names = Names(taken)
    given_out = [names.fresh(name) for name in wanted]
    assert len({*taken, *given_out}) == len(set(taken)) + len(given_out)
    assert all(made.startswith(name) for made, name in zip(given_out, wanted, strict=True))


def test_names_of_a_model_include_those_of_subgraphs() -> None:
    names = Names.of(build(CAPTURING.replace("p = Neg(t)", "[inside] p = Neg(t)"), {"w": normal(0, 1)}))
    for name in ("x", "y", "t", "w", "p", "q", "r", "inside"):
        assert names.fresh(name) == f"{name}_1"


def _rename(piece: Workpiece) -> list[str]:
    piece.model.graph.name += "!"
    return [f"named {piece.model.graph.name!r}"]


def test_a_pass_copies_and_says_what_it_did() -> None:
    model = build(DIAMOND)
    result = Sequential(
        Pass(name="one", edit=_rename), Pass(name="two", edit=lambda _: []), Pass(name="three", edit=_rename)
    )(model)
    assert (model.graph.name, result.model.graph.name) == ("g", "g!!")
    assert (result.changed, result.notes) == (True, ("one: named 'g!'", "three: named 'g!!'"))
    assert Pass(name="idle", edit=lambda _: [])(model).changed is False


def test_a_pass_checks_what_it_requires_and_ensures() -> None:
    with pytest.raises(PassError) as caught:
        Pass(name="picky", edit=_rename, requires=lambda _: "no wheels")(build(DIAMOND))
    assert str(caught.value) == "pass 'picky' cannot run: no wheels"
    with pytest.raises(PassError) as caught:
        Pass(name="sloppy", edit=_rename, ensures=lambda _: "a wheel is loose")(build(DIAMOND))
    assert str(caught.value) == "pass 'sloppy' left the model in a wrong state: a wheel is loose"


INTEGERS = [name for name, row in DTYPES.items() if row.onnx_code in (2, 3, 4, 5, 6, 21, 22)]


@settings(deadline=None, max_examples=100)
@given(name=st.sampled_from(INTEGERS), shape=st.lists(st.integers(0, 5), max_size=3), seed=st.integers(0, 99))
def test_integers_survive_the_way_through_a_tensor(name: str, shape: list[int], seed: int) -> None:
    row = DTYPES[name]
    values = np.random.default_rng(seed).integers(row.qmin, row.qmax, shape, endpoint=True).astype(row.storage)
    tensor = integer_tensor("t", values, row)
    onnx.checker.check_tensor(tensor)
    np.testing.assert_array_equal(to_array(tensor), values)
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(row.storage), values)
    assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("t", row.onnx_code, shape)


@pytest.mark.parametrize("name", ["int4", "uint4"])
def test_four_bit_tensors_written_by_onnx_are_read(name: str) -> None:
    row = DTYPES[name]
    values = np.arange(row.qmin, row.qmax + 1)[:15].astype(row.storage).reshape(3, 5)
    theirs = onnx.helper.make_tensor("t", row.onnx_code, [3, 5], values.ravel().tolist())
    np.testing.assert_array_equal(to_array(theirs), values)
    raw = onnx.helper.make_tensor("t", row.onnx_code, [3, 5], integer_tensor("t", values, row).raw_data, raw=True)
    np.testing.assert_array_equal(to_array(raw), values)


@pytest.mark.parametrize("dtype", FLOATS.values())
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_floats_survive_whatever_their_layout(dtype: np.dtype[np.float32], shape: tuple[int, ...]) -> None:
    values = np.asarray(normal(0, *shape)).astype(dtype).T
    tensor = float_tensor("w", values)
    onnx.checker.check_tensor(tensor)
    np.testing.assert_array_equal(to_array(tensor), values)
    assert tuple(tensor.dims) == values.shape


def chain(length: int) -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(length)]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [2, 3]) for name in ("t0", f"t{length}")]
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=8)


def test_time_grows_with_the_length_and_not_with_its_square() -> None:
    def seconds(length: int) -> float:
        model = chain(length)
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            prepare(model)
            best = min(best, time.perf_counter() - start)
        return best

    # Eight times the nodes take 64 times as long in a quadratic pass; 24 leaves room for a busy machine.
    assert seconds(8000) < 24 * seconds(1000)
