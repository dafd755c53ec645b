"""Each pass of the preparation: the same outputs before and after, what it refuses, and its notes word by word.

Apart from batch normalization (tested in its own file) no pass does arithmetic, so outputs are compared bit for bit.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantlab.errors import ModelError, PassError
from quantlab.graph.prepare import (
    DROP_INITIALIZER_INPUTS,
    DROP_UNUSED,
    INFER_SHAPES,
    LIFT_CONSTANTS,
    NAME_NODES,
    REMOVE_IDENTITY,
    SORT_NODES,
    STATE_IR_VERSION,
    prepare,
    raise_opset,
)
from tests.graph.builders import CAPTURING, assert_same, build, initializers, normal, operators, run

X = {"x": normal(0, 2, 3)}
IN, OUT = "float[2,3] x", "float[2,3] y"


# ------------------------------------------------------------------------------------------------ IR version, inputs


def test_a_newer_ir_version_is_lowered() -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ y = Relu(x) }}", ir_version=14)
    with pytest.raises(Exception, match="14"):
        run(model, X)
    result = STATE_IR_VERSION(model)
    assert result.model.ir_version == 13
    assert result.notes == (
        "state-ir-version: IR version 14 became 13: the newest that onnxruntime 1.31.1 loads; nothing in the model "
        "needs a newer one",
    )
    np.testing.assert_array_equal(run(result.model, X)["y"], np.maximum(X["x"], 0))


@pytest.mark.parametrize(
    ("stated", "opset", "wanted"), [(3, 9, 4), (3, 7, 4), (6, 13, 7), (8, 13, 8), (7, 21, 10), (13, 21, 13)]
)
def test_the_ir_version_is_what_the_opset_needs_and_no_less(stated: int, opset: int, wanted: int) -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ y = Relu(x) }}", ir_version=stated, opset=opset)
    assert STATE_IR_VERSION(model).model.ir_version == wanted
    assert model.ir_version == stated


def test_a_type_newer_than_the_runtime_is_refused() -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ y = Relu(x) }}", ir_version=14)
    model.graph.initializer.append(onnx.TensorProto(name="w", data_type=27, dims=[0]))
    with pytest.raises(ModelError) as caught:
        STATE_IR_VERSION(model)
    assert str(caught.value) == (
        "tensor 'w' has type FLOAT6E2M3, which needs an IR version above 13, the newest that onnxruntime 1.31.1 loads: "
        "export the model with another type"
    )


def test_initializers_are_no_longer_inputs() -> None:
    text = f"g ({IN}, float[3] w) => ({OUT}) {{ y = Add(x, w) }}"
    model = build(text, {"w": normal(1, 3)}, ir_version=3, opset=8)
    result = prepare(model)
    assert [value.name for value in result.model.graph.input] == ["x"]
    assert (
        "drop-initializer-inputs: 1 initializers are no longer inputs that a caller could override: 'w'" in result.notes
    )
    assert_same(model, result.model, X)
    with pytest.raises(PassError) as caught:
        REMOVE_IDENTITY(model)
    assert str(caught.value) == (
        "pass 'remove-identity' cannot run: initializer 'w' is a graph input too; run 'drop-initializer-inputs' first"
    )
    assert DROP_INITIALIZER_INPUTS(result.model).changed is False


# ------------------------------------------------------------------------------------------------------- constants


def test_every_numeric_constant_becomes_an_initializer() -> None:
    text = f"""g ({IN}) => ({OUT}) {{
        a = Constant<value = float[3] {{1, 2, 3}}>()
        b = Constant<value_float = 0.5>()
        c = Constant<value_floats = [1.0, 2.0, 4.0]>()
        d = Constant<value_int = 2>()
        e = Constant<value_ints = [2, 3]>()
        t = Mul(x, a) u = Add(t, b) v = Mul(u, c)
        f = Cast<to = 1>(d) w = Mul(v, f) y = Reshape(w, e)
    }}"""
    model = build(text)
    result = LIFT_CONSTANTS(model)
    assert result.notes == ("lift-constants: 5 Constant nodes became initializers",)
    lifted = initializers(result.model)
    assert {name: (value.dtype.name, value.shape) for name, value in lifted.items()} == {
        "a": ("float32", (3,)),
        "b": ("float32", ()),
        "c": ("float32", (3,)),
        "d": ("int64", ()),
        "e": ("int64", (2,)),
    }
    assert_same(model, result.model, X)


def test_constants_that_stay_are_noted() -> None:
    text = f"""g ({IN}) => ({OUT}, float[1] k, string s) {{
        [keep] k = Constant<value_floats = [7.0]>()
        [text] s = Constant<value_string = "hello">()
        [sparse] z = Constant()
        y = Add(x, z)
    }}"""
    model = build(text)
    values = onnx.numpy_helper.from_array(np.array([2.5], np.float32))
    sparse = onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.array([4])), [2, 3])
    model.graph.node[2].attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
    result = LIFT_CONSTANTS(model)
    assert result.notes == (
        "lift-constants: left Constant 'keep' alone: graph output 'k' has to be made by a node",
        "lift-constants: left Constant 'text' alone: its value is given as 'value_string', which is no dense array "
        "of numbers",
        "lift-constants: left Constant 'sparse' alone: its value is given as 'sparse_value', which is no dense array "
        "of numbers",
    )
    assert result.model.graph == model.graph


def test_a_constant_read_by_a_subgraph_is_lifted_and_one_inside_is_not() -> None:
    text = CAPTURING.replace("t = Relu(x)", "t = Constant<value = float[1,3] {1, 2, 3}>()").replace(
        "p = Neg(t)", "k = Constant<value_float = 3.0>() p = Add(t, k)"
    )
    model = build(text)
    result = prepare(model)
    assert operators(result.model) == ["If"]
    for flag in (True, False):
        assert_same(model, result.model, {"c": np.array(flag), **X})


# ----------------------------------------------------------------------------------------------------------- names


def test_unnamed_and_equally_named_nodes_get_names_of_their_own() -> None:
    text = f"g ({IN}) => ({OUT}) {{ [a] t = Relu(x) u = Relu(t) [a] v = Neg(u) [b] Relu_1 = Neg(v) y = Abs(Relu_1) }}"
    model = build(text)
    result = NAME_NODES(model)
    assert [node.name for node in result.model.graph.node] == ["a", "Relu_1_1", "Neg_2", "b", "Abs_4"]
    assert result.notes == (
        "name-nodes: 2 nodes without a name got one",
        "name-nodes: Neg 'a' has the name of an earlier node and became 'Neg_2'",
    )
    with pytest.raises(Exception, match="two nodes with same node name"):
        run(model, X)
    for node in model.graph.node:
        node.name = ""
    assert_same(model, result.model, X)
    assert NAME_NODES(result.model).changed is False


def test_the_same_model_gets_the_same_names() -> None:
    model = build(LOOP)
    assert NAME_NODES(model).model == NAME_NODES(model).model
    assert [node.name for node in NAME_NODES(model).model.graph.node] == [
        "Identity_0",
        "Constant_1",
        "Constant_2",
        "loop",
    ]


# ---------------------------------------------------------------------------------------------------------- order


def test_nodes_are_sorted_with_captures_counted() -> None:
    model = build(CAPTURING)
    model.graph.node.reverse()
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    result = SORT_NODES(model)
    assert operators(result.model) == ["Relu", "If"]
    assert result.notes == ("sort-nodes: 2 nodes moved so that each comes after what it reads",)
    for flag in (True, False):
        assert_same(build(CAPTURING), result.model, {"c": np.array(flag), **X})
    assert SORT_NODES(result.model).changed is False


# --------------------------------------------------------------------------------------------- identity and dropout

IDENTITIES = {
    "in the middle": ("t = Relu(x) u = Identity(t) y = Neg(u)", ["Relu", "Neg"]),
    "of an input": ("t = Identity(x) y = Neg(t)", ["Neg"]),
    "a row, two readers": (
        "t = Identity(x) u = Identity(t) a = Neg(u) b = Exp(t) y = Add(a, b)",
        ["Neg", "Exp", "Add"],
    ),
    "before an output": ("t = Relu(x) y = Identity(t)", ["Relu"]),
    "a row before an output": ("t = Relu(x) u = Identity(t) v = Identity(u) y = Identity(v)", ["Relu"]),
    "before an output, read elsewhere": ("t = Relu(x) y = Identity(t) z = Neg(t)", ["Relu", "Neg"]),
    "dropout": ("t = Relu(x) y, mask = Dropout(t)", ["Relu"]),
    "dropout with a ratio and training off": ("t = Relu(x) u = Dropout(t, r, off) y = Neg(u)", ["Relu", "Neg"]),
}


@pytest.mark.parametrize("kind", IDENTITIES)
def test_what_hands_on_its_input_is_removed(kind: str) -> None:
    nodes, left = IDENTITIES[kind]
    outputs = f"{OUT}, float[2,3] z" if "z =" in nodes else OUT
    constants = {"r": np.array(0.5, np.float32), "off": np.array(False)} if "off" in nodes else {}
    model = build(f"g ({IN}) => ({outputs}) {{ {nodes} }}", constants)
    result = REMOVE_IDENTITY(model)
    assert operators(result.model) == left
    assert_same(model, result.model, X)


def test_identity_of_an_initializer() -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ t = Identity(w) y = Add(x, t) }}", {"w": normal(1, 3)})
    result = REMOVE_IDENTITY(model)
    assert list(result.model.graph.node[0].input) == ["x", "w"]
    assert_same(model, result.model, X)


KEPT = {
    "[i] y = Identity(x)": "left Identity 'i' alone: it makes graph input 'x' the graph output 'y'",
    "[i] y = Identity(w)": "left Identity 'i' alone: it makes initializer 'w' the graph output 'y'",
    "y = Relu(x) [i] z = Identity(y)": "left Identity 'i' alone: it makes graph output 'z' a copy of graph output 'y'",
    "[d] y, z = Dropout(x)": "left Dropout 'd' alone: its mask 'z' is read",
    "[d] t, m = Dropout(x) n = Cast<to = 1>(m) y = Add(t, n)": "left Dropout 'd' alone: its mask 'm' is read",
    "[d] t = Dropout(x, r, on) y = Relu(t)": "left Dropout 'd' alone: it is in training mode",
    "k = Not(on) [d] t = Dropout(x, r, k) y = Relu(t)": "left Dropout 'd' alone: whether it trains is computed ('k')",
}


@pytest.mark.parametrize("nodes", KEPT)
def test_what_has_to_stay_stays_and_is_noted(nodes: str) -> None:
    z = ("bool" if "Dropout" in nodes else "float") + "[2,3] z"
    outputs = f"{OUT}, {z}" if " z = " in nodes or ", z" in nodes else OUT
    constants = {"w": normal(1, 2, 3), "r": np.array(0.5, np.float32), "on": np.array(True)}
    model = build(f"g ({IN}) => ({outputs}) {{ {nodes} }}", constants)
    result = REMOVE_IDENTITY(model)
    assert result.notes == (f"remove-identity: {KEPT[nodes]}",)
    assert result.model == model


def test_two_outputs_from_one_tensor_keep_one_identity() -> None:
    model = build(f"g ({IN}) => ({OUT}, float[2,3] z) {{ t = Relu(x) y = Identity(t) [k] z = Identity(t) }}")
    result = REMOVE_IDENTITY(model)
    assert operators(result.model) == ["Relu", "Identity"]
    assert (
        result.notes[1]
        == "remove-identity: left Identity 'k' alone: it makes graph output 'z' a copy of graph output 'y'"
    )
    assert_same(model, result.model, X)


@pytest.mark.parametrize("swap", [False, True])
def test_a_subgraph_reads_what_took_the_place_of_an_identity(swap: bool) -> None:
    """`swap`: the tensor that the branches read takes the name of an output, instead of giving way to another."""
    if swap:
        text = CAPTURING.replace("=> (float[A,B] y)", "=> (float[A,B] y, float[2,3] z)").replace(
            "t = Relu(x)", "t = Relu(x) z = Identity(t)"
        )
    else:
        text = CAPTURING.replace("t = Relu(x)", "s = Relu(x) t = Identity(s)")
    model = build(text)
    result = REMOVE_IDENTITY(model)
    assert operators(result.model) == ["Relu", "If"]
    for flag in (True, False):
        assert_same(model, result.model, {"c": np.array(flag), **X})


def test_an_identity_whose_input_a_subgraph_hides_stays() -> None:
    text = CAPTURING.replace("t = Relu(x)", "r = Relu(x) [i] t = Identity(r)")
    result = REMOVE_IDENTITY(build(text))
    assert result.notes == ("remove-identity: left Identity 'i' alone: a subgraph that reads 't' has a 'r' of its own",)


def test_the_mask_of_a_dropout_in_training_before_opset_7() -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ [d] t = Dropout(x) [e] u = Dropout<is_test = 1>(t) y = Relu(u) }}", opset=6)
    assert REMOVE_IDENTITY(model).notes == (
        "remove-identity: left Dropout 'd' alone: it is in training mode (is_test is 0)",
        "remove-identity: removed Dropout 'e'",
    )


# -------------------------------------------------------------------------------------------- shapes, unused weights


def test_shapes_are_found_through_computed_reshapes() -> None:
    text = f"""g ({IN}) => (float[A] y) <int64[1] all = {{-1}}> {{
        s = Shape(x) n = ReduceProd(s) y = Reshape(x, n)
        t = Reshape(x, all) u = Relu(t)
    }}"""
    model = build(text)
    result = INFER_SHAPES(model)
    known = {value.name: value.type.tensor_type.shape for value in result.model.graph.value_info}
    assert [dim.dim_value for dim in known["u"].dim] == [6]
    assert result.notes == ("infer-shapes: onnx found types and shapes of 4 tensors: 's', 'n', 't', ...",)
    assert INFER_SHAPES(result.model).changed is False


def test_what_has_no_shape_is_counted_and_what_fails_is_noted() -> None:
    text = f"g ({IN}) => (float[A,B] y) {{ [k] t = own.Thing(x) [r] y = Relu(t) }}"
    assert INFER_SHAPES(build(text, domains={"own": 1})).notes == (
        "infer-shapes: 1 of 2 tensors have no known shape, the first is 't' made by Thing 'k'",
    )
    unimported = build(f"g ({IN}) => (float[A] y) {{ y = own.Thing(x) }}")
    assert INFER_SHAPES(unimported).notes == (
        "infer-shapes: onnx's shape inference failed, shapes stay as they are: [TypeInferenceError] Cannot infer type "
        "and shape for node name . No opset import for domain own optype Thing",
    )


def test_an_output_without_a_type_gets_one() -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ y = Relu(x) }}")
    model.graph.output[0].ClearField("type")
    assert [dim.dim_value for dim in INFER_SHAPES(model).model.graph.output[0].type.tensor_type.shape.dim] == [2, 3]


def test_unused_weights_and_descriptions_leave() -> None:
    text = CAPTURING.replace("p = Neg(t)", "p = Add(t, inner)")
    model = build(text, {"inner": normal(1, 3), "dead": normal(2, 3), "dead2": normal(3, 3)})
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("ghost", 1, [1]))
    result = DROP_UNUSED(model)
    assert list(initializers(result.model)) == ["inner"]
    assert result.notes == (
        "drop-unused: 2 initializers that nothing reads are gone: 'dead', 'dead2'",
        "drop-unused: 1 descriptions of tensors that no node makes are gone",
    )


# ---------------------------------------------------------------------------------------------------------- opset

OLD = {
    "softmax": ("y = Softmax<axis = 0>(x)", range(9, 13)),
    "clip": ("y = Clip<min = -0.5, max = 0.25>(x)", range(9, 11)),
    "clip from above": ("y = Clip<max = 0.25>(x)", range(9, 11)),
    "dropout": ("t = Dropout<ratio = 0.3>(x) y = Relu(t)", range(9, 12)),
    "squeeze": ("t = Unsqueeze<axes = [0]>(x) y = Squeeze<axes = [0]>(t)", range(9, 13)),
    "split": ("a, b = Split<axis = 1, split = [1, 2]>(x) y = Concat<axis = 1>(b, a)", range(9, 13)),
    "pad and slice": (
        "p = Pad<pads = [0, 1, 0, 0], value = 0.5>(x) y = Slice<axes = [1], starts = [0], ends = [3]>(p)",
        [9],
    ),
    "reduce": ("s = ReduceSum<axes = [1], keepdims = 1>(x) y = Div(x, s)", range(9, 13)),
    "constants": ("k = Constant<value = float[3] {1, 2, 3}>() y = Mul(x, k)", range(9, 13)),
}


@pytest.mark.parametrize(("kind", "opset"), [(kind, opset) for kind, (_, range_) in OLD.items() for opset in range_])
@pytest.mark.parametrize("minimum", [13, 21])
def test_old_opsets_are_raised_and_compute_the_same(kind: str, opset: int, minimum: int) -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ {OLD[kind][0]} }}", opset=opset, ir_version=4)
    result = prepare(model, min_opset=minimum)
    assert result.model.opset_import[0].version == minimum
    assert f"raise-opset: opset {opset} became {minimum}" in result.notes
    assert_same(model, result.model, X)


@pytest.mark.parametrize("operator", ["Upsample", "Resize"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(2, 2), (3, 2), (1.5, 2.5), (1, 1.7), (0.5, 0.5), (0.6, 0.4)])
def test_upsampling_keeps_its_old_sampling_points(operator: str, mode: str, scales: tuple[float, float]) -> None:
    if operator == "Upsample" and min(scales) < 1:
        return  # the operator only enlarges
    height, width = (int(np.floor(size * scale)) for size, scale in zip((6, 9), scales, strict=True))
    text = f'g (float[1,2,6,9] x) => (float[1,2,{height},{width}] y) {{ y = {operator}<mode = "{mode}">(x, s) }}'
    model = build(text, {"s": np.array([1, 1, *scales], np.float32)}, opset=9 if operator == "Upsample" else 10)
    assert_same(model, prepare(model).model, {"x": normal(0, 1, 2, 6, 9)})


def test_computed_scales_are_taken_to_enlarge_and_mixed_ones_are_refused() -> None:
    text = "g (float[1,2,6,9] x, float[4] s) => (float[A,B,C,D] y) { [r] y = Resize(x, s) }"
    model = build(text, opset=10)
    result = prepare(model)
    assert "raise-opset: Resize 'r' is taken to enlarge: its scales 's' are computed" in result.notes
    assert_same(model, result.model, {"x": normal(0, 1, 2, 6, 9), "s": np.array([1, 1, 2, 3], np.float32)})
    mixed = build(text.replace(", float[4] s", ""), {"s": np.array([1, 1, 2, 0.5], np.float32)}, opset=10)
    with pytest.raises(ModelError) as caught:
        prepare(mixed)
    assert str(caught.value) == (
        "operator Resize 'r' shrinks and enlarges at once (scales [1.0, 1.0, 2.0, 0.5]) by nearest neighbour, which "
        "opset 11 cannot express as opset 10 does: export the model again with a newer opset"
    )


def test_clip_and_pad_keep_the_type_of_their_data() -> None:
    text = (
        "g (float16[2,3] x) => (float16[2,4] y) { t = Clip<max = 0.5>(x) y = Pad<pads = [0, 1, 0, 0], value = 0.1>(t) }"
    )
    model = build(text, opset=10, ir_version=5)
    assert_same(model, prepare(model).model, {"x": normal(0, 2, 3, dtype=np.float16)})


def test_subgraphs_custom_operators_and_functions_are_raised_too() -> None:
    old = CAPTURING.replace("p = Neg(t)", "u = Unsqueeze<axes = [0]>(t) p = Squeeze<axes = [0]>(u)").replace(
        "r = Identity(t)", "r = Softmax<axis = 0>(t)"
    )
    model = build(old, opset=11, ir_version=6)
    for flag in (True, False):
        assert_same(model, prepare(model).model, {"c": np.array(flag), **X})
    custom = build(
        f"g ({IN}) => ({OUT}) {{ t = com.microsoft.Gelu(x) y = Softmax<axis = 0>(t) }}",
        opset=11,
        domains={"com.microsoft": 1},
    )
    np.testing.assert_array_equal(run(prepare(custom).model, X)["y"], run(custom, X)["y"])
    function = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 12, "own": 1]> g ({IN}) => ({OUT}) {{ y = own.f(x) }}
        <domain: "own", opset_import: ["": 12]> f (a) => (b) {{ c = Softmax<axis = 0>(a) b = Neg(c) }}"""
    )
    result = prepare(function)
    assert "inline-functions: 1 local functions were replaced by their bodies: 'f'" in result.notes
    assert_same(function, result.model, X)


def test_empty_optional_inputs_and_metadata_survive_the_conversion() -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ y = Clip(x,, top) }}", {"top": np.array(0.5, np.float32)}, opset=11)
    model.metadata_props.add(key="author", value="somebody")
    model.graph.doc_string = "kept"
    result = prepare(model).model
    assert (result.metadata_props[0].value, result.graph.doc_string) == ("somebody", "kept")
    assert_same(model, result, X)


def test_weights_do_not_pass_through_the_converter() -> None:
    model = build(
        "g (float[2,300] x) => (float[2,4] y) { t = Softmax<axis = 0>(x) y = MatMul(t, w) }",
        {"w": normal(1, 300, 4)},
        opset=12,
    )
    result = raise_opset(13)(model).model
    assert result.graph.initializer[0] == model.graph.initializer[0]
    assert [value.name for value in result.graph.input] == ["x"]
    assert_same(model, result, {"x": normal(0, 2, 300)})


def test_a_model_of_custom_operators_only_imports_the_opset() -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ y = com.microsoft.Gelu(x) }}", domains={"com.microsoft": 1})
    del model.opset_import[0]
    result = raise_opset(13)(model)
    assert result.notes == ("raise-opset: opset 13 is imported, in which the quantized operators are written",)
    np.testing.assert_array_equal(run(result.model, X)["y"], run(model, X)["y"])


def test_what_cannot_be_converted_is_refused_by_name() -> None:
    unknown = build(f"g ({IN}) => ({OUT}) {{ y = Blur(x) }}", opset=11)
    with pytest.raises(ModelError) as caught:
        raise_opset(13)(unknown)
    assert str(caught.value) == (
        "operator Blur is unknown to ONNX and cannot be raised from opset 11; quantization needs opset 13 (the model "
        "has 11): export the model again with that or newer"
    )
    text = f"g ({IN}) => ({OUT}) <float[3] s = {{1, 1, 1}}> {{ y, a, b, c, d = BatchNormalization(x, s, s, s, s) }}"
    with pytest.raises(ModelError) as caught:
        raise_opset(21)(build(text, opset=12))
    assert str(caught.value) == (
        "operator BatchNormalization cannot be converted from opset 13 to 14; quantization needs opset 21 (the model "
        "has 12): export the model again with that or newer. onnx.version_converter says: BatchNormalization outputs 4 "
        "and 5 are not supported in Opset 14."
    )


# ------------------------------------------------------------------------------------------------------- the whole

LOOP = """g (float[2,3] x, int64 n) => (float[2,3] y, float[N,M,K] z) {
    t = Identity(x) k = Constant<value = float {0.5}>() go = Constant<value = bool {1}>()
    [loop] y, z = Loop(n, go, t) <
        body = b (int64 i, bool cin, float[2,3] acc) => (bool cout, float[2,3] next, float[2,3] s) {
        cout = Identity(cin) next = Mul(acc, k) s = Add(next, t)
    }>
}"""


def test_a_loop_survives() -> None:
    model = build(LOOP)
    result = prepare(model)
    assert operators(result.model) == ["Loop"]
    assert [node.op_type for node in result.model.graph.node[0].attribute[0].g.node] == ["Identity", "Mul", "Add"]
    assert_same(model, result.model, {"n": np.array(3), **X})


def test_a_scan_survives() -> None:
    text = """g (float[2,3] x, float[5,2,3] seq) => (float[2,3] last, float[5,2,3] all) {
        t = Relu(x) k = Identity(t)
        last, all = Scan<num_scan_inputs = 1, body =
            b (float[2,3] state, float[2,3] item) => (float[2,3] o, float[2,3] p) {
            o = Add(state, item) p = Mul(o, k)
        }>(x, seq)
    }"""
    model = build(text)
    result = prepare(model)
    assert operators(result.model) == ["Relu", "Scan"]
    assert_same(model, result.model, {"seq": normal(1, 5, 2, 3), **X})


def test_preparing_twice_changes_nothing_more() -> None:
    model = build(LOOP, opset=13)
    once = prepare(model).model
    assert prepare(once).model == once


def test_an_input_that_is_an_output() -> None:
    model = build(f"g ({IN}) => (float[2,3] x, {OUT}) {{ t = Identity(x) y = Relu(t) }}")
    result = prepare(model).model
    assert operators(result) == ["Relu"]
    assert_same(model, result, X)


def test_a_model_without_a_name_gets_one() -> None:
    model = build(f"g ({IN}) => ({OUT}) {{ y = Relu(x) }}")
    model.graph.ClearField("name")
    result = prepare(model)
    assert "name-nodes: the graph had no name and became 'main'" in result.notes
    assert_same(model, result.model, X)


def test_the_given_model_is_not_changed() -> None:
    model = build(LOOP, opset=12, ir_version=7)
    before = model.SerializeToString(deterministic=True)
    prepare(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_quantized_model_is_not_prepared() -> None:
    text = f"g ({IN}) => ({OUT}) <float s = {{0.5}}> {{ a = QuantizeLinear(x, s) y = DequantizeLinear(a, s) }}"
    with pytest.raises(ModelError, match=r"^the model is already quantized: 2 of its 2 nodes"):
        prepare(build(text))


def test_what_the_converter_cannot_even_read_is_refused() -> None:
    text = f"g ({IN}) => ({OUT}) {{ [z] z = Constant() y = Add(x, z) }}"
    model = build(text, opset=12)
    values = onnx.numpy_helper.from_array(np.array([2.5], np.float32))
    sparse = onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.array([4])), [2, 3])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
    with pytest.raises(ModelError, match="cannot be converted from opset 12 to 13; quantization needs opset 13"):
        prepare(model)
