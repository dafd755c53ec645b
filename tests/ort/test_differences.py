"""Where the models or numbers are not the peer's: each difference of docs/onnxruntime.md, shown."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxruntime import quantization as peer

import quantlab
from quantlab import ort as ours
from quantlab.ort import tensor_quant_overrides  # noqa: F401  # an attribute of the package
from tests.ort.models import IMAGES, digits, quiet_peer, reader, samples, save_prepared_demo, small_model

ROOMS = (ours, peer)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "float.onnx"
    save_prepared_demo(path)
    return path


def both(source, folder, **options):
    """Quantize the same with both, and return the models."""
    found = []
    for room in ROOMS:
        with quiet_peer():
            room.quantize_static(source, folder / "m.onnx", digits(room.CalibrationDataReader), **options)
        found.append(onnx.load(folder / "m.onnx"))
    return found


def run(model):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": IMAGES[:1]})[0]


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_a_single_scale_of_a_bias_is_a_scalar(prepared, tmp_path):
    name, (mine, theirs) = "/stem/Conv_bias_quantized_scale", both(prepared, tmp_path)
    assert (constants(mine)[name].shape, constants(theirs)[name].shape) == ((), (1,))
    assert constants(mine)[name].tobytes() == constants(theirs)[name].tobytes()


def test_a_relu_stays_where_its_grid_reaches_below_zero(prepared, tmp_path):
    mine, theirs = both(prepared, tmp_path, extra_options={"CalibTensorRangeSymmetric": True})
    assert [sum(node.op_type == "Relu" for node in model.graph.node) for model in (mine, theirs)] == [4, 0]
    wanted = run(onnx.load(prepared))
    assert np.abs(run(mine) - wanted).max() < 0.2
    assert np.abs(run(theirs) - wanted).max() > 2


def test_four_bits_are_onnx_own(prepared, tmp_path):
    mine, theirs = four_bits(prepared, tmp_path)
    assert [entry.version for entry in mine.opset_import] == [21]
    assert {entry.domain: entry.version for entry in theirs.opset_import} == {"": 13, "com.microsoft": 1}
    assert run(mine).tobytes() == run(theirs).tobytes()


def four_bits(source, folder):
    found = []
    for room in ROOMS:
        data = digits(room.CalibrationDataReader)
        room.quantize_static(source, folder / "m.onnx", data, weight_type=room.QuantType.QInt4)
        found.append(onnx.load(folder / "m.onnx"))
    return found


def test_weights_are_widened_for_the_grid_that_is_written(prepared, tmp_path):
    """Of a tensor that shares a grid the peer takes its own range to widen by, which is not what it writes."""
    found = []
    for room in ROOMS:
        kinds = {"activation_type": room.QuantType.QUInt16, "weight_type": room.QuantType.QInt16}
        room.quantize_static(
            prepared, tmp_path / "m.onnx", digits(room.CalibrationDataReader), per_channel=True, **kinds
        )
        found.append(constants(onnx.load(tmp_path / "m.onnx")))
    mine, theirs = found
    other = {name for name, array in mine.items() if array.tobytes() != theirs[name].tobytes()}
    assert {name.split("_")[0].strip("/").removesuffix("/Conv") for name in other} == {"head"}
    for name in other:
        if name.endswith("weight_scale"):
            assert (mine[name] <= theirs[name] * (1 + 2e-7)).all()
        if name.endswith("bias_quantized"):
            assert np.abs(mine[name].astype(np.int64)).max() < 2**31 - 1


def test_the_model_carries_its_plan_and_its_maker(prepared, tmp_path):
    mine, theirs = both(prepared, tmp_path)
    assert (mine.producer_name, theirs.producer_name) == ("quantlab", "onnx.quantize")
    assert "quantlab.plan" in {entry.key for entry in mine.metadata_props}


def test_nothing_of_the_caller_changes(prepared, tmp_path):
    """The peer writes into a model that it is given as an object."""
    models, before = [onnx.load(prepared) for _ in ROOMS], onnx.load(prepared).SerializeToString()
    for room, model in zip(ROOMS, models, strict=True):
        excluded = ["/stem/Conv"]
        room.quantize_static(model, tmp_path / "m.onnx", digits(room.CalibrationDataReader), nodes_to_exclude=excluded)
        assert excluded == ["/stem/Conv"]
    assert models[0].SerializeToString() == before


def test_unknown_words_are_errors(prepared, tmp_path):
    """The peer passes over options, nodes and operator types that it does not know."""
    for options in (
        {"extra_options": {"ActivationSymetric": True}},
        {"nodes_to_exclude": ["/stem/Cnv"]},
        {"op_types_to_quantize": ["Cnv"]},
    ):
        with pytest.raises(ValueError, match="did you mean"):
            ours.quantize_static(prepared, tmp_path / "m.onnx", digits(ours.CalibrationDataReader), **options)
        peer.quantize_static(prepared, tmp_path / "m.onnx", digits(), **options)


def test_a_model_is_not_written_over_itself(tmp_path):
    onnx.save(small_model(), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="is the float model itself: give another name"):
        ours.quantize_static(tmp_path / "m.onnx", tmp_path / "m.onnx", reader(samples()))
    peer.quantize_static(tmp_path / "m.onnx", tmp_path / "m.onnx", reader(samples()))


def test_nan_in_a_sample_is_refused(tmp_path):
    """The peer leaves NaN out without a word."""
    onnx.save(small_model(), tmp_path / "f.onnx")
    broken = samples(3)
    broken[1]["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(quantlab.QuantlabError, match=r"the value at .0, 0, 0, 0. is nan"):
        ours.quantize_static(tmp_path / "f.onnx", tmp_path / "q.onnx", reader(broken))
    peer.quantize_static(tmp_path / "f.onnx", tmp_path / "q.onnx", reader(broken))


def test_all_overrides_are_checked():
    """The peer returns after the first tensor."""
    wrong = {"a": [{"symmetric": True}], "b": [{"scale": np.float32(1)}]}
    answers = [
        room.tensor_quant_overrides.TensorQuantOverridesHelper(json.loads(json.dumps(wrong, default=float))).is_valid(
            {}, {"a", "b"}, room.QuantType.QUInt8
        )
        for room in ROOMS
    ]
    assert [answer[0] for answer in answers] == [False, True]
    assert "overrides of tensor 'b': 'scale' is given alone" in answers[0][1]
