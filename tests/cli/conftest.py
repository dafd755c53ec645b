"""The demo model and its digits as files, made once, and a way to run a command inside this process."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quantlab.cli.app import app
from quantlab.demo import digits, float_model


@dataclass(frozen=True, kw_only=True)
class Files:
    """Files that tests read and never write."""

    model: Path
    calibration: Path
    evaluation: Path
    int8: Path
    per_channel: Path
    plan: Path
    per_channel_plan: Path


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty current folder; it must not end in an unexpected exception."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # what a shell or a runner exports would cut lines

    def call(*args, code=0):
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.stderr + result.stdout
        return result

    return call


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    data = digits()
    paths = Files(
        model=folder / "float.onnx",
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        int8=folder / "int8.onnx",
        per_channel=folder / "per_channel.onnx",
        plan=folder / "plan.json",
        per_channel_plan=folder / "per_channel_plan.json",
    )
    paths.model.write_bytes(float_model())
    np.savez(paths.calibration, image=data.train_images[:200])
    np.savez(paths.evaluation, image=data.test_images[:100])
    for out, plan, flag in (
        (paths.int8, paths.plan, "--no-per-channel"),
        (paths.per_channel, paths.per_channel_plan, "--per-channel"),
    ):
        arguments = ["quantize", paths.model, "--data", paths.calibration, "-o", out, "--plan-out", plan, flag]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.stderr
    return paths


@pytest.fixture
def unchanged():
    """Check that a folder holds the same files with the same content after a block."""

    @contextlib.contextmanager
    def check(folder):
        before = snapshot(folder)
        yield
        assert snapshot(folder) == before

    return check


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}
