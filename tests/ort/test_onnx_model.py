"""`ONNXModel` beside the peer's: the same answers and the same edited graphs."""

import copy

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization.onnx_model import ONNXModel as Peer

from quantlab.errors import DataError, ModelError, OptionError
from quantlab.ort.onnx_model import ONNXModel

TEXT = """net (float[2,3] x, float[3,4] w) => (float[2,4] y, float[2,4] z) {
    k = Constant<value = float[2] {1, 2}>()
    dead = Constant<value = float[1] {1}>()
    m_0 = MatMul(x, w)
    a = Add(m_0, b)
    y = Relu(a)
    z = Mul(a, m_0)
}"""


def net():
    """A graph with a constant of each kind, an input that is an initializer, and things that nobody reads."""
    graph = parser.parse_graph(TEXT)
    for index, node in enumerate(graph.node):
        node.name = f"node_{index}"
    rng = np.random.default_rng(0)
    arrays = {"w": (3, 4), "b": (4,), "unread": (2,), "unread_7": (2,)}
    graph.initializer.extend(
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in arrays.items()
    )
    graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [2, 4]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def pair():
    return ONNXModel(net()), Peer(net())


def plain(value):
    """Protos as their bytes, so that answers can be compared."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.SerializeToString(deterministic=True) if hasattr(value, "SerializeToString") else value


QUESTIONS = {
    "nodes": lambda m: list(m.nodes()),
    "initializer": lambda m: list(m.initializer()),
    "graph": lambda m: m.graph(),
    "ir_version": lambda m: m.ir_version(),
    "opset_import": lambda m: list(m.opset_import()),
    "get_initializer": lambda m: [m.get_initializer(name) for name in ("w", "none")],
    "names": lambda m: sorted(m.get_initializer_name_set()),
    "find_graph_input": lambda m: [m.find_graph_input(name) for name in ("x", "y")],
    "find_graph_output": lambda m: [m.find_graph_output(name) for name in ("x", "y")],
    "is_graph_input": lambda m: [m.is_graph_input(name) for name in ("x", "a")],
    "is_graph_output": lambda m: [m.is_graph_output(name) for name in ("y", "a")],
    "get_tensor_type": lambda m: [m.get_tensor_type(name) for name in ("x", "a", "z", "m_0")],
    "get_constant_value": lambda m: [m.get_constant_value(name) for name in ("k", "b", "a")],
    "get_non_initializer_inputs": lambda m: sorted(m.get_non_initializer_inputs()),
    "input_name_to_nodes": lambda m: m.input_name_to_nodes(),
    "output_name_to_node": lambda m: m.output_name_to_node(),
    "get_children": lambda m: [m.get_children(node) for node in m.nodes()],
    "get_children_given": lambda m: m.get_children(m.nodes()[2], m.input_name_to_nodes()),
    "get_parents": lambda m: [m.get_parents(node) for node in m.nodes()],
    "get_parents_given": lambda m: m.get_parents(m.nodes()[3], m.output_name_to_node()),
    "get_parent": lambda m: [m.get_parent(node, index) for node in m.nodes() for index in range(3)],
    "find_node_by_name": lambda m: [
        m.find_node_by_name(name, [helper.make_node("Abs", ["a"], ["c"], "new")], m.graph())
        for name in ("node_2", "new", "none")
    ],
    "find_nodes_by_initializer": lambda m: m.find_nodes_by_initializer(m.graph(), m.get_initializer("w")),
    "get_largest_node_name_suffix": lambda m: [m.get_largest_node_name_suffix(p) for p in ("node_", "nod", "x")],
    "get_largest_initializer_name_suffix": lambda m: [
        m.get_largest_initializer_name_suffix(p) for p in ("unread_", "unread", "w")
    ],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_the_peers(pair, question):
    mine, theirs = (plain(QUESTIONS[question](model)) for model in pair)
    assert mine == theirs


EDITS = {
    "set_opset_import": lambda m: (m.set_opset_import("", 18), m.set_opset_import("com.microsoft", 1)),
    "remove_node": lambda m: m.remove_node(copy.deepcopy(m.nodes()[1])),
    "remove_nodes": lambda m: m.remove_nodes([m.nodes()[0], m.nodes()[1]]),
    "remove_no_node": lambda m: m.remove_node(helper.make_node("Abs", ["a"], ["b"])),
    "add_node": lambda m: m.add_node(helper.make_node("Abs", ["a"], ["c"])),
    "add_nodes": lambda m: m.add_nodes([helper.make_node("Abs", ["a"], [name]) for name in "cd"]),
    "add_initializer": lambda m: [m.add_initializer(numpy_helper.from_array(np.ones(1), name)) for name in ("w", "n")],
    "initializer_extend": lambda m: m.initializer_extend([numpy_helper.from_array(np.ones(1), "n")]),
    "remove_initializer": lambda m: m.remove_initializer(m.get_initializer("w")),
    "remove_initializers": lambda m: m.remove_initializers([m.get_initializer("w"), m.get_initializer("b")]),
    "replace_node_input": lambda m: m.replace_node_input(m.nodes()[5], "a", "y"),
    "replace_input_of_all_nodes": lambda m: m.replace_input_of_all_nodes("a", "m_0"),
    "replace_input_of_nodes": lambda m: m.replace_input_of_nodes("a", "m_0", {"node_4"}),
    "replace_node_output": lambda m: m.replace_node_output(m.nodes()[3], "a", "c"),
    "replace_output_of_all_nodes": lambda m: m.replace_output_of_all_nodes("a", "c"),
    "replace_output_of_nodes": lambda m: m.replace_output_of_nodes("a", "c", {"node_3"}),
    "remove_unused_constant": lambda m: m.remove_unused_constant(),
    "topological_sort": lambda m: m.topological_sort(),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_are_the_peers(pair, edit):
    for model in pair:
        EDITS[edit](model)
    mine, theirs = (plain(model.model) for model in pair)
    assert mine == theirs


def test_unread_initializers_are_cleaned(pair):
    (graph, missing), (wanted, absent) = (model.clean_initializers() for model in pair)
    assert plain(graph) == plain(wanted)
    assert missing == absent == set()
    assert [tensor.name for tensor in graph.initializer] == ["w", "b"]
    model = ONNXModel(net())
    model.remove_initializer(model.get_initializer("b"))
    assert model.clean_initializers()[1] == {"b"}


def gemms():
    """Two Gemms that share a transposed weight, one that scales, and one without a bias."""
    graph = parser.parse_graph("""net (float[2,3] x) => (float[2,4] y, float[2,4] z, float[2,4] s, float[2,4] n) {
        y = Gemm<transB = 1>(x, w, b)
        z = Gemm<transB = 1>(x, w, b)
        s = Gemm<transB = 1, alpha = 0.5>(x, w, b)
        n = Gemm<transB = 1>(x, w)
    }""")
    rng = np.random.default_rng(1)
    graph.initializer.extend(
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in {"w": (4, 3), "b": (4,)}.items()
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs(model):
    return ReferenceEvaluator(model).run(None, {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})


def test_gemms_that_share_a_weight_are_taken_apart():
    """The peer transposes the weight once for each of its readers, and so breaks them."""
    wanted, made = outputs(gemms()), ONNXModel(gemms())
    made.replace_gemm_with_matmul()
    assert [node.op_type for node in made.nodes()] == ["MatMul", "Add", "MatMul", "Add", "Gemm", "MatMul"]
    onnx.checker.check_model(made.model)
    for found, right in zip(outputs(made.model), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6)
    theirs = Peer(gemms())
    theirs.replace_gemm_with_matmul()
    with pytest.raises(Exception, match=r"shapes|dimension|mismatch"):
        outputs(theirs.model)


def branches():
    """An If whose branches read what a node makes that stands behind it in the file."""
    inner = [
        helper.make_graph([helper.make_node(op, ["late"], ["r"])], op, [], [helper.make_empty_tensor_value_info("r")])
        for op in ("Abs", "Neg")
    ]
    nodes = [
        helper.make_node("If", ["c"], ["y"], "if", then_branch=inner[0], else_branch=inner[1]),
        helper.make_node("Add", ["x", "k"], ["late"], "add"),
    ]
    values = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
    ]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    graph = helper.make_graph(nodes, "g", values, result, [numpy_helper.from_array(np.ones(1, np.float32), "k")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_a_subgraph_reads_comes_before_it():
    """The peer does not see what subgraphs read, and leaves a model that the checker refuses."""
    made, theirs = ONNXModel(branches()), Peer(branches())
    made.topological_sort()
    theirs.topological_sort()
    assert [node.name for node in made.nodes()] == ["add", "if"]
    onnx.checker.check_model(made.model)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(theirs.model)


def test_saved_models(pair, tmp_path):
    for name, model in zip("ab", pair, strict=True):
        model.save_model_to_file(tmp_path / f"{name}.onnx")
        model.save_model_to_file(tmp_path / f"{name}2.onnx", use_external_data_format=True)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    mine, theirs = (onnx.load(tmp_path / f"{name}2.onnx") for name in "ab")
    assert [numpy_helper.to_array(t).tobytes() for t in mine.graph.initializer] == [
        numpy_helper.to_array(t).tobytes() for t in theirs.graph.initializer
    ]


def test_what_is_refused(pair):
    model = pair[0]
    with pytest.raises(OptionError, match=r"^there is no initializer to add: give at least one$"):
        model.initializer_extend([])
    bad = helper.make_tensor("f", TensorProto.FLOAT8E4M3FN, [2], bytes([1, 255]), raw=True)
    with pytest.raises(DataError, match=r"^initializer 'f' of float8 has NaN$"):
        model.add_initializer(bad)
    node = helper.make_node("DequantizeLinear", ["q", "s", "b"], ["d"], "dq")
    with pytest.raises(ModelError, match=r"^DequantizeLinear 'dq' would read FLOAT: its zero point 'b' is a float$"):
        model.add_node(node)
