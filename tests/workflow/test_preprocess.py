"""quant_pre_process: the peer's arguments, what each does, and what is refused."""

import inspect
import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import quant_pre_process as peer
from onnxruntime.quantization.quant_utils import model_has_pre_process_metadata

import quantlab
from quantlab.errors import ModelError, OptionError, QuantlabWarning
from quantlab.graph.files import load, model_size, save
from quantlab.workflow.preprocess import MARK, is_pre_processed
from tests.graph.builders import build, initializers, normal, operators, run

CONV = """g (float[N,3,8,8] x) => (float[N,4,6,6] y) {
    c = Conv(x, w, b) [bn] n = BatchNormalization(c, s, o, m, v) t = Identity(n) y = Relu(t)
}"""
SQUARES = np.eye(3, dtype=np.float32) * np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1)
FEED = {"x": normal(9, 2, 3, 8, 8)}


def conv_bn(opset=17):
    constants = {"w": normal(0, 4, 3, 3, 3), "b": normal(1, 4), "v": np.abs(normal(5, 4)) + 0.5}
    constants |= {name: normal(index, 4) for index, name in enumerate(("s", "o", "m"), 2)}
    return build(CONV, constants, opset=opset)


def refusal(*args, **options):
    with pytest.raises(OptionError) as caught:
        quantlab.quant_pre_process(*args, **options)
    return str(caught.value)


def types(model):
    return {value.name for value in model.graph.value_info}


def test_names_order_and_defaults_are_the_peers():
    def listed(function):
        parameters = list(inspect.signature(function).parameters.values())
        return [(one.name, one.default) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]

    assert listed(quantlab.quant_pre_process) == listed(peer)


def test_a_model_is_prepared_marked_and_computes_the_same(tmp_path):
    given = conv_bn()
    before = given.SerializeToString()
    result = quantlab.quant_pre_process(given, tmp_path / "out.onnx")
    assert given.SerializeToString() == before
    written = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(written, full_check=True)
    assert operators(written) == ["Conv", "Relu"]
    assert result.nodes == (4, 2)
    assert "infer-shapes: onnx found types and shapes of 3 tensors: 'c', 'n', 't'" in result.notes
    assert model_has_pre_process_metadata(written)
    assert is_pre_processed(written)
    np.testing.assert_allclose(run(written, FEED)["y"], run(given, FEED)["y"], atol=1e-5)


def test_the_outputs_are_those_of_the_peer(tmp_path):
    save(conv_bn(), tmp_path / "in.onnx")
    peer(tmp_path / "in.onnx", tmp_path / "peer.onnx")
    quantlab.quant_pre_process(tmp_path / "in.onnx", tmp_path / "ours.onnx")
    theirs, ours = onnx.load(tmp_path / "peer.onnx"), onnx.load(tmp_path / "ours.onnx")
    assert operators(theirs) == operators(ours)
    np.testing.assert_allclose(run(ours, FEED)["y"], run(theirs, FEED)["y"], atol=1e-5)


def test_the_mark_of_others_is_kept():
    model = conv_bn()
    model.metadata_props.add(key=MARK, value="someone else")
    found = quantlab.quant_pre_process(model).model.metadata_props
    assert [(entry.key, entry.value) for entry in found] == [(MARK, "someone else")]
    assert [entry.value for entry in quantlab.quant_pre_process(conv_bn()).model.metadata_props] == [
        "onnxruntime.quant"
    ]


def test_skip_optimization_leaves_the_nodes_and_adds_shapes():
    result = quantlab.quant_pre_process(conv_bn(), skip_optimization=True)
    assert operators(result.model) == ["Conv", "BatchNormalization", "Identity", "Relu"]
    assert types(result.model) == {"c", "n", "t"}
    assert initializers(result.model).keys() == initializers(conv_bn()).keys()


def test_each_inference_can_be_skipped():
    assert types(quantlab.quant_pre_process(conv_bn(), None, True, True, False).model) == {"c", "n", "t"}
    only_symbolic = quantlab.quant_pre_process(conv_bn(), None, True, True, False).notes
    assert only_symbolic[0].startswith("infer-shapes: onnxruntime's symbolic inference found")
    gelu = build(
        "g (float[N,3] x) => (float[A,B] y) { [k] t = com.microsoft.Gelu(x) y = Relu(t) }", domains={"com.microsoft": 1}
    )
    assert types(quantlab.quant_pre_process(gelu, skip_symbolic_shape=True).model) == set()
    assert types(quantlab.quant_pre_process(gelu).model) == {"t"}
    neither = quantlab.quant_pre_process(conv_bn(), skip_onnx_shape=True, skip_symbolic_shape=True)
    assert operators(neither.model) == ["Conv", "Relu"]
    assert types(neither.model) == set()


def test_int_max_is_the_end_of_open_slices():
    text = """g (float[N,4] x) => (float[A,B] y) {
        s = com.microsoft.Gelu(x) t = Slice(s, start, end, axes) y = com.microsoft.Gelu(t)
    }"""
    constants = {"start": np.array([0]), "end": np.array([1000]), "axes": np.array([0])}
    model = build(text, constants, domains={"com.microsoft": 1})

    def rows(**options):
        found = quantlab.quant_pre_process(model, skip_optimization=True, **options).model
        (shape,) = [value.type.tensor_type.shape for value in found.graph.value_info if value.name == "t"]
        return shape.dim[0].dim_param

    assert rows() == "Min(1000, N)"
    assert rows(int_max=1000) == "N"


def test_data_is_run_where_inference_gives_up():
    text = "g (float[N,3,3] x) => (float[A,B,C] y) { t = com.microsoft.Inverse(x) u = Relu(t) y = Neg(u) }"
    model = build(text, domains={"com.microsoft": 1})
    assert types(quantlab.quant_pre_process(model).model) == set()
    result = quantlab.quant_pre_process(model, data={"x": SQUARES})
    assert types(result.model) == {"t", "u"}
    assert any("running the model on 4 samples found types and shapes of 2 tensors" in note for note in result.notes)


def test_onnxruntimes_optimization_is_there_on_request():
    given = conv_bn()
    result = quantlab.quant_pre_process(given, optimize="onnxruntime")
    assert result.notes[0] == "onnxruntime-optimize: 4 nodes became 2"
    assert {entry.domain for entry in result.model.opset_import} == {""}
    np.testing.assert_allclose(run(result.model, FEED)["y"], run(given, FEED)["y"], atol=1e-5)


def test_a_weight_goes_out_from_the_threshold_on(tmp_path):
    text = "g (float[1] x) => (float[A] y) { a = Mul(x, less) c = Mul(x, equal) y = Concat<axis=0>(a, c) }"
    constants = {"less": np.ones(255, np.float32), "equal": np.ones(256, np.float32)}
    for one, location, files in (
        (True, None, {"m.onnx.data"}),
        (False, None, {"m.onnx.equal.data"}),
        (False, "weights.bin", {"weights.bin"}),
    ):
        folder = tmp_path / f"{one}{location}"
        folder.mkdir()
        options = {"save_as_external_data": True, "all_tensors_to_one_file": one, "external_data_location": location}
        result = quantlab.quant_pre_process(build(text, constants), folder / "m.onnx", **options)
        assert {path.name for path in folder.iterdir()} == {"m.onnx", *files}
        bare = onnx.load(folder / "m.onnx", load_external_data=False)
        assert {tensor.name: tensor.data_location for tensor in bare.graph.initializer} == {"less": 0, "equal": 1}
        assert load(folder / "m.onnx") == load(folder / "m.onnx")
        again = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(folder / "m.onnx").graph.initializer
        }
        assert all((again[name] == value).all() for name, value in initializers(result.model).items())
        assert model_size(folder / "m.onnx") > 1024


def test_every_tensor_gets_a_file_of_its_own(tmp_path):
    text = "g (float[1] x) => (float[A] y) { a = Mul(x, p) c = Mul(x, q) y = Concat<axis=0>(a, c) }"
    constants = {"p": np.ones(256, np.float32), "q": np.zeros(256, np.float32)}
    options = {"save_as_external_data": True, "external_data_size_threshold": 0}
    quantlab.quant_pre_process(build(text, constants), tmp_path / "m.onnx", **options)
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.onnx.p.data", "m.onnx.q.data"}


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("../w.data", "external data goes into the folder of the model: '../w.data' is no plain file name"),
        ("/w.data", "external data goes into the folder of the model: '/w.data' is no plain file name"),
        ("m.onnx", "external data cannot go into 'm.onnx', the model file itself: give another name"),
    ],
)
def test_places_for_external_data_that_are_refused(tmp_path, location, text):
    given = conv_bn()
    options = {"external_data_location": location, "external_data_size_threshold": 0, "save_as_external_data": True}
    assert refusal(given, tmp_path / "m.onnx", **options).startswith(text)
    assert list(tmp_path.iterdir()) == []


def test_the_former_name_of_the_first_argument():
    assert quantlab.quant_pre_process(input_model_path=conv_bn()).nodes == (4, 2)
    both = refusal(conv_bn(), input_model_path=conv_bn())
    assert both == "input_model and input_model_path are two names of the same argument: give input_model"
    assert refusal() == "input_model is missing: give a path, bytes or a ModelProto"


def test_options_that_are_refused(tmp_path):
    assert refusal(conv_bn(), skip_optimisation=True) == (
        "quant_pre_process has no option 'skip_optimisation'; did you mean 'skip_optimization'?"
    )
    assert refusal(conv_bn(), None, True, True, True) == (
        "skip_optimization, skip_onnx_shape and skip_symbolic_shape together leave nothing to do: drop one of them"
    )
    assert refusal(conv_bn(), optimize="onnxruntim") == (
        "unknown optimizer 'onnxruntim'; did you mean 'onnxruntime'? (allowed: quantlab, onnxruntime)"
    )
    assert refusal(conv_bn(), optimize="onnxruntime", skip_optimization=True) == (
        "skip_optimization and optimize='onnxruntime' contradict each other: drop one of them"
    )
    assert refusal(conv_bn(), external_data_size_threshold=-1) == (
        "the least size of external tensors is -1 bytes: it has to be 0 or more"
    )
    path = tmp_path / "m.onnx"
    save(conv_bn(), path)
    assert refusal(path, path) == f"output_model_path {str(path)!r} is the input model itself: give another name"


def test_a_quantized_model_is_refused():
    nodes = "q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)"
    with pytest.raises(ModelError, match="the model is already quantized"):
        quantlab.quant_pre_process(build(f"g (float[2] x) => (float[2] y) <float s = {{0.5}}> {{ {nodes} }}"))


# ----------------------------------------------------------------------------------------------- what quantizing says


def test_quantizing_says_nothing_where_its_own_preparation_does_the_work():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantlab.prepare_for(conv_bn())


def test_quantizing_recommends_preprocessing_where_it_would_help():
    text = "g (float[N,3,3] x) => (float[A,B,C] y) { t = com.microsoft.Inverse(x) u = Relu(t) y = Neg(u) }"
    model = build(text, domains={"com.microsoft": 1})
    with pytest.warns(QuantlabWarning) as caught:
        quantlab.prepare_for(model)
    assert [str(one.message) for one in caught] == [
        "2 tensors have no known type and stay in float, the first is 't': `quantlab preprocess --data` "
        "(quant_pre_process(data=...)) finds their types by running the model"
    ]
    ready = quantlab.quant_pre_process(model, data={"x": SQUARES}).model
    quantlab.prepare_for(ready)
