"""`quantize_static` under the peer's name and arguments: on the demo model its numbers and its nodes, byte for byte."""

import inspect
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxruntime import quantization as peer

import quantlab
from quantlab import demo
from quantlab import ort as ours
from quantlab.backend import OrtBackend
from quantlab.errors import DataError, OptionError, QuantlabError, QuantlabWarning
from tests.operators.peer import differences
from tests.ort.models import IMAGES, digits, quiet_peer, reader, samples, save_prepared_demo, small_model

OPTIONS = [
    {},
    {"per_channel": True},
    {"activation_type": "QUInt8"},
    {"activation_type": "QUInt8", "weight_type": "QUInt8", "reduce_range": True},
    {"activation_type": "QInt16", "weight_type": "QInt8"},
    {"activation_type": "QUInt16", "weight_type": "QInt8", "per_channel": True},
    {"calibrate_method": "Percentile"},
    {"calibrate_method": "Entropy", "per_channel": True},
    {"calibrate_method": "Distribution", "extra_options": {"QDQKeepRemovableActivations": True}},
    {"calibrate_method": "Percentile", "extra_options": {"CalibPercentile": 99.0, "CalibTensorRangeSymmetric": False}},
    {"extra_options": {"CalibMovingAverage": True, "ActivationSymmetric": True}},
    {"extra_options": {"WeightSymmetric": False, "CalibMaxIntermediateOutputs": 5}},
    {"extra_options": {"AddQDQPairToWeight": True, "QuantizeBias": False}, "per_channel": True},
    {"extra_options": {"DedicatedQDQPair": True, "QDQKeepRemovableActivations": True}},
    {"extra_options": {"MinimumRealRange": 0.5, "TensorQuantOverrides": {}}},
    {"op_types_to_quantize": ["Conv", "Add", "Relu", "Clip"]},
    {"nodes_to_exclude": ["/stem/Conv"]},
    {"nodes_to_quantize": ["/stem/Conv", "/body/Conv"], "per_channel": True},
]
ENUMS = {
    "activation_type": "QuantType",
    "weight_type": "QuantType",
    "calibrate_method": "CalibrationMethod",
    "quant_format": "QuantFormat",
}


def given(room, options):
    return {name: getattr(room, ENUMS[name])[value] if name in ENUMS else value for name, value in options.items()}


def normal(node):
    """Bytes of a node, its attributes in the order of their names."""
    kept = sorted(node.attribute, key=lambda entry: entry.name)
    del node.attribute[:]
    node.attribute.extend(kept)
    return node.SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "float.onnx"
    save_prepared_demo(path)
    return path


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_models_are_the_peers(options, prepared, tmp_path):
    found = []
    for room in (ours, peer):
        with quiet_peer():
            room.quantize_static(
                prepared,
                tmp_path / f"{room.__name__}.onnx",
                digits(room.CalibrationDataReader),
                **given(room, options),
            )
        found.append(onnx.load(tmp_path / f"{room.__name__}.onnx"))
    mine, theirs = found
    assert {tensor.name: packed(tensor) for tensor in mine.graph.initializer} == {
        tensor.name: packed(tensor) for tensor in theirs.graph.initializer
    }
    feed = {"image": IMAGES[:1]}
    sessions = [onnxruntime.InferenceSession(one.SerializeToString()) for one in found]
    assert sessions[0].run(None, feed)[0].tobytes() == sessions[1].run(None, feed)[0].tobytes()
    assert sorted(map(normal, mine.graph.node)) == sorted(map(normal, theirs.graph.node))


def packed(tensor):
    """Type, shape and bytes; a single scale of a bias is a scalar here, and an array of one in the peer."""
    dims = () if tensor.name.endswith("_quantized_scale") and list(tensor.dims) == [1] else tuple(tensor.dims)
    return tensor.data_type, dims, numpy_helper.to_array(tensor).tobytes()


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"calibrate_method": "Percentile"}], ids=str)
def test_a_model_that_was_not_prepared_is_taken_as_it_is(options, tmp_path):
    quantlab.save(quantlab.load(demo.float_model()), tmp_path / "raw.onnx")
    found = []
    for room in (ours, peer):
        with quiet_peer():
            data = digits(room.CalibrationDataReader)
            room.quantize_static(tmp_path / "raw.onnx", tmp_path / "m.onnx", data, **given(room, options))
        found.append(onnx.load(tmp_path / "m.onnx"))
    assert "BatchNormalization" in {node.op_type for node in found[0].graph.node}
    assert differences(*found) == {}


OVERRIDES = {
    "scale": lambda room: {"image": [{"scale": np.array(0.01, np.float32), "zero_point": np.array(3, np.uint8)}]},
    "type": lambda room: {"stem_conv.weight": [{"quant_type": room.QuantType.QUInt8, "symmetric": False}]},
    "axis": lambda room: {"stem_conv.weight": [{"axis": 0}]},
    "range": lambda room: {"logits": [{"rmin": np.array(-1, np.float32), "rmax": np.array(9, np.float32)}]},
    "conversion": lambda room: {
        "average_out": [{"quant_type": room.QuantType.QUInt16, "convert": {"quant_type": room.QuantType.QUInt8}}]
    },
}


@pytest.mark.parametrize("which", OVERRIDES)
def test_models_with_overrides_are_the_peers(which, prepared, tmp_path):
    found = []
    for room in (ours, peer):
        data, overrides = digits(room.CalibrationDataReader), OVERRIDES[which](room)
        config = room.get_qdq_config(prepared, data, tensor_quant_overrides=overrides)
        room.quantize(prepared, tmp_path / "m.onnx", config)
        found.append(onnx.load(tmp_path / "m.onnx"))
    assert differences(*found) == {}


def test_integer_operators_are_the_peers(prepared, tmp_path):
    options = {"quant_format": "QOperator", "activation_type": "QUInt8"}
    for room in (ours, peer):
        room.quantize_static(
            prepared, tmp_path / f"{room.__name__}.onnx", digits(room.CalibrationDataReader), **given(room, options)
        )
    assert differences(*(onnx.load(tmp_path / f"{room.__name__}.onnx") for room in (ours, peer))) == {}


@pytest.mark.parametrize(
    "name",
    ["quantize_static", "quantize_dynamic", "quantize", "get_qdq_config", "create_calibrator", "save_tensors_data"],
)
def test_arguments_are_the_peers_in_their_order(name):
    mine, theirs = (inspect.signature(getattr(room, name)).parameters for room in (ours, peer))
    assert [(p.name, p.kind) for p in mine.values()] == [(p.name, p.kind) for p in theirs.values()]
    empty = (None, {})
    for one, other in zip(mine.values(), theirs.values(), strict=True):
        if other.default in empty and other.default is not inspect.Parameter.empty:
            assert one.default in empty
        else:
            assert str(one.default) == str(other.default)


@pytest.mark.parametrize(
    "name",
    ["StaticQuantConfig", "DynamicQuantConfig", "MinMaxCalibrater", "CalibraterBase", "QDQQuantizer"],
)
def test_arguments_of_classes_are_the_peers_in_their_order(name):
    mine, theirs = (inspect.signature(getattr(room, name).__init__).parameters for room in (ours, peer))
    assert list(mine) == list(theirs)


@pytest.mark.parametrize("method", ["MinMax", "Percentile", "Entropy"])
def test_a_cache_spares_the_samples_here_and_in_the_peer(method, prepared, tmp_path):
    cache, options = tmp_path / "new" / "cache.json", {"calibrate_method": method}
    models = []
    for data in (digits(ours.CalibrationDataReader), None):
        made = ours.quantize_static(
            prepared, tmp_path / "q.onnx", data, calibration_cache_path=cache, **given(ours, options)
        )
        models.append({t.name: packed(t) for t in made.model.graph.initializer})
    with quiet_peer():
        peer.quantize_static(prepared, tmp_path / "p.onnx", None, calibration_cache_path=cache, **given(peer, options))
        models.append({t.name: packed(t) for t in onnx.load(tmp_path / "p.onnx").graph.initializer})
        peers = tmp_path / "peer.json"
        peer.quantize_static(
            prepared, tmp_path / "p.onnx", digits(), calibration_cache_path=peers, **given(peer, options)
        )
    made = ours.quantize_static(
        prepared, tmp_path / "q.onnx", None, calibration_cache_path=peers, **given(ours, options)
    )
    models.append({t.name: packed(t) for t in made.model.graph.initializer})
    direct = ours.quantize_static(
        prepared, tmp_path / "q.onnx", digits(ours.CalibrationDataReader), **given(ours, options)
    )
    wanted = {t.name: packed(t) for t in direct.model.graph.initializer}
    assert models == [wanted] * 4


def test_caches_that_cannot_be_used(prepared, tmp_path):
    cache = tmp_path / "cache.json"
    with pytest.raises(OptionError, match=r"^there is no calibration cache '.*cache.json' yet: give a calibration_d"):
        ours.quantize_static(prepared, tmp_path / "q.onnx", None, calibration_cache_path=cache)
    ours.quantize_static(prepared, tmp_path / "q.onnx", digits(), calibration_cache_path=cache)
    with pytest.raises(OptionError, match=r"was made with CalibrationMethod.MinMax, and calibrate_method is 'Entropy'"):
        ours.quantize_static(
            prepared, tmp_path / "q.onnx", None, calibrate_method="Entropy", calibration_cache_path=cache
        )
    cache.write_text(json.dumps({**json.loads(cache.read_text()), "smooth_quant": True}))
    with pytest.warns(QuantlabWarning, match="was made with SmoothQuant: ranges are measured anew, and it is replaced"):
        ours.quantize_static(prepared, tmp_path / "q.onnx", digits(), calibration_cache_path=cache)
    assert json.loads(cache.read_text())["smooth_quant"] is False
    cache.write_text("[")
    with pytest.raises(DataError, match="is no calibration cache"):
        ours.quantize_static(prepared, tmp_path / "q.onnx", None, calibration_cache_path=cache)


def test_a_reader_that_fills_one_buffer_again_and_again(prepared, tmp_path):
    class Reusing(ours.CalibrationDataReader):
        def __init__(self):
            self.buffer, self.left = np.empty_like(IMAGES[:1]), iter(IMAGES)

        def get_next(self):
            image = next(self.left, None)
            if image is None:
                return None
            self.buffer[0] = image
            return {"image": self.buffer}

    options = {"calibrate_method": "Percentile"}
    made, wanted = (
        ours.quantize_static(prepared, tmp_path / "q.onnx", data, **options)
        for data in (Reusing(), digits(ours.CalibrationDataReader))
    )
    assert made.model.SerializeToString() == wanted.model.SerializeToString()


def test_strides(tmp_path):
    class Strided(peer.CalibrationDataReader):
        def __init__(self):
            self.set_range(0, 9)

        def __len__(self):
            return 9

        def set_range(self, start_index, end_index):
            self.left = iter(samples(9)[start_index:end_index])

        def get_next(self):
            return next(self.left, None)

    onnx.save(onnx.shape_inference.infer_shapes(small_model()), tmp_path / "f.onnx")
    options = {"extra_options": {"CalibStridedMinMax": 3, "CalibMovingAverage": True}}
    for room in (ours, peer):
        room.quantize_static(tmp_path / "f.onnx", tmp_path / f"{room.__name__}.onnx", Strided(), **options)
    mine, theirs = (
        {t.name: packed(t) for t in onnx.load(tmp_path / f"{room.__name__}.onnx").graph.initializer}
        for room in (ours, peer)
    )
    assert mine == theirs


def test_types_and_methods_of_either_room_or_in_words(prepared, tmp_path):
    models = [
        ours.quantize_static(
            prepared, tmp_path / "q.onnx", digits(), activation_type=kind, calibrate_method=method
        ).model.SerializeToString()
        for kind, method in (
            (ours.QuantType.QUInt8, ours.CalibrationMethod.MinMax),
            (peer.QuantType.QUInt8, peer.CalibrationMethod.MinMax),
            ("QUInt8", "MinMax"),
        )
    ]
    assert len(set(models)) == 1


def test_what_is_refused(prepared, tmp_path):
    def refused(error, text, **options):
        with pytest.raises(error, match=text):
            ours.quantize_static(prepared, tmp_path / "q.onnx", digits(), **options)
        assert not (tmp_path / "q.onnx").exists()

    refused(OptionError, r"^unknown calibrate_method 'MinMix'; did you mean 'MinMax'\?", calibrate_method="MinMix")
    refused(OptionError, "extra_options has no key 'CalibPercent'", extra_options={"CalibPercent": 1})
    refused(OptionError, "no node is called 'stem'", nodes_to_exclude=["stem"])
    refused(OptionError, "activations of float8e4m3fn with weights of int8", activation_type="QFLOAT8E4M3FN")
    with pytest.raises(QuantlabError, match=r"^quantize_dynamic is not built yet in quantlab: use that of onnxruntime"):
        ours.quantize_dynamic(prepared, tmp_path / "q.onnx")


def test_the_providers_are_those_given(prepared, tmp_path, monkeypatch):
    seen = []
    original = OrtBackend.session

    def session(self, model):
        seen.append((self.providers, self.optimize))
        return original(self, model)

    monkeypatch.setattr(OrtBackend, "session", session)
    ours.quantize_static(prepared, tmp_path / "q.onnx", digits(), calibration_providers=["CPUExecutionProvider"])
    assert set(seen) == {(("CPUExecutionProvider",), False)}


def test_a_one_pass_reader_is_enough_for_any_method(tmp_path):
    onnx.save(small_model(), tmp_path / "f.onnx")
    for method in ("Percentile", "Entropy"):
        made = ours.quantize_static(
            tmp_path / "f.onnx", tmp_path / "q.onnx", reader(samples()), calibrate_method=method
        )
        assert made.plan.tensors["out"].qparams is not None
    made = ours.quantize_static(tmp_path / "f.onnx", tmp_path / "q.onnx", iter(samples()), calibrate_method="Entropy")
    assert made.plan.tensors["out"].qparams is not None
