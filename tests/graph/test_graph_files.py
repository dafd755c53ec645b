"""Model files: what is read, what is refused and in which words, and that nothing is left behind."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import ModelError
from quantlab.graph.files import atomic_write, load, model_size, save, split_weights
from tests.graph.builders import build, initializers, normal, run

X = {"x": normal(0, 2, 300)}


def model() -> onnx.ModelProto:
    return build(
        "g (float[2,300] x) => (float[2,4] y) { y = Gemm(x, w, b) }", {"w": normal(1, 300, 4), "b": normal(2, 4)}
    )


def with_data_file(folder: Path) -> Path:
    path = folder / "big.onnx"
    save(model(), path, external_above=0)
    return path


def test_a_model_is_returned_as_it_is() -> None:
    given_model = model()
    assert load(given_model) is given_model


def test_path_text_and_bytes_give_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(model(), path)
    before = path.read_bytes()
    assert load(path) == load(str(path)) == load(before) == model()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert model_size(path) == len(before)


def test_external_data_is_loaded_relative_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_data_file(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["big.onnx", "big.onnx.data"]
    monkeypatch.chdir("/")
    loaded = load(path)
    for name, value in initializers(model()).items():
        np.testing.assert_array_equal(initializers(loaded)[name], value)
    np.testing.assert_array_equal(run(loaded, X)["y"], run(model(), X)["y"])
    assert model_size(path) == path.stat().st_size + 300 * 4 * 4


def test_onnxruntime_and_the_checker_read_what_is_written_with_a_data_file(tmp_path: Path) -> None:
    import onnxruntime

    path = with_data_file(tmp_path)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, X)[0], run(model(), X)["y"], rtol=1e-5)


def test_saving_again_replaces_and_does_not_append(tmp_path: Path) -> None:
    size = model_size(with_data_file(tmp_path))
    assert model_size(with_data_file(tmp_path)) == size


def test_saving_leaves_the_model_alone(tmp_path: Path) -> None:
    given_model = model()
    save(given_model, tmp_path / "m.onnx", external_above=0)
    assert given_model == model()


def test_data_that_is_not_raw_goes_into_the_data_file_too(tmp_path: Path) -> None:
    source = model()
    weight = source.graph.initializer[0]
    values = onnx.numpy_helper.to_array(weight)
    weight.ClearField("raw_data")
    weight.float_data.extend(values.ravel().tolist())
    save(source, tmp_path / "m.onnx", external_above=0)
    np.testing.assert_array_equal(initializers(load(tmp_path / "m.onnx"))["w"], values)


def test_a_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    save(model(), tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert load(tmp_path / "real.onnx") == model()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", model().SerializeToString())
    return buffer.getvalue()


BAD = {
    "empty": (b"", "is empty: export or download it again"),
    "random": (bytes(range(255, 100, -1)), "is not an ONNX model, or only a part of one: export or download it again"),
    "text": (b"hello, this is text\n", "it is a text file, give a binary .onnx file"),
    "zip": (_zip(), "it is a zip archive, unpack it and give the .onnx file in it"),
    "half": (
        model().SerializeToString()[:2000],
        "is not an ONNX model, or only a part of one: export or download it again",
    ),
    "no graph": (
        onnx.ModelProto(ir_version=8, opset_import=[onnx.helper.make_opsetid("", 13)]).SerializeToString(),
        "is not an ONNX model (it has no graph): export or download it again",
    ),
    "no opset": (
        onnx.ModelProto(ir_version=8, graph=model().graph).SerializeToString(),
        "is not a complete ONNX model (it imports no operator set): export or download it again",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused(kind: str, tmp_path: Path) -> None:
    content, message = BAD[kind]
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value).startswith(f"model file '{path}' is ")
    assert str(caught.value).endswith(message)
    assert path.read_bytes() == content


def test_where_there_is_no_model_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "none.onnx")
    assert str(caught.value) == f"model file '{tmp_path}/none.onnx' does not exist: check the path"
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path))
    assert str(caught.value) == f"model file '{tmp_path}' is a directory: give the model file in it"
    with pytest.raises(ModelError, match=r"^a model is given as a path, as bytes or as an onnx.ModelProto, got int$"):
        load(3)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=200)
@given(content=st.binary(min_size=1, max_size=200))
def test_any_bytes_are_refused_with_our_error(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^the given data \(\d+ bytes\) is not a"):
        load(content)


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(1, 4500))
def test_a_truncated_model_is_refused(cut: int) -> None:
    content = model().SerializeToString()
    with pytest.raises(ModelError):
        load(content[:-cut])


def test_external_data_that_is_missing_truncated_or_elsewhere(tmp_path: Path) -> None:
    path = with_data_file(tmp_path)
    with pytest.raises(ModelError) as caught:
        load(path.read_bytes())
    assert str(caught.value) == "tensor 'w' lies in a file beside the model: give the model's path, not its bytes"
    data = tmp_path / "big.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ModelError, match=rf"^the external data of tensor 'w' of '{path}' cannot be read: .*4800"):
        load(path)
    data.unlink()
    with pytest.raises(ModelError, match=rf"^the external data of tensor 'w' of '{path}' cannot be read: "):
        load(path)
    with pytest.raises(ModelError) as caught:
        model_size(path)
    assert str(caught.value) == f"tensor 'w' of '{path}' lies in '{data}', which does not exist"


def test_external_data_of_another_size_or_outside_the_folder(tmp_path: Path) -> None:
    path = with_data_file(tmp_path)
    changed = onnx.load(path, load_external_data=False)
    weight = next(tensor for tensor in changed.graph.initializer if tensor.name == "w")
    weight.dims[0] = 200
    onnx.save(changed, path)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value) == (
        f"the external data of tensor 'w' of '{path}' has 4800 bytes, its shape (200, 4) needs 3200: "
        "the data file does not belong to this model"
    )
    weight.external_data[0].value = "../secret"
    (tmp_path.parent / "secret").write_bytes(bytes(4800))
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(ModelError, match=r"^the external data of tensor 'w'"):
        load(path)


def test_a_folder_that_cannot_take_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "none" / "m.onnx"
    with pytest.raises(ModelError) as caught:
        save(model(), missing)
    assert str(caught.value) == f"cannot write '{missing}': there is no folder '{tmp_path}/none'; create it first"
    with pytest.raises(ModelError) as caught:
        save(model(), tmp_path)
    assert str(caught.value) == f"cannot write '{tmp_path}': it is a directory; give the name of a file"

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelError) as caught:
        save(model(), tmp_path / "m.onnx")
    assert str(caught.value) == (
        f"cannot write '{tmp_path}/m.onnx': folder '{tmp_path}' does not take new files (Permission denied)"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("external_above", [2**31, 0])
def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external_above: int
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ModelError, match=r"cannot write .*No space left on device"):
        save(model(), path, external_above=external_above)
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert path.read_bytes() == b"old"


def test_an_error_of_the_caller_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_write(tmp_path / "plan.json") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "ours") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_splitting_shares_the_large_weights_and_copies_the_rest() -> None:
    source = model()
    copy, large = split_weights(source)
    assert list(large) == ["w"]
    assert large["w"] is source.graph.initializer[0]
    assert [tensor.name for tensor in copy.graph.initializer] == ["b"]
    copy.graph.initializer.append(large["w"])
    copy.graph.initializer.sort(key=lambda tensor: tensor.name != "w")
    assert copy == source
