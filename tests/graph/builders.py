"""Small models written as text, and the question every test of a pass asks: does it still compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, parser

Array = npt.NDArray[Any]
LOADABLE_IR = 10


def build(
    text: str,
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    ir_version: int = LOADABLE_IR,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """Parse a graph such as `g (float[2] x) => (float[2] y) { y = Relu(x) }` and give it initializers."""
    graph = parser.parse_graph(text)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in (constants or {}).items())
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = ir_version
    return model


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a model in onnxruntime as it is written: nothing is optimized away."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Mapping[str, Array]) -> None:
    """Assert that two models give the same bits, and that the second is valid ONNX."""
    onnx.checker.check_model(after, full_check=True)
    old, new = run(before, feeds), run(after, feeds)
    assert list(old) == list(new)
    for name, value in old.items():
        np.testing.assert_array_equal(new[name], value, err_msg=name)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def initializers(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def normal(seed: int, *shape: int, dtype: type = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


CAPTURING = """g (bool c, float[2,3] x) => (float[A,B] y) {
    t = Relu(x)
    y = If(c) <
        then_branch = yes () => (float[A,B] p) { p = Neg(t) },
        else_branch = no () => (float[A,B] q) { r = Identity(t) q = Exp(r) }
    >
}"""
"""An If whose branches read `t` of the outer graph, and an Identity in one of them."""
