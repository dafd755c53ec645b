"""Models that are refused before anything is done to them, and the words."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from quantlab.errors import ModelError
from quantlab.graph.check import check_float_model, foreign_nodes, is_quantized
from quantlab.graph.files import load, save
from tests.graph.builders import CAPTURING, build, normal

QUANTIZED = [
    "QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QLinearAdd", "ConvInteger", "MatMulInteger",
    "MatMulNBits", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "QAttention", "QGemm",
]  # fmt: skip


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as caught:
        check_float_model(model)
    return str(caught.value)


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_operators_are_known(name: str) -> None:
    assert is_quantized(onnx.NodeProto(op_type=name))


@pytest.mark.parametrize("name", ["Conv", "QuickGelu", "MatMul", "DynamicSlice", "Queue", "Identity"])
def test_float_operators_are_not_taken_for_quantized(name: str) -> None:
    assert not is_quantized(onnx.NodeProto(op_type=name))


def test_a_float_model_passes() -> None:
    check_float_model(build(CAPTURING))


def test_a_quantized_model_is_refused_with_the_evidence() -> None:
    nodes = "a = Relu(x) [q] b = QuantizeLinear(a, s) y = DequantizeLinear(b, s)"
    assert refusal(build(f"g (float[2] x) => (float[2] y) <float s = {{0.5}}> {{ {nodes} }}")) == (
        "the model is already quantized: 2 of its 3 nodes are quantized operators, the first is QuantizeLinear 'q'; "
        "give the float model from which it was made"
    )


def test_a_quantized_operator_in_a_subgraph_or_a_function_is_found() -> None:
    inside = CAPTURING.replace("p = Neg(t)", "u, s, z = DynamicQuantizeLinear(t) p = DequantizeLinear(u, s, z)")
    assert refusal(build(inside)) == (
        "the model is already quantized: 2 of its 6 nodes are quantized operators, the first is DynamicQuantizeLinear "
        "making 'u', 's', 'z'; give the float model from which it was made"
    )
    function = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]> g (float[2] x) => (float[2] y) { y = own.f(x) }
        <domain: "own", opset_import: ["": 17]> f (a) => (b) { [i] b = MatMulInteger(a, a) }"""
    )
    assert "1 of its 2 nodes are quantized operators, the first is MatMulInteger 'i'" in refusal(function)


def test_broken_graphs_are_refused_by_name() -> None:
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "nothing", [], []))
    assert refusal(empty) == "graph 'nothing' has no nodes: there is nothing to quantize"
    io = "g (float[2] x) => (float[2] y)"
    assert refusal(build(io + "{ [r] y = Add(x, gone) }")) == "Add 'r' reads tensor 'gone', which nothing makes"
    assert "the graph has a cycle through " in refusal(build(io + "{ [r] y = Relu(t) [s] t = Relu(y) }"))
    assert (
        refusal(build(io + "{ [r] y = Relu(x) [s] y = Neg(x) }"))
        == "tensor 'y' is made twice: by Neg 's' and by Relu 'r'"
    )
    assert (
        refusal(build(io + "{ t = Relu(x) }")) == "graph output 'y' is made by no node: remove it or restore the node"
    )
    twice = build(io + "{ y = Add(x, w) }", {"w": normal(0, 2)})
    twice.graph.initializer.append(twice.graph.initializer[0])
    assert refusal(twice) == "initializer 'w' is there 2 times: tensor names have to be unique"
    outputs = build("g (float[2] x) => (float[2] y, float[2] y) { y = Relu(x) }")
    assert refusal(outputs) == "graph output 'y' is there 2 times: tensor names have to be unique"


def test_a_graph_input_may_be_an_output() -> None:
    check_float_model(build("g (float[2] x) => (float[2] x, float[2] y) { y = Relu(x) }"))


def test_data_that_is_not_there_or_does_not_fit_is_refused() -> None:
    model = build("g (float[2] x) => (float[2] y) { y = Add(x, w) }", {"w": normal(0, 2)})
    weight = model.graph.initializer[0]
    weight.dims[0] = 3
    assert refusal(model) == "tensor 'w' has 8 bytes, its shape (3,) needs 12: export or download the model again"
    weight.data_location = onnx.TensorProto.EXTERNAL
    assert refusal(model) == "the data of tensor 'w' is still in a file: load the model from its path"


def test_values_that_are_too_few_or_too_many_are_refused() -> None:
    model = build("g (float[2] x) => (float[2] y) { y = Add(x, w) }")
    model.graph.initializer.append(onnx.TensorProto(name="w", data_type=1, dims=[3], float_data=[1.0, 2.0]))
    assert refusal(model) == "tensor 'w' has 2 values, its shape (3,) needs 3: export or download the model again"
    weight = model.graph.initializer[0]
    del weight.float_data[:]
    assert refusal(model) == "tensor 'w' has 0 values, its shape (3,) needs 3: export or download the model again"
    weight.dims[0] = -2
    assert refusal(model) == "tensor 'w' has shape (-2,): no size may be negative"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (onnx.TensorProto.FLOAT, [1.0, 2.0, 3.0]),
        (onnx.TensorProto.DOUBLE, [1.0, 2.0, 3.0]),
        (onnx.TensorProto.FLOAT16, [1.0, 2.0, 3.0]),
        (onnx.TensorProto.BFLOAT16, [1.0, 2.0, 3.0]),
        (onnx.TensorProto.INT64, [1, 2, 3]),
        (onnx.TensorProto.BOOL, [True, False, True]),
        (onnx.TensorProto.UINT32, [1, 2, 3]),
        (onnx.TensorProto.INT4, [1, 2, 3]),
        (onnx.TensorProto.COMPLEX64, [1, 2j, 3]),
        (onnx.TensorProto.STRING, ["a", "b", "c"]),
    ],
)
@pytest.mark.parametrize("count", [0, 3])
def test_values_in_every_field_are_counted_right(kind: int, values: list[object], count: int) -> None:
    model = build("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.initializer.append(onnx.helper.make_tensor("w", kind, [count], values[:count]))
    check_float_model(model)


def test_tensors_in_attributes_and_subgraphs_are_checked_too() -> None:
    model = build(CAPTURING)
    branch = next(a.g for a in model.graph.node[1].attribute if a.name == "then_branch")
    branch.initializer.append(onnx.TensorProto(name="inner", data_type=1, dims=[4], float_data=[1.0]))
    assert refusal(model) == "tensor 'inner' has 1 values, its shape (4,) needs 4: export or download the model again"


def test_operators_of_a_domain_that_is_not_imported_are_refused() -> None:
    text = "g (float[2] x) => (float[2] y) { [k] t = own.Thing(x) y = Relu(t) }"
    assert refusal(build(text)) == (
        "Thing 'k' is an operator of domain 'own', which the model does not import: export the model again, or correct "
        "the domain"
    )
    check_float_model(build(text, domains={"own": 1}))  # whoever runs it may know the operator
    check_float_model(build(text.replace("own.Thing", "com.microsoft.Gelu")))  # onnxruntime does without the import


def test_foreign_nodes_are_those_nobody_defines() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "own": 1, "other": 1]> g (float[2] x) => (float[2] y) {
            t = own.f(x) u = com.microsoft.Gelu(t) [alien] y = other.f(u)
        }
        <domain: "own", opset_import: ["": 17]> f (a) => (b) { b = Relu(a) }"""
    )
    assert [node.name for node in foreign_nodes(model)] == ["alien"]


# ------------------------------------------------------------------------------------------------- external data


def stored(folder: Path, **entries: str) -> Path:
    """Write a model whose weight lies in `w.data`, with some entries of its external data changed."""
    save(build("g (float[2] x) => (float[2] y) { y = Add(x, w) }", {"w": normal(0, 2)}), folder / "m.onnx")
    model = onnx.load(folder / "m.onnx")
    weight = model.graph.initializer[0]
    (folder / "w.data").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "w.data", "offset": "0", "length": "8", **entries}.items():
        weight.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_external_data_that_is_there_is_read(tmp_path: Path) -> None:
    check_float_model(load(stored(tmp_path)))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "gone.data"}, "there is no file '{folder}/gone.data'; it has to lie beside the model"),
        ({"location": "../w.data"}, "its location '../w.data' is outside the folder of the model"),
        ({"location": "/etc/passwd"}, "its location '/etc/passwd' is outside the folder of the model"),
        ({"location": "link"}, "its location 'link' is outside the folder of the model"),
        ({"location": ""}, "it states no location"),
        ({"offset": "4"}, "it wants 8 bytes from byte 4 on, '{folder}/w.data' has 8 bytes"),
        ({"offset": "-4"}, "it wants 8 bytes from byte -4 on, '{folder}/w.data' has 8 bytes"),
        ({"length": "80"}, "it wants 80 bytes from byte 0 on, '{folder}/w.data' has 8 bytes"),
    ],
)
def test_external_data_that_cannot_be_had_is_refused(tmp_path: Path, entries: dict[str, str], words: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(bytes(8))
    (tmp_path / "inner" / "link").symlink_to(tmp_path / "secret")
    path = stored(tmp_path / "inner", **entries)
    with pytest.raises(ModelError) as caught:
        load(path)
    start = f"the external data of tensor 'w' of {str(path)!r} cannot be read: "
    assert str(caught.value).startswith(start + words.format(folder=tmp_path / "inner"))


def test_external_data_of_another_size_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path, length="4")
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value) == (
        f"the external data of tensor 'w' of {str(path)!r} has 4 bytes, its shape (2,) needs 8: the data file does not "
        "belong to this model"
    )
