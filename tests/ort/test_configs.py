"""Configurations and overrides beside the peer's."""

import copy
import re

import numpy as np
import onnx
import pytest
from onnxruntime import quantization as peer
from onnxruntime.quantization import registry
from onnxruntime.quantization import tensor_quant_overrides as peer_overrides

from quantlab import ort as ours
from quantlab.errors import ModelError, OptionError, QuantlabError
from quantlab.ort import tensor_quant_overrides as our_overrides
from quantlab.ort.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig
from quantlab.ort.onnx_quantizer import ONNXQuantizer
from quantlab.ort.quantize import check_static_quant_arguments
from tests.ort.models import digits, reader, samples, save_prepared_demo, small_model


def plain(config):
    """Fields of a configuration, members of enumerations by name and lists in order of names."""
    found = {}
    for name, value in vars(config).items():
        if name == "calibration_data_reader":
            continue
        named = getattr(value, "name", value)
        found[name] = sorted(named) if isinstance(named, list) else named
    return found


CONFIGS = [
    {},
    {"per_channel": True, "reduce_range": True, "min_real_range": 0.1, "keep_removable_activations": True},
    {"weight_type": "QInt4"},
    {"weight_type": "QInt4", "activation_type": "QUInt16"},
    {"op_types_to_quantize": ["Conv"], "nodes_to_exclude": ["matmul"]},
    {"nodes_to_exclude": lambda model, node: node.op_type == "MatMul"},
    {"calibrate_args": {"moving_average": True, "percentile": 9, "unknown": 1}, "activation_symmetric": True},
    {"extra_options": {"ForceQuantizeNoInputCheck": False}, "weight_symmetric": True},
]


@pytest.mark.parametrize("options", CONFIGS, ids=lambda options: re.sub(r" at 0x\w+", "", str(options)))
def test_configurations_of_whole_models_are_the_peers(options, tmp_path):
    found = []
    for room in (ours, peer):
        kinds = {name: room.QuantType[value] for name, value in options.items() if name.endswith("_type")}
        found.append(plain(room.get_qdq_config(small_model(), None, **{**options, **kinds})))
    mine, theirs = found
    assert theirs["extra_options"].pop("TensorQuantOverrides") == {}
    assert mine == theirs


def test_large_and_external_models_keep_their_weights_outside(tmp_path):
    onnx.save(small_model(), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    for room in (ours, peer):
        assert room.get_qdq_config(tmp_path / "m.onnx", None).use_external_data_format


def test_a_function_cannot_exclude_a_node_without_a_name():
    """The peer notes the empty name then, which every other nameless node has too."""
    model = small_model()
    for node in model.graph.node:
        node.ClearField("name")
    with pytest.raises(ModelError, match=r"excludes a node that has no name, the Conv that makes \['c'\]: run"):
        ours.get_qdq_config(model, None, nodes_to_exclude=lambda model, node: node.op_type == "Conv")
    assert peer.get_qdq_config(model, None, nodes_to_exclude=lambda m, n: True).nodes_to_exclude == [""]


def test_defaults_of_configurations_are_the_peers():
    for name, args in (("StaticQuantConfig", (None,)), ("DynamicQuantConfig", ())):
        mine, theirs = (plain(getattr(room, name)(*args)) for room in (ours, peer))
        assert mine == theirs


def test_quantizing_by_a_configuration(tmp_path):
    save_prepared_demo(tmp_path / "f.onnx")
    options = {"per_channel": True, "extra_options": {"QDQKeepRemovableActivations": True}}
    one = ours.quantize(
        tmp_path / "f.onnx",
        tmp_path / "q.onnx",
        ours.StaticQuantConfig(digits(), activation_type=ours.QuantType.QUInt8, **options),
    )
    other = ours.quantize_static(
        tmp_path / "f.onnx", tmp_path / "q.onnx", digits(), activation_type=ours.QuantType.QUInt8, **options
    )
    assert one.model.SerializeToString() == other.model.SerializeToString()
    whole = ours.quantize(tmp_path / "f.onnx", tmp_path / "q.onnx", ours.get_qdq_config(tmp_path / "f.onnx", digits()))
    assert all(node.op_type != "BatchNormalization" for node in whole.model.graph.node)


def test_configurations_that_cannot_be_followed(tmp_path):
    with pytest.raises(QuantlabError, match=r"^quantize_dynamic is not built yet in quantlab"):
        ours.quantize(small_model(), tmp_path / "q.onnx", ours.DynamicQuantConfig())
    with pytest.raises(QuantlabError, match=r"^DefaultWeightOnlyQuantConfig is not built yet in quantlab: use that of"):
        DefaultWeightOnlyQuantConfig(block_size=32)
    with pytest.raises(TypeError, match=r"^quant_config must be a StaticQuantConfig, got a dict$"):
        ours.quantize(small_model(), tmp_path / "q.onnx", {})


@pytest.mark.parametrize(
    ("form", "activation", "weight", "text"),
    [
        ("QDQ", "QInt8", "QUInt8", "activations of int8 with weights of uint8 have no kernel in onnxruntime"),
        ("QOperator", "QUInt16", "QInt8", "format QOperator has no operators on uint16"),
        ("QDQ", "QFLOAT8E4M3FN", "QInt8", "float8"),
        ("QDG", "QUInt8", "QInt8", "format 'QDG' is unknown; did you mean 'QDQ'"),
    ],
)
def test_types_that_do_not_go_together(form, activation, weight, text):
    with pytest.raises(OptionError, match=text):
        check_static_quant_arguments(form, activation, weight)
    check_static_quant_arguments(ours.QuantFormat.QDQ, ours.QuantType.QUInt8, ours.QuantType.QInt8)


# Quantizers


@pytest.mark.parametrize("qoperator", [False, True])
def test_quantizers_make_what_quantizing_makes(qoperator, tmp_path):
    model = onnx.shape_inference.infer_shapes(small_model())
    onnx.save(model, tmp_path / "f.onnx")
    made = ours.create_calibrator(tmp_path / "f.onnx", augmented_model_path=tmp_path / "a.onnx")
    made.collect_data(reader(samples()))
    ranges = made.compute_data()
    types = ours.QuantType.QInt8, ours.QuantType.QUInt8
    rest = ranges, [], [], [*registry.QLinearOpsRegistry, *registry.QDQRegistry], {}
    if qoperator:
        quantizer = ONNXQuantizer(model, True, False, ours.QuantizationMode.QLinearOps, True, *types, *rest)
    else:
        quantizer = ours.QDQQuantizer(model, True, False, *types, *rest)
    result = quantizer.quantize_model()
    quantizer.model.save_model_to_file(tmp_path / "one.onnx")
    wanted = ours.quantize_static(
        tmp_path / "f.onnx",
        tmp_path / "q.onnx",
        reader(samples()),
        quant_format="QOperator" if qoperator else "QDQ",
        per_channel=True,
        activation_type="QUInt8",
    )
    assert {t.name: t.raw_data for t in result.graph.initializer} == {
        t.name: t.raw_data for t in wanted.model.graph.initializer
    }
    assert [n.SerializeToString() for n in onnx.load(tmp_path / "one.onnx").graph.node] == [
        n.SerializeToString() for n in wanted.model.graph.node
    ]


def quantizers(extra=None):
    """A quantizer of ours and of the peer's, with the same arguments."""
    found = []
    for room in (ours, peer):
        data = {"x": room.TensorData(lowest=np.float32(-1), highest=np.float32(3))}
        args = small_model(), True, False, room.QuantType.QInt8, room.QuantType.QUInt8, data
        found.append(room.QDQQuantizer(*args, [], ["relu"], ["Conv", "Relu"], extra or {}))
    return found


QUESTIONS = {
    "should_quantize_node": lambda q: [q.should_quantize_node(node) for node in q.model.nodes()],
    "is_input_a_initializer": lambda q: [q.is_input_a_initializer(name) for name in ("w", "x")],
    "is_valid_quantize_weight": lambda q: [q.is_valid_quantize_weight(name) for name in ("w", "x")],
    "is_per_channel": lambda q: q.is_per_channel(),
    "is_weight_symmetric": lambda q: [q.is_weight_symmetric(code) for code in (2, 3, 4, 5, 21, 22)],
    "is_tensor_quantized": lambda q: q.is_tensor_quantized("x"),
    "is_tensor_per_channel": lambda q: [q.is_tensor_per_channel(*args) for args in (("w", 0), ("w", -1), ("x", 0))],
    "opset": lambda q: q.opset_version,
    "types": lambda q: (q.weight_qType, q.activation_qType),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.filterwarnings("ignore")
def test_answers_of_quantizers_are_the_peers(question):
    mine, theirs = (QUESTIONS[question](quantizer) for quantizer in quantizers())
    assert mine == theirs


@pytest.mark.parametrize(
    ("extra", "overrides"),
    [
        ({}, {}),
        ({"ActivationSymmetric": True}, {}),
        ({"MinimumRealRange": 9.0}, {}),
        ({"ActivationRestrictedAsymmetric": True}, {}),
        ({}, {"rmin": np.array(-2, np.float32), "rmax": np.array(2, np.float32)}),
        ({}, {"scale": np.array(0.5, np.float32), "zero_point": np.array(3, np.uint8)}),
        ({}, {"symmetric": True}),
    ],
    ids=str,
)
def test_grids_of_activations_are_the_peers(extra, overrides):
    found = []
    for quantizer, room in zip(quantizers(extra), (ours, peer), strict=True):
        data = room.TensorData(lowest=np.array([-1], np.float32), highest=np.array([3], np.float32))
        found.append(quantizer.calc_quant_params(data, overrides))
    for key in ("scale", "zero_point"):
        mine, theirs = (np.asarray(one[key]) for one in found)
        assert (mine.dtype, mine.shape, mine.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
    assert found[0]["quant_type"] == found[1]["quant_type"]


def test_what_quantizers_refuse():
    quantizer, _ = quantizers()
    with pytest.raises(QuantlabError, match="quantize_activation_tensor is not built yet in quantlab: which tensors"):
        quantizer.quantize_activation_tensor("x")
    with pytest.raises(TypeError, match="the range of tensor 'x' must be a TensorData, got a tuple"):
        ours.QDQQuantizer(small_model(), False, False, 3, 2, {"x": (0, 1)}, [], [], [])
    extra = {"TensorQuantOverrides": {"none": [{"symmetric": True}]}}
    with pytest.raises(OptionError, match="the model has no tensor 'none', and overrides name it"):
        ours.QDQQuantizer(small_model(), False, False, 3, 2, {}, [], [], [], extra)
    with pytest.raises(QuantlabError, match="dynamic quantization is not built yet in quantlab"):
        ONNXQuantizer(small_model(), False, False, ours.QuantizationMode.IntegerOps, False, 3, 2, None, [], [], [])


# Overrides

OVERRIDES = {
    "a": [{"quant_type": peer.QuantType.QInt16, "symmetric": True}],
    "w": [{"axis": 0, "quant_type": peer.QuantType.QInt8}, {"symmetric": False}],
    "s": [{"scale": np.float32(1), "zero_point": np.uint8(1)}],
    "c": [{"convert": {"quant_type": peer.QuantType.QUInt16, "recv_nodes": {"n"}}}],
    "e": [],
}
ASKED = {
    "per_tensor": lambda h: [bool(h.has_per_tensor_overrides(name)) for name in "awsce"],
    "per_channel": lambda h: [bool(h.has_per_channel_overrides(name)) for name in "awsce"],
    "scale": lambda h: [bool(h.overrides_scale_zp(name)) for name in "awsce"],
    "get_per_tensor": lambda h: [h.get_per_tensor_overrides(name, {"d": 1}) for name in "asc"],
    "get_per_channel": lambda h: [h.get_per_channel_overrides(name, [{"axis": 1}]) for name in "wx"],
    "types": lambda h: h.get_quant_types(),
    "outputs": lambda h: [vars(h.get_node_output_qtype_info(name, "T", True)) for name in "acx"],
    "inputs": lambda h: [
        vars(h.get_node_input_qtype_info(*args, "T", None, False)) for args in ("an", "cn", "cm", "wn", "xn")
    ],
    "text": lambda h: (h.pprint_str(), str(h), len(h), list(h), h.empty(), h.get_dict()),
    "new": lambda h: (h.update_tensor_overrides("x", {"k": 1}), h.get_dict()),
    "kept": lambda h: (h.update_tensor_overrides("a", {"symmetric": False}, overwrite=False), h.get_dict()),
    "channel": lambda h: (h.update_tensor_overrides("w", {"rmin": 1}, [1]), h.get_dict()),
    "nothing": lambda h: (h.update_tensor_overrides("a", {}), h.get_dict()),
    "mapping": lambda h: (h.pop("a"), h.setdefault("z", [{}]), "z" in h, h["z"]),
}


@pytest.mark.parametrize("asked", ASKED)
def test_overrides_answer_as_the_peers(asked):
    mine, theirs = (
        ASKED[asked](room.TensorQuantOverridesHelper(copy.deepcopy(OVERRIDES)))
        for room in (our_overrides, peer_overrides)
    )
    assert str(mine) == str(theirs)


WRONG = {
    "{name} is nowhere": ({"none": [{}]}, "the model has no tensor 'none'"),
    "no list": ({"x": {"symmetric": True}}, "they must be a list of dicts, got a dict"),
    "no dict": ({"x": [1]}, "entry 0 must be a dict, got a int"),
    "alone": ({"x": [{"scale": 1}]}, "'scale' is given alone"),
    "both": ({"x": [{"scale": 1, "zero_point": 0, "rmin": 1}]}, "leave no room for 'rmin'"),
    "reduced": ({"x": [{"reduce_range": True}]}, "'reduce_range' is for constants"),
    "converted constant": ({"w": [{"convert": {"quant_type": 1}}]}, "'convert' is for activations"),
    "converted to nothing": ({"x": [{"convert": {}}]}, "'convert' lacks its 'quant_type'"),
    "converted to itself": ({"x": [{"convert": {"quant_type": "T"}}]}, "which is the type that the tensor has"),
    "converted alone": ({"x": [{"convert": {"quant_type": 1, "scale": 1}}]}, "'scale' is given alone"),
    "channels of an activation": ({"x": [{"axis": 0}]}, "only constants have channels"),
    "no axis": ({"w": [{}, {}]}, None),
    "axis out of range": ({"w": [{"axis": 9}]}, "axis 9 is out of range for the shape"),
    "too few": ({"w": [{"axis": 0}, {}]}, "has 6 channels, and there are 2 entries"),
    "half a range": ({"w": [{"axis": 0, "rmin": 1}]}, "give both 'rmin' and 'rmax'"),
    "unlike": ({"w": [{"axis": 0, "symmetric": True}, *[{"symmetric": False}] * 5]}, "it has to be the same"),
    "lacking": ({"w": [{"axis": 0, "rmin": 1, "rmax": 2}, *[{}] * 5]}, "entry 1 lacks 'rmin' and 'rmax'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_overrides_that_cannot_be_used(case):
    overrides, text = WRONG[case]
    constants = {tensor.name: tensor for tensor in small_model().graph.initializer}
    answers = [
        room.TensorQuantOverridesHelper(copy.deepcopy(overrides)).is_valid(constants, {"x"}, "T")
        for room in (our_overrides, peer_overrides)
    ]
    assert answers[0][0] == answers[1][0] == (text is None)
    assert text is None or text in answers[0][1]


def test_type_infos_compare_as_the_peers():
    fields = [(kind, symmetric, None, axis) for kind in "ab" for symmetric in (None, True, False) for axis in (None, 0)]
    mine, theirs = ([room.QuantTypeInfo(*one) for one in fields] for room in (our_overrides, peer_overrides))
    assert [[a == b for a in mine] for b in mine] == [[a == b for a in theirs] for b in theirs]
    for one, other in zip(mine, theirs, strict=True):
        written, wanted = {}, {}
        one.save_to_dict(written)
        other.save_to_dict(wanted)
        assert written == wanted
        assert vars(type(one).load_from_dict(written)) == vars(type(other).load_from_dict(wanted))
    with pytest.raises(TypeError, match="unhashable"):
        hash(mine[0])
    assert mine[0] != "text"
