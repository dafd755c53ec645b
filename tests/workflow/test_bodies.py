"""Bodies of control-flow nodes as models, and the samples they see."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantlab.backend import OrtBackend
from quantlab.graph.prepare import INFER_SHAPES
from quantlab.graph.scopes import Scope, scopes_of, with_bodies
from quantlab.workflow.bodies import body_batches

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
BRANCHES = f"""{HEAD} g (bool c, float[2,3] x) => (float[2,3] y) <float[3,3] w = {{1, 0, 0, 0, 1, 0, 0, 0, 2}}> {{
    t = Neg(x)
    [if] y = If(c) <
        then_branch = a () => (float[2,3] p) {{ p = MatMul(t, w) }},
        else_branch = b () => (float[2,3] r) {{ q = MatMul(x, w) r = Relu(q) }}
    >
}}"""
LOOP = f"""{HEAD} g (float[2,3] x, int64 n) => (float[2,3] y, float[k,2,3] zs)
<float[3,3] w = {{1, 0, 0, 0, 1, 0, 0, 0, 2}}> {{
    [loop] y, zs = Loop(n, , x) <body = b (int64 i, bool go, float[2,3] v) => (bool on, float[2,3] u, float[2,3] z) {{
        top = ReduceMax<keepdims = 0>(v)
        limit = Constant<value = float {{6.0}}>()
        on = Less(top, limit)
        p = MatMul(v, w)
        u = Add(p, x)
        z = Relu(u)
    }}>
}}"""
SCAN = f"""{HEAD} g (float[2] s, float[2,4] x) => (float[2] y, float[2,4] zs) {{
    [scan] y, zs = Scan<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], scan_input_directions = [1]
    , body = b (float[2] v, float[2] a) => (float[2] u, float[2] z) {{ u = Add(v, a) z = Relu(u) }}>(s, x)
}}"""
X = np.array([[1, -2, 3], [0.5, 1, -1]], np.float32)


def parsed(text: str) -> onnx.ModelProto:
    return INFER_SHAPES(onnx.parser.parse_model(text)).model


def scopes(model: onnx.ModelProto) -> dict[str, Scope]:
    return {scope.key: scope for scope in scopes_of(model)}


def last_outputs(model: onnx.ModelProto, key: str, batch: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Run a body on every sample it sees; an oracle in which onnxruntime carries the node out is beside each use."""
    scope = scopes(model)[key]
    backend = OrtBackend()
    body = backend.open(scope.model)
    return [body(seen) for seen in body_batches(backend, model, scope, [batch])]


def test_a_branch_is_a_model_with_what_it_takes_from_outside() -> None:
    found = scopes(parsed(BRANCHES))
    assert {key: scope.outer for key, scope in found.items()} == {"if.then_branch": ("t",), "if.else_branch": ("x",)}
    for scope in found.values():
        onnx.checker.check_model(scope.model)
        assert [tensor.name for tensor in scope.model.graph.initializer] == ["w"]


@pytest.mark.parametrize("taken", [True, False])
def test_only_the_branch_that_is_taken_sees_a_sample(taken: bool) -> None:
    model = parsed(BRANCHES)
    batch = {"c": np.array(taken), "x": X}
    keys = ("if.then_branch", "if.else_branch")
    chosen, other = keys if taken else keys[::-1]
    assert last_outputs(model, other, batch) == []
    (found,) = last_outputs(model, chosen, batch)
    np.testing.assert_array_equal(*found.values(), OrtBackend().open(model)(batch)["y"])


@pytest.mark.parametrize("most", [0, 2, 100])
def test_the_rounds_of_a_loop_are_those_that_onnxruntime_makes(most: int) -> None:
    model = parsed(LOOP)
    batch = {"x": X, "n": np.array(most, np.int64)}
    wanted = OrtBackend().open(model)(batch)
    found = last_outputs(model, "loop.body", batch)
    assert len(found) == wanted["zs"].shape[0]
    for given, row in zip(found, wanted["zs"], strict=True):
        np.testing.assert_array_equal(given["z"], row)


def test_a_scan_is_walked_along_its_axis_and_backwards() -> None:
    model = parsed(SCAN)
    batch = {"s": np.array([1, -1], np.float32), "x": np.arange(8, dtype=np.float32).reshape(2, 4)}
    wanted = OrtBackend().open(model)(batch)
    found = last_outputs(model, "scan.body", batch)
    np.testing.assert_array_equal(np.stack([given["z"] for given in found], axis=1), wanted["zs"])
    np.testing.assert_array_equal(found[-1]["u"], wanted["y"])


def test_a_new_body_gets_names_that_hide_nothing_and_shares_constants_again() -> None:
    model = parsed(BRANCHES)
    changed = {}
    for key, scope in scopes(model).items():
        body = scope.model
        node = body.graph.node[0]
        body.graph.node.insert(0, onnx.helper.make_node("Neg", [node.input[0]], ["y"]))  # a name that is taken outside
        body.graph.node.insert(1, onnx.helper.make_node("Neg", ["y"], ["again"]))
        node.input[0] = "again"
        changed[key] = body
    result = with_bodies(model, changed)
    onnx.checker.check_model(result)
    branches = [attribute.g for attribute in result.graph.node[1].attribute]
    assert [list(branch.initializer) for branch in branches] == [[], []]
    made = [name for branch in branches for node in branch.node for name in node.output]
    assert len(set(made)) == len(made)
    for taken in (True, False):
        batch = {"c": np.array(taken), "x": X}
        np.testing.assert_array_equal(OrtBackend().open(result)(batch)["y"], OrtBackend().open(model)(batch)["y"])
