"""Static quantization end to end on the trained demo model, against onnxruntime.quantization and by itself."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime import quantization as peer

import quantlab
from quantlab import demo
from quantlab.backend import OrtBackend, signature
from quantlab.errors import DataError, ModelError, OptionError
from quantlab.rewrite.provenance import embedded_plan
from quantlab.workflow.static import make_recipe

DIGITS = demo.digits()
SAMPLES = [{"image": image[None]} for image in DIGITS.train_images[:40]]


class Reader(peer.CalibrationDataReader):
    """A reader written for onnxruntime.quantization."""

    def __init__(self, samples=SAMPLES):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def integers(model):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


OPTIONS = [
    {},
    {"per_channel": True},
    {"activation_type": "QUInt8"},
    {"activation_type": "QUInt8", "weight_type": "QUInt8", "per_channel": True},
    {"activation_type": "QUInt8", "per_channel": True, "reduce_range": True},
    {"op_types_to_quantize": ["Conv"]},
    {"nodes_to_exclude": ["/classifier/Gemm"], "per_channel": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_nodes_and_bytes_as_onnxruntime_quantization(options, tmp_path):
    recipe = make_recipe(**options)
    prepared = quantlab.prepare_for(quantlab.load(demo.float_model()), recipe)
    plan = quantlab.decide(prepared, recipe)
    # The peer calibrates on the unoptimized graph; optimizing it moves ranges by a few float32 roundings.
    plan = quantlab.calibrate(
        prepared, plan, SAMPLES, recipe, engine=quantlab.Engine(backend=OrtBackend(optimize=False))
    )
    ours = quantlab.write(prepared, plan).model
    quantlab.save(prepared.model, tmp_path / "float.onnx")
    types = {name: getattr(peer.QuantType, options.get(name, "QInt8")) for name in ("activation_type", "weight_type")}
    peer.quantize_static(tmp_path / "float.onnx", tmp_path / "peer.onnx", Reader(), **{**options, **types})
    theirs = onnx.load(tmp_path / "peer.onnx")

    assert Counter(node.op_type for node in ours.graph.node) == Counter(node.op_type for node in theirs.graph.node)
    mine, other = integers(ours), integers(theirs)
    assert set(mine) == set(other)
    assert [name for name in mine if mine[name].tobytes() != other[name].tobytes()] == []


def sessions(*models):
    return [
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]) for model in models
    ]


@pytest.mark.parametrize("calibrate", ["MinMax", "Percentile", "Entropy"])
def test_accuracy_survives(calibrate):
    model = quantlab.load(demo.float_model())
    result = quantlab.quantize_static(model, None, SAMPLES, per_channel=True, calibrate_method=calibrate)
    (session,) = sessions(result.model)
    logits = session.run(None, {"image": DIGITS.test_images})[0]
    assert (logits.argmax(1) == DIGITS.test_labels).mean() >= 0.97


def test_every_way_to_hand_over_model_and_data_gives_the_same_bytes(tmp_path):
    content = demo.float_model()
    path = tmp_path / "float.onnx"
    path.write_bytes(content)
    stacked = np.concatenate([sample["image"] for sample in SAMPLES])
    np.savez(tmp_path / "data.npz", image=stacked)
    models = [content, str(path), path, onnx.load_from_string(content)]
    data = [Reader(), SAMPLES, {"image": stacked}, tmp_path / "data.npz", (sample for sample in SAMPLES)]
    found = {quantlab.quantize_static(model, None, SAMPLES).model.SerializeToString() for model in models}
    found |= {quantlab.quantize_static(content, None, reader).model.SerializeToString() for reader in data}
    assert len(found) == 1


def test_formats_go_by_the_names_of_onnxruntime(tmp_path):
    def quantized(quant_format):
        return quantlab.quantize_static(
            demo.float_model(),
            tmp_path / "out.onnx",
            Reader(),
            quant_format,
            activation_type=peer.QuantType.QUInt8,
        )

    pairs, *others = (quantized(word) for word in ("QDQ", "QOperator", peer.QuantFormat.QOperator))
    assert "QLinearConv" not in {node.op_type for node in pairs.model.graph.node}
    for result in others:
        kinds = Counter(node.op_type for node in result.model.graph.node)
        assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 1
        assert kinds["QLinearConv"] == 5
        assert result.model == others[0].model
    stored, image = onnx.load(tmp_path / "out.onnx"), DIGITS.test_images
    session = onnxruntime.InferenceSession(stored.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"image": image})
    assert (scores.argmax(axis=-1) == DIGITS.test_labels).mean() > 0.95


def test_enums_of_onnxruntime_are_understood():
    ours = quantlab.quantize_static(
        demo.float_model(),
        None,
        Reader(),
        quant_format=peer.QuantFormat.QDQ,
        activation_type=peer.QuantType.QUInt8,
        weight_type=quantlab.QuantType.QInt8,
        calibrate_method=peer.CalibrationMethod.MinMax,
    )
    assert {node.op_type for node in ours.model.graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    assert ours.plan.tensors["image"].spec.dtype.name == "uint8"


def test_inputs_are_not_changed_and_only_the_output_is_written(tmp_path):
    path = tmp_path / "float.onnx"
    path.write_bytes(demo.float_model())
    model = onnx.load(path)
    before = model.SerializeToString()
    quantlab.quantize_static(model, tmp_path / "int8.onnx", SAMPLES)
    quantlab.quantize_static(path, tmp_path / "again.onnx", SAMPLES)
    assert model.SerializeToString() == before
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(demo.float_model()).digest()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.onnx", "float.onnx", "int8.onnx"]
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "int8.onnx").read_bytes()


def test_weights_are_stored_as_integers(tmp_path):
    quantlab.quantize_static(demo.float_model(), tmp_path / "int8.onnx", SAMPLES)
    model = onnx.load(tmp_path / "int8.onnx")
    floats = sum(array.nbytes for array in integers(model).values() if array.dtype == np.float32)
    assert floats == 4 * sum(1 for name in integers(model) if name.endswith("_scale"))
    assert (tmp_path / "int8.onnx").stat().st_size < 0.35 * len(demo.float_model())


def test_the_model_carries_its_plan():
    result = quantlab.quantize_static(demo.float_model(), None, SAMPLES, per_channel=True)
    carried = embedded_plan(result.model)
    assert carried.nodes == result.plan.nodes
    assert carried.tensors["logits"] == result.plan.tensors["logits"]
    assert embedded_plan(quantlab.load(demo.float_model())) is None


def test_stages_alone_give_what_the_whole_gives():
    model, recipe = quantlab.load(demo.float_model()), quantlab.Recipe(per_channel=True)
    prepared = quantlab.prepare_for(model, recipe)
    plan = quantlab.decide(prepared, recipe)
    assert not plan.resolved
    data = quantlab.batches(SAMPLES, signature(model))
    result = quantlab.write(prepared, quantlab.calibrate(prepared, plan, data, recipe))
    assert result.plan.resolved
    assert result.model == quantlab.quantize(model, data, recipe).model


def test_calibration_sees_only_what_the_plan_needs():
    prepared = quantlab.prepare_for(quantlab.load(demo.float_model()))
    plan = quantlab.decide(prepared, quantlab.Recipe())
    absorbed = {tensor.absorbs for tensor in plan.tensors.values()} - {None}
    assert len(absorbed) == 4
    assert not absorbed & set(plan.observed())
    assert not {"pool_out", "flat_out"} & set(plan.observed())


def test_messages(tmp_path):
    content = demo.float_model()

    def attempt(error, text, **options):
        with pytest.raises(error, match=text):
            quantlab.quantize_static(**{"model_input": content, "calibration_data_reader": SAMPLES, **options})

    attempt(ModelError, "nothing.onnx", model_input=tmp_path / "nothing.onnx")
    attempt(OptionError, "calibration_data_reader is missing", calibration_data_reader=None)
    attempt(OptionError, r"format 'QOp' is unknown.* \(allowed: QDQ, QOperator\)", quant_format="QOp")
    attempt(OptionError, r"unknown type 'Int9'", weight_type="Int9")
    attempt(OptionError, "activations of int8 with weights of uint8 have no kernel", weight_type="QUInt8")
    attempt(OptionError, r"no node is called '/stem/Cnv'; did you mean '/stem/Conv'", nodes_to_exclude=["/stem/Cnv"])
    attempt(OptionError, r"unknown operator type 'Convv'; did you mean 'Conv'", op_types_to_quantize=["Convv"])
    attempt(OptionError, "percentil", calibrate_method="percentil")
    attempt(DataError, "no", calibration_data_reader=[])
    attempt(DataError, "imag", calibration_data_reader=[{"imag": SAMPLES[0]["image"]}])
    attempt(
        DataError,
        "is nan, allowed are finite numbers",
        calibration_data_reader=[{"image": np.full((1, 1, 8, 8), np.nan, np.float32)}],
    )
    quantized = quantlab.quantize_static(content, None, SAMPLES).model
    attempt(ModelError, "DequantizeLinear", model_input=quantized)
    attempt(ModelError, "missing", model_output=tmp_path / "missing" / "int8.onnx")
    assert list(Path(tmp_path).iterdir()) == []


def test_an_output_that_cannot_be_written_is_found_before_any_sample_is_read(tmp_path):
    class Untouched:
        def get_next(self):
            raise AssertionError("calibration has begun")

    with pytest.raises(ModelError, match=r"cannot write .* there is no folder"):
        quantlab.quantize_static(demo.float_model(), tmp_path / "missing" / "int8.onnx", Untouched())
    path = tmp_path / "float.onnx"
    path.write_bytes(demo.float_model())
    with pytest.raises(OptionError, match="is the float model itself: give another name"):
        quantlab.quantize_static(path, path, Untouched())
    assert path.read_bytes() == demo.float_model()
