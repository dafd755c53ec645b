"""Weights that stay in their file: results as in memory, read through a map, and nothing from outside the folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import quantlab
from quantlab.backend import OrtBackend
from quantlab.errors import ModelError
from quantlab.graph import files
from quantlab.graph.external import is_external, mapped, place_of
from quantlab.graph.files import load, portable, save
from quantlab.graph.prepare import prepare
from quantlab.graph.tensors import to_array
from tests.graph.builders import build, initializers, normal

X = {"x": normal(0, 2, 32)}
TEXT = """g (float[2,32] x) => (float[2,32] y) {
    t = MatMul(x, w)
    s = Add(t, b)
    r = Relu(s)
    n = Gemm(r, v, b)
    y = Softmax(n)
}"""


def model() -> onnx.ModelProto:
    return build(TEXT, {"w": normal(1, 32, 32), "b": normal(2, 32), "v": normal(3, 32, 32) / np.float32(6)})


def on_disk(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "big.onnx"
    save(model(), path, external_above=0)
    return path


def entries(path: Path, name: str = "w") -> tuple[onnx.ModelProto, onnx.TensorProto]:
    read = onnx.load(path, load_external_data=False)
    return read, next(tensor for tensor in read.graph.initializer if tensor.name == name)


def test_large_initializers_stay_in_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = on_disk(tmp_path)
    monkeypatch.chdir(tmp_path)
    stays = load("big.onnx", map_above=0)
    monkeypatch.chdir("/")
    assert {tensor.name: is_external(tensor) for tensor in stays.graph.initializer} == {
        "w": True,
        "v": True,
        "b": False,
    }
    for name, value in initializers(model()).items():
        found = to_array(next(tensor for tensor in stays.graph.initializer if tensor.name == name))
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype
        assert not found.flags.writeable
    assert not any(is_external(tensor) for tensor in load(path).graph.initializer)


def test_they_are_mapped_and_not_copied(tmp_path: Path) -> None:
    stays = load(on_disk(tmp_path), map_above=0)
    weight = next(tensor for tensor in stays.graph.initializer if tensor.name == "w")
    place, view = place_of(weight), to_array(weight)
    with place.path.open("r+b") as stream:
        stream.seek(place.offset)
        stream.write(np.float32(12.5).tobytes())
    assert view[0, 0] == 12.5


def test_prepared_and_quantized_as_in_memory(tmp_path: Path) -> None:
    path = on_disk(tmp_path)
    data = [{"x": normal(seed, 2, 32)} for seed in range(4)]
    recipe = quantlab.Recipe(per_channel=True)
    results = {}
    for name, source in {"memory": load(path), "file": load(path, map_above=0)}.items():
        result = quantlab.quantize(source, data, recipe)
        save(result.model, tmp_path / f"{name}.onnx", external_above=0)
        results[name] = result
    assert any(map(is_external, results["file"].prepared.model.graph.initializer))
    assert results["file"].plan == results["memory"].plan
    assert results["file"].model.SerializeToString() == results["memory"].model.SerializeToString()
    session = onnxruntime.InferenceSession(str(tmp_path / "file.onnx"), providers=["CPUExecutionProvider"])
    wanted = OrtBackend().open(results["memory"].model)(X)["y"]
    np.testing.assert_array_equal(session.run(None, X)[0], wanted)


def test_what_stays_float_is_copied_from_file_to_file(tmp_path: Path) -> None:
    recipe = quantlab.Recipe(rules=(quantlab.RecipeRule(ops=("Gemm",), quantize=False),))
    wanted = quantlab.quantize(model(), [X], recipe).model
    found = quantlab.quantize(load(on_disk(tmp_path / "here"), map_above=0), [X], recipe).model
    assert {tensor.name for tensor in found.graph.initializer if is_external(tensor)} == {"w", "v"}
    (tmp_path / "there").mkdir()
    for above in (0, 10**9):
        path = tmp_path / "there" / f"{above}.onnx"
        save(found, path, external_above=above)
        onnx.checker.check_model(str(path), full_check=True)
        for name, value in initializers(wanted).items():
            np.testing.assert_array_equal(initializers(load(path))[name], value)
    assert sorted(os.listdir(tmp_path / "there")) == ["0.onnx", "0.onnx.data", f"{10**9}.onnx"]


def test_what_is_too_small_for_the_data_file_goes_into_the_model_file(tmp_path: Path) -> None:
    source = load(on_disk(tmp_path / "here"), map_above=0)
    path = tmp_path / "m.onnx"
    save(source, path, external_above=0, data_files=files.DataFiles(at_least=10**6))
    for name, value in initializers(model()).items():
        np.testing.assert_array_equal(initializers(load(path))[name], value)
    _, weight = entries(path)
    assert not is_external(weight)


def test_onnxruntime_reads_the_weights_from_their_files(tmp_path: Path) -> None:
    stays = load(on_disk(tmp_path), map_above=0)
    wanted = OrtBackend().open(model(), ["t", "y"])(X)
    found = OrtBackend().open(stays, ["t", "y"])(X)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
    before = stays.SerializeToString()
    with portable(stays) as (source, folder):
        assert folder == tmp_path
        assert isinstance(source, bytes)
        assert len(source) < 32 * 32 * 4
    assert stays.SerializeToString() == before


def test_weights_from_two_folders_run_together(tmp_path: Path) -> None:
    one, other = load(on_disk(tmp_path / "one"), map_above=0), load(on_disk(tmp_path / "other"), map_above=0)
    mixed = onnx.ModelProto()
    mixed.CopyFrom(one)
    del mixed.graph.initializer[:]
    mixed.graph.initializer.extend(t for t in one.graph.initializer if t.name != "v")
    mixed.graph.initializer.extend(t for t in other.graph.initializer if t.name == "v")
    np.testing.assert_array_equal(OrtBackend().open(mixed)(X)["y"], OrtBackend().open(model())(X)["y"])


def test_a_model_in_memory_that_cannot_be_serialized_runs_from_a_temporary_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = OrtBackend().open(model())(X)["y"]
    monkeypatch.setattr(files, "MAX_PROTOBUF_BYTES", 1000)
    with portable(model()) as (source, folder):
        assert isinstance(source, str)
        assert folder is None
        assert Path(source).is_file()
    assert not Path(source).parent.exists()
    np.testing.assert_array_equal(OrtBackend().open(model())(X)["y"], wanted)


def test_preparing_copies_no_weight(tmp_path: Path) -> None:
    stays = load(on_disk(tmp_path), map_above=0)
    before = stays.SerializeToString()
    prepared = prepare(stays).model
    assert prepared.ByteSize() < 32 * 32 * 4
    assert stays.SerializeToString() == before


def test_writing_over_the_file_that_is_read_is_refused(tmp_path: Path) -> None:
    path = on_disk(tmp_path)
    content = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ModelError) as caught:
        save(load(path, map_above=0), path, external_above=0)
    assert str(caught.value) == (
        f"cannot write '{path}.data': tensor 'w' of the model is still read from that file; give another name"
    )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == content


def test_a_data_file_that_went_away_is_named(tmp_path: Path) -> None:
    stays = load(on_disk(tmp_path), map_above=0)
    (tmp_path / "big.onnx.data").unlink()
    with pytest.raises(ModelError) as caught:
        quantlab.quantize(stays, [X])
    assert str(caught.value) == (
        f"the external data of tensor 'w' cannot be read: there is no file '{tmp_path}/big.onnx.data'; "
        "it has to lie beside the model"
    )


@pytest.mark.parametrize("threshold", [0, 10**9])
@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "deep/../../secret", "link"])
def test_a_location_outside_the_folder_is_refused(location: str, threshold: int, tmp_path: Path) -> None:
    path = on_disk(tmp_path / "model")
    (tmp_path / "secret").write_bytes(bytes(4096 * 8))
    (tmp_path / "model" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "model" / "deep").mkdir()
    changed, weight = entries(path)
    weight.external_data[0].value = location
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load(path, map_above=threshold)
    assert str(caught.value) == (
        f"the external data of tensor 'w' of '{path}' cannot be read: its location '{location}' is outside the folder "
        "of the model; external data has to lie in that folder"
    )


def test_a_folder_that_a_file_states_is_not_believed(tmp_path: Path) -> None:
    path = on_disk(tmp_path / "model")
    (tmp_path / "big.onnx.data").write_bytes(bytes(4096 * 8))
    changed, weight = entries(path)
    weight.external_data.add(key="basepath", value=str(tmp_path))
    path.write_bytes(changed.SerializeToString())
    np.testing.assert_array_equal(initializers(load(path))["w"], initializers(model())["w"])


@pytest.mark.parametrize("threshold", [0, 10**9])
def test_a_checksum_is_compared(threshold: int, tmp_path: Path) -> None:
    path = on_disk(tmp_path)
    right = hashlib.sha1((tmp_path / "big.onnx.data").read_bytes()).hexdigest()
    changed, weight = entries(path)
    weight.external_data.add(key="checksum", value=right)
    path.write_bytes(changed.SerializeToString())
    load(path, map_above=threshold)
    weight.external_data[-1].value = "0" * 40
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load(path, map_above=threshold)
    assert str(caught.value) == (
        f"the external data of tensor 'w' of '{path}' cannot be read: the checksum of '{tmp_path}/big.onnx.data' is "
        f"{right}, the model states {'0' * 40}: one was changed"
    )


def test_data_that_is_not_aligned_is_read(tmp_path: Path) -> None:
    path = on_disk(tmp_path)
    changed, weight = entries(path)
    (tmp_path / "odd").write_bytes(b"abc" + initializers(model())["w"].tobytes())
    del weight.external_data[:]
    for key, value in (("location", "odd"), ("offset", "3")):  # no length: to the end of the file
        weight.external_data.add(key=key, value=value)
    path.write_bytes(changed.SerializeToString())
    stays = load(path, map_above=0)
    found = next(tensor for tensor in stays.graph.initializer if tensor.name == "w")
    assert to_array(found).flags.aligned
    np.testing.assert_array_equal(to_array(found), initializers(model())["w"])


def test_4_bit_data_is_unpacked_from_its_file(tmp_path: Path) -> None:
    tensor = onnx.TensorProto(name="n", data_type=onnx.TensorProto.INT4, dims=[3], data_location=1)
    (tmp_path / "n.bin").write_bytes(bytes([0x21, 0x0F]))
    for key, value in (("location", "n.bin"), ("basepath", str(tmp_path))):
        tensor.external_data.add(key=key, value=value)
    assert mapped(tensor).tolist() == [0x21, 0x0F]
    assert to_array(tensor).tolist() == [1, 2, -1]
