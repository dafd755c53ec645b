"""The embedded digits and CNN are what their description says: real, credited, small, and as accurate as claimed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from quantlab.demo import TRAIN_COUNT, digits, float_model
from quantlab.demo import train as train_module
from quantlab.errors import QuantlabError

# From the "class distribution" section of the data set's description (optdigits.names), testing set.
UCI_TEST_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
# Of load_digits() of scikit-learn 1.9.1, cast to uint8: rows, then pixels in row-major order.
IMAGES_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
LABELS_SHA256 = "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load_from_string(float_model())


def top1(images: np.ndarray, labels: np.ndarray) -> float:
    session = onnxruntime.InferenceSession(float_model(), providers=["CPUExecutionProvider"])
    return float((session.run(["logits"], {"image": images})[0].argmax(axis=1) == labels).mean())


def test_assets_are_small() -> None:
    sizes = {
        name: len(files("quantlab.demo").joinpath(name).read_bytes()) for name in ("digits.npz", "digits_cnn.onnx")
    }
    assert sizes["digits_cnn.onnx"] <= 230_000
    assert sum(sizes.values()) <= 300_000


def test_digits_are_the_published_ones() -> None:
    data = digits()
    pixels = data.images[:, 0] * 16
    assert np.array_equal(pixels, np.round(pixels))
    assert (pixels.min(), pixels.max()) == (0, 16)
    assert hashlib.sha256(pixels.astype(np.uint8).tobytes()).hexdigest() == IMAGES_SHA256
    assert hashlib.sha256(data.labels.astype(np.uint8).tobytes()).hexdigest() == LABELS_SHA256
    assert np.bincount(data.labels).tolist() == UCI_TEST_COUNTS


def test_digits_types_and_shapes() -> None:
    data = digits()
    assert data.images.dtype == np.float32
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.labels.dtype == np.int64
    assert data.labels.shape == (1797,)
    assert not data.images.flags.writeable
    assert not data.labels.flags.writeable


def test_halves_are_disjoint_and_complete() -> None:
    data = digits()
    assert (len(data.train_images), len(data.test_images)) == (TRAIN_COUNT, 899)
    assert np.array_equal(np.concatenate([data.train_images, data.test_images]), data.images)
    assert np.array_equal(np.concatenate([data.train_labels, data.test_labels]), data.labels)
    # Disjoint as pictures, not only as row numbers.
    assert not {image.tobytes() for image in data.train_images} & {image.tobytes() for image in data.test_images}
    assert np.bincount(data.train_labels).min() >= 80
    assert np.bincount(data.test_labels).min() >= 80


def test_credit_travels_with_the_data(model: onnx.ModelProto) -> None:
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    for text in (files("quantlab.demo").joinpath("README.md").read_text("utf-8"), metadata["training_data"]):
        for part in ("E. Alpaydin and C. Kaynak", "1998", "CC BY 4.0", "10.24432/C50P49"):
            assert part in text


def test_model_is_valid_and_has_the_promised_interface(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    (image,) = model.graph.input
    (logits,) = model.graph.output
    for value, name, shape in ((image, "image", ["N", 1, 8, 8]), (logits, "logits", ["N", 10])):
        assert value.name == name
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == shape


def test_model_has_the_operators_the_demo_shows(model: onnx.ModelProto) -> None:
    assert Counter(node.op_type for node in model.graph.node) == {
        "Conv": 5,
        "BatchNormalization": 4,
        "Relu": 4,
        "Add": 1,
        "MaxPool": 1,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert shapes["depth_conv.weight"] == (64, 1, 3, 3)  # one input channel a group: depthwise
    assert shapes["point_conv.weight"] == (64, 64, 1, 1)
    assert 40_000 <= sum(int(np.prod(shape)) for shape in shapes.values()) <= 60_000
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_training_script_writes_this_very_graph(model: onnx.ModelProto) -> None:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert train_module.onnx_model(weights, metadata) == model
    assert metadata["torch"].split("+")[0] == train_module.TORCH_VERSION
    assert metadata["settings"] == repr(train_module.Settings())


def test_accuracy_on_the_held_out_half() -> None:
    data = digits()
    assert top1(data.test_images, data.test_labels) >= 0.97


def test_batch_is_dynamic() -> None:
    data = digits()
    assert top1(data.test_images[:1], data.test_labels[:1]) == 1.0


def test_missing_torch_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(QuantlabError, match=r"training the demo model needs torch.*pip install torch==2\.13\.0"):
        train_module.main(["--output", str(tmp_path / "model.onnx")])
    assert not list(tmp_path.iterdir())


def test_graph_that_disagrees_with_torch_is_not_written(model: onnx.ModelProto) -> None:
    data = digits()
    wrong = np.zeros((len(data.images), 10), np.float32)
    with pytest.raises(QuantlabError, match=r"output 'logits' of the ONNX graph differs from torch by .* nothing was"):
        train_module._report(data, wrong, model)


def test_import_loads_nothing_heavy() -> None:
    program = "import sys, quantlab.demo; print(*{'onnx', 'onnxruntime', 'torch', 'numba'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
