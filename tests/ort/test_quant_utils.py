"""The small things of `quant_utils` beside the peer's: names, look-ups, records, marks, opsets and files."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quant_utils as peer

from quantlab.errors import ModelError, OptionError, QuantlabWarning
from quantlab.ort import quant_utils as ours
from tests.ort.models import small_model

SUFFIXES = [f"add_{which}_{end}suffix" for which in ("quant", "dequant") for end in ("", "input_", "output_")]


@pytest.mark.parametrize("name", SUFFIXES)
def test_names_of_new_tensors_are_the_peers(name):
    assert getattr(ours, name)("a/b:0") == getattr(peer, name)("a/b:0")


def test_constants_are_the_peers():
    for name in ("QUANT_OP_NAME", "QUANT_INPUT_SUFFIX", "DEQUANT_OP_NAME", "DEQUANT_OUTPUT_SUFFIX"):
        assert getattr(ours, name) == getattr(peer, name)
    assert ours.TENSOR_NAME_QUANT_SUFFIX == peer.TENSOR_NAME_QUANT_SUFFIX


ATTRIBUTES = [
    helper.make_attribute("a", value)
    for value in (
        1.5,
        7,
        "text",
        [1.5, 2.5],
        [1, 2],
        ["a", "b"],
        helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]),
    )
] + [helper.make_attribute("g", helper.make_graph([], "g", [], []))]


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda one: onnx.AttributeProto.AttributeType.Name(one.type))
def test_attributes_become_keywords(attribute):
    assert ours.attribute_to_kwarg(attribute) == peer.attribute_to_kwarg(attribute)


def test_attributes_that_have_no_keyword():
    with pytest.raises(OptionError, match="attribute 'a' is of type UNDEFINED, which make_node takes no value of here"):
        ours.attribute_to_kwarg(onnx.AttributeProto(name="a"))


def test_look_ups_are_the_peers():
    nodes = [helper.make_node("Abs", ["x"], ["y"], name) for name in ("a", "b", "a")]
    for name in ("a", "b", "c"):
        assert ours.find_by_name(name, nodes) == peer.find_by_name(name, nodes)
        assert ours.get_elem_index(name, ["a", "b", "a"]) == peer.get_elem_index(name, ["a", "b", "a"])
    assert ours.get_mul_node(["a", "b"], "c", "n") == peer.get_mul_node(["a", "b"], "c", "n")
    for path in (Path("m/a.onnx"), Path("a")):
        assert ours.generate_identified_filename(path, "-x") == peer.generate_identified_filename(path, "-x")


def test_records_have_the_peers_fields():
    for name, args in (
        ("QuantizedInitializer", ("w", None, [0], [1], [0], [1.0])),
        ("QuantizedValue", ("w", "q", "s", "z", None, 1, "Conv", 3, 1)),
        ("BiasToQuantize", ("b", "x", "w")),
    ):
        mine, theirs = (vars(getattr(room, name)(*args)) for room in (ours, peer))
        assert list(mine) == list(theirs)
        assert {key: value for key, value in mine.items() if key not in ("data", "quantized_data")} == {
            key: value for key, value in theirs.items() if key not in ("data", "quantized_data")
        }


def test_marks_are_the_peers(tmp_path):
    for add, has in (
        ("add_pre_process_metadata", "model_has_pre_process_metadata"),
        ("add_infer_metadata", "model_has_infer_metadata"),
    ):
        for writer, other in ((ours, peer), (peer, ours)):
            model = small_model()
            assert not getattr(writer, has)(model)
            getattr(writer, add)(model)
            assert getattr(writer, has)(model)
            assert getattr(other, has)(model)


def test_models_are_read_with_their_types(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(small_model(), path)
    made = [room.load_model_with_shape_infer(path) for room in (ours, peer)]
    made += [room.save_and_reload_model_with_shape_infer(small_model()) for room in (ours, peer)]
    known = [{value.name: value.type for value in model.graph.value_info} for model in made]
    assert set(known[0]) == {"c", "r", "p", "f"}
    assert known[0] == known[1] == known[2] == known[3]
    assert all(ours.model_has_infer_metadata(model) for model in made)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("opset", "weight", "activation", "block", "wanted"),
    [
        (17, "QInt8", "QUInt8", 0, 17),
        (17, "QInt8", "QUInt16", 0, 21),
        (17, "QInt16", None, 0, 21),
        (17, "QInt8", None, 32, 21),
        (17, "QFLOAT8E4M3FN", "QFLOAT8E4M3FN", 0, 19),
        (9, "QInt8", "QUInt8", 0, 11),
        (21, "QInt16", "QUInt16", 0, 21),
    ],
)
def test_opsets_rise_as_the_peers(opset, weight, activation, block, wanted):
    found = []
    for room in (ours, peer):
        kinds = room.QuantType[weight], activation and room.QuantType[activation]
        model = small_model(opset)
        if room is ours and wanted != opset:
            with pytest.warns(QuantlabWarning, match=f"the model is raised to opset {wanted}; check what comes out"):
                made = room.update_opset_version(model, *kinds, block_size=block)
        else:
            made = room.update_opset_version(model, *kinds, block_size=block)
        found.append(room.get_opset_version(made))
    assert found == [wanted, wanted]


def test_overrides_raise_the_opset_too():
    for entry in ({"quant_type": ours.QuantType.QInt16}, {"convert": {"quant_type": ours.QuantType.QUInt16}}):
        with pytest.warns(QuantlabWarning, match="opset 17 has no 16-bit integers"):
            made = ours.update_opset_version(small_model(), ours.QuantType.QInt8, tensor_quant_overrides={"x": [entry]})
        assert ours.get_opset_version(made) == 21


def test_a_model_without_an_opset():
    model = small_model()
    del model.opset_import[:]
    with pytest.raises(ModelError, match=r"^the model imports 0 versions of the domain ai.onnx: it has to be one$"):
        ours.get_opset_version(model)


def test_files(tmp_path):
    onnx.save(small_model(), tmp_path / "in.onnx")
    onnx.save(small_model(), tmp_path / "ext.onnx", save_as_external_data=True, size_threshold=0)
    for name, wanted in (("in.onnx", False), ("ext.onnx", True)):
        for room in (ours, peer):
            assert room.model_has_external_data(tmp_path / name) is wanted
    for room in (ours, peer):
        room.optimize_model(tmp_path / "in.onnx", tmp_path / f"{room.__name__}.onnx")
    mine, theirs = (onnx.load(tmp_path / f"{room.__name__}.onnx") for room in (ours, peer))
    for one, other in zip(mine.graph.node, theirs.graph.node, strict=True):
        assert (one.op_type, one.input, one.output) == (other.op_type, other.input, other.output)


def test_arrays_of_initializers():
    for kind in (np.float32, np.float16):
        tensor = numpy_helper.from_array(np.arange(3, dtype=kind), "w")
        assert ours.tensor_proto_to_array(tensor).tobytes() == peer.tensor_proto_to_array(tensor).tobytes()
