"""Fusions as passes, and the tables of operators that can be quantized."""

import inspect

import numpy as np
import onnx
import pytest
from onnx import helper, parser
from onnx.reference import ReferenceEvaluator
from onnxruntime import quantization as peer
from onnxruntime.quantization import fusions as peer_fusions
from onnxruntime.quantization import registry as peer_registry
from onnxruntime.quantization.onnx_model import ONNXModel as PeerModel

from quantlab import ort as ours
from quantlab.errors import OptionError, QuantlabError
from quantlab.graph.prepare import REMOVE_IDENTITY
from quantlab.ort import fusions, registry
from quantlab.ort.onnx_model import ONNXModel
from quantlab.plan import op_rules

GELU = """g (float[2,3] x) => (float[2,3] y) {
    root = Constant<value = float {1.4142135}>()
    one = Constant<value = float {1}>()
    half = Constant<value = float {0.5}>()
    d = Div(x, root)
    e = Erf(d)
    a = Add(e, one)
    m = Mul(x, a)
    y = Mul(m, half)
}"""
NORM = """g (float[2,3] x, float[3] scale, float[3] bias) => (float[2,3] y) {
    two = Constant<value = float {2}>()
    tiny = Constant<value = float {0.00001}>()
    mean = ReduceMean<axes = [1]>(x)
    d = Sub(x, mean)
    p = Pow(d, two)
    v = ReduceMean<axes = [1]>(p)
    s = Add(v, tiny)
    r = Sqrt(s)
    q = Div(d, r)
    w = Mul(q, scale)
    y = Add(w, bias)
}"""


def model(text, opset=17):
    graph = parser.parse_graph(text)
    constants = [value for value in graph.input if value.name != "x"]
    for value in constants:
        graph.input.remove(value)
        graph.initializer.append(helper.make_tensor(value.name, onnx.TensorProto.FLOAT, [3], [0.5, 1, 2]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(("name", "text"), [("FusionGelu", GELU), ("FusionLayerNormalization", NORM)])
def test_fusions_find_what_the_peers_find(name, text):
    mine, theirs = ONNXModel(model(text)), PeerModel(model(text))
    assert getattr(fusions, name)(mine).apply()
    assert getattr(peer_fusions, name)(theirs).apply()
    mine.remove_unused_constant()
    kinds = [[(node.op_type, node.domain) for node in one.nodes()] for one in (mine, theirs)]
    assert kinds[0] == kinds[1]
    assert len(kinds[0]) == 1
    assert not getattr(fusions, name)(mine).apply()


def test_a_fused_normalization_computes_the_same():
    x, one = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32), ONNXModel(model(NORM))
    fusions.FusionLayerNormalization(one).apply()
    found, wanted = (ReferenceEvaluator(m).run(None, {"x": x})[0] for m in (one.model, model(NORM)))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_fusion_is_made_of_passes():
    one = ONNXModel(model("g (float[2,3] x) => (float[2,3] y) { t = Identity(x) y = Relu(t) }"))
    assert fusions.Fusion(one, REMOVE_IDENTITY).apply()
    assert [node.op_type for node in one.nodes()] == ["Relu"]
    with pytest.raises(OptionError, match=r"^a Fusion is made of passes here \(quantlab.graph.Pass\), got 'Gelu'$"):
        fusions.Fusion(one, "Gelu")
    with pytest.raises(QuantlabError, match="quant_pre_process does it where it raises the opset"):
        fusions.ReplaceUpsampleWithResize(one, 9)


def test_upsampling_is_replaced_where_the_opset_is_raised(tmp_path):
    text = """g (float[1,1,2,2] x) => (float[1,1,4,4] y) {
        s = Constant<value = float[4] {1, 1, 2, 2}>()
        y = Upsample<mode = "nearest">(x, s)
    }"""
    made = ours.quant_pre_process(model(text, 9), tmp_path / "o.onnx").model
    assert [node.op_type for node in made.graph.node] == ["Resize"]
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(ReferenceEvaluator(made).run(None, {"x": x})[0], x.repeat(2, 2).repeat(2, 3))


def test_registries_list_what_has_a_rule():
    assert set(registry.QDQRegistry) == set(registry.QLinearOpsRegistry) == set(op_rules)
    assert registry.QDQRegistry["Conv"] is op_rules["Conv"]
    assert len(registry.QDQRegistry) == len(list(op_rules))
    assert "Conv" in registry.QDQRegistry
    assert set(registry.CommonOpsRegistry) <= set(peer_registry.CommonOpsRegistry)
    assert dict(registry.IntegerOpsRegistry) == {}
    with pytest.raises(OptionError, match="there is no rule for operator 'Cnv'; did you mean 'Conv'"):
        registry.QDQRegistry["Cnv"]


def test_pre_processing_takes_the_peers_arguments_in_their_order():
    mine, theirs = (inspect.signature(room.quant_pre_process).parameters for room in (ours, peer))
    positional = [p.name for p in mine.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == [p.name for p in theirs.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [mine[name].default for name in positional] == [theirs[name].default for name in positional]
