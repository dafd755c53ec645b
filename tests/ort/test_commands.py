"""Modules that are run: pre-processing and static quantization on the command line."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import static_quantize_runner as peer

from quantlab.errors import DataError, OptionError
from quantlab.ort import preprocess
from quantlab.ort import static_quantize_runner as runner
from quantlab.ort.quant_utils import QuantType, model_has_pre_process_metadata
from quantlab.workflow.preprocess import quant_pre_process
from tests.ort.models import samples, small_model


@pytest.fixture
def model(tmp_path):
    """The small model, prepared, with samples beside it as ONNX keeps them for its tests."""
    path = tmp_path / "float.onnx"
    quant_pre_process(small_model(), path)
    for index, sample in enumerate(samples(3)):
        folder = tmp_path / f"test_data_set_{index}"
        folder.mkdir()
        (folder / "input_0.pb").write_bytes(numpy_helper.from_array(sample["x"], "x").SerializeToString())
    return path


OPTIONS = [
    [],
    ["--per_channel", "--activation_type", "qint8", "--disable_quantize_bias"],
    ["--dedicated_qdq_pair", "--qdq_keep_removable_activations", "--minimum_real_range", "2"],
    ["--add_qdq_pair_to_weight", "--nodes_to_exclude", "conv"],
    ["--calibration_method", "percentile", "--calib_tensor_range_symmetric"],
    ["--calib_moving_average", "--nodes_to_quantize", "conv", "pool"],
    ["--calibration_method", "entropy", "--calib_tensor_range_symmetric"],
    ["--per_channel", "--op_per_channel_axis", "Conv", "0"],
    ["--op_types_to_exclude_output_quantization", "Conv"],
    ["--quant_format", "qoperator"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_the_runner_writes_what_the_peers_writes(options, model, tmp_path, monkeypatch, capsys):
    if "--op_per_channel_axis" in options:  # the peer keeps the axis as text, and fails
        monkeypatch.setattr(peer, "dict", lambda pairs: {op: int(axis) for op, axis in pairs}, raising=False)
    arguments = ["-i", str(model), "-o"]
    assert runner.main([*arguments, str(tmp_path / "q.onnx"), *options]) == 0
    monkeypatch.setattr(sys, "argv", ["runner", *arguments, str(tmp_path / "p.onnx"), *options])
    # The peer lists samples in the order of the disk, on which a mean in float32 depends.
    monkeypatch.setattr(peer.os, "listdir", lambda folder, original=peer.os.listdir: sorted(original(folder)))
    peer.main()
    mine, theirs = (
        {t.name: numpy_helper.to_array(t).tobytes() for t in onnx.load(tmp_path / f"{name}.onnx").graph.initializer}
        for name in "qp"
    )
    assert mine == theirs


def run(*arguments):
    command = [sys.executable, "-W", "error", "-m", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_modules_run(model, tmp_path):
    done = run("quantlab.ort.static_quantize_runner", "-i", model, "-o", tmp_path / "q.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "q.onnx").exists()
    onnx.save(small_model(), tmp_path / "raw.onnx")
    done = run("quantlab.ort.preprocess", "--input", tmp_path / "raw.onnx", "--output", tmp_path / "pre.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert model_has_pre_process_metadata(onnx.load(tmp_path / "pre.onnx"))


def test_the_runner_says_what_is_wrong(model, tmp_path, capsys):
    arguments = ["-i", str(model), "-o", str(tmp_path / "q.onnx")]
    assert runner.main([*arguments, "--nodes_to_exclude", "cnv"]) == 2
    assert capsys.readouterr().err == "error: no node is called 'cnv'; did you mean 'conv'?\n"
    assert runner.main([*arguments, "--op_per_channel_axis", "MatMul", "one"]) == 2
    assert capsys.readouterr().err == "error: --op_per_channel_axis MatMul wants a whole number, got 'one'\n"
    (tmp_path / "test_data_set_1" / "input_0.pb").write_bytes(b"no tensor")
    assert runner.main(arguments) == 2
    assert "test_data_set_1/input_0.pb' holds no tensor" in capsys.readouterr().err
    other = tmp_path / "empty"
    other.mkdir()
    onnx.save(small_model(), other / "m.onnx")
    assert runner.main(["-i", str(other / "m.onnx"), "-o", str(tmp_path / "q.onnx")]) == 2
    assert "no data: there is no folder test_data_set_* beside the model" in capsys.readouterr().err


def test_samples_beside_a_model(model, monkeypatch):
    monkeypatch.chdir(model.parent)
    reader = runner.OnnxModelCalibrationDataReader("float.onnx")
    found = [sample["x"] for sample in iter(reader.get_next, None)]
    np.testing.assert_array_equal(found, [sample["x"] for sample in samples(3)])
    reader.rewind()
    assert reader.get_next() is not None
    with pytest.raises(DataError, match="holds no tensor"):
        reader.read_onnx_pb_data("nowhere.pb")


def test_overrides_from_a_file(tmp_path):
    (tmp_path / "o.json").write_text('{"x": [{"scale": 0.5, "zero_point": 3}]}')
    mine, theirs = (room.get_tensor_quant_overrides(tmp_path / "o.json") for room in (runner, peer))
    assert str(mine) == str(theirs)
    assert mine["x"][0]["scale"].dtype == theirs["x"][0]["scale"].dtype == np.float32
    assert runner.get_tensor_quant_overrides(None) == peer.get_tensor_quant_overrides(None) == {}
    (tmp_path / "o.json").write_text('{"x": [{"quant_type": "QInt16", "convert": {"quant_type": "QUInt8"}}]}')
    assert runner.get_tensor_quant_overrides(tmp_path / "o.json") == {
        "x": [{"quant_type": QuantType.QInt16, "convert": {"quant_type": QuantType.QUInt8}}]
    }
    (tmp_path / "o.json").write_text("[1]")
    with pytest.raises(OptionError, match="holds no overrides"):
        runner.get_tensor_quant_overrides(tmp_path / "o.json")


def test_flags_of_preprocessing(tmp_path, capsys):
    onnx.save(small_model(), tmp_path / "m.onnx")
    arguments = ["--input", str(tmp_path / "m.onnx"), "--output", str(tmp_path / "o.onnx")]
    given = [preprocess.parse_arguments([*arguments, *more]).skip_optimization for more in FLAGS]
    assert given == [False, True, True, False]
    with pytest.raises(SystemExit):
        preprocess.parse_arguments([*arguments, "--skip_optimization", "maybe"])
    assert "true or false, got 'maybe'" in capsys.readouterr().err
    every = ["--skip_optimization", "--skip_onnx_shape", "--skip_symbolic_shape"]
    assert preprocess.main([*arguments, *every]) == 2
    assert "together leave nothing to do: drop one of them" in capsys.readouterr().err
    assert preprocess.main([*arguments, "--save_as_external_data", "--external_data_location", "w.data", *NONE]) == 0
    assert (tmp_path / "w.data").exists()


NONE = ["--external_data_size_threshold", "0"]
FLAGS = [[], ["--skip_optimization"], ["--skip_optimization", "True"], ["--skip_optimization", "False"]]
