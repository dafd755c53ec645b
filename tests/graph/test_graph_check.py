"""Models that are refused before anything is done to them, and the words."""

from __future__ import annotations

import onnx
import pytest

from quantlab.errors import ModelError
from quantlab.graph.check import check_float_model, is_quantized
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
