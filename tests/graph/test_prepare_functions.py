"""Local functions are replaced by their bodies, and what stands in them is quantized."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from quantlab.backend import OrtBackend
from quantlab.errors import ModelError
from quantlab.graph.prepare import INLINE_FUNCTIONS, prepare

NESTED = """<ir_version: 8, opset_import: ["": 17, "own": 1]>
g (float[2,3] x) => (float[2,4] y, float[2,4] z)
<float[3,4] w = {1, 0, -1, 2, 0.5, 3, -2, 1, 0, 1, 1, -3}> {
    y = own.layer(x, w)
    z = own.layer(x, w)
}
<domain: "own", opset_import: ["": 17, "own": 1]> layer (a, b) => (c) { t = MatMul(a, b) c = own.act(t) }
<domain: "own", opset_import: ["": 17]> act (a) => (c) { c = Relu(a) }"""
X = {"x": np.array([[1, -2, 3], [0.5, 1, -1]], np.float32)}


def run(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return OrtBackend().open(model)(X)


def test_calls_and_calls_within_become_nodes_of_their_own_names() -> None:
    model = onnx.parser.parse_model(NESTED)
    result = INLINE_FUNCTIONS(model)
    assert result.notes == ("inline-functions: 2 local functions were replaced by their bodies: 'layer', 'act'",)
    assert [node.op_type for node in result.model.graph.node] == ["MatMul", "Relu", "MatMul", "Relu"]
    made = [name for node in result.model.graph.node for name in node.output]
    assert len(set(made)) == 4
    assert not result.model.functions
    for name, value in run(model).items():
        np.testing.assert_array_equal(run(result.model)[name], value)


def test_a_function_written_in_another_opset_is_converted() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]> g (float[2,3] x) => (float[2,3] y) { y = own.f(x) }
    <domain: "own", opset_import: ["": 12]> f (a) => (b) { b = Softmax<axis = 1>(a) }"""
    model = onnx.parser.parse_model(text)
    result = prepare(model).model
    assert [node.op_type for node in result.graph.node][-1:] != ["f"]
    np.testing.assert_allclose(run(result)["y"], run(model)["y"], rtol=1e-6)


def test_layers_in_functions_are_quantized() -> None:
    result = quantlab.quantize_static(onnx.parser.parse_model(NESTED), None, [X])
    # The two calls are the same, so that one of them is left, and an Identity for the second output.
    statuses = {plan.op: plan.status for plan in result.plan.nodes.values()}
    assert statuses == {"MatMul": "quantized", "Relu": "absorbed", "Identity": "float"}


def test_a_function_that_calls_itself_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]> g (float[2,3] x) => (float[2,3] y) { y = own.f(x) }
    <domain: "own", opset_import: ["": 17, "own": 1]> f (a) => (b) { c = own.f(a) b = Neg(c) }"""
    with pytest.raises(ModelError) as caught:
        prepare(onnx.parser.parse_model(text))
    assert "functions of the model cannot be inlined" in str(caught.value)
