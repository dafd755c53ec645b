"""The benchmarks of size: the large model in small, the chain, and the command that draws random graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import quantlab
from benchmarks import big_model, random_graphs, scaling


def test_the_large_model_in_small(tmp_path: Path) -> None:
    path = big_model.build(tmp_path, width=64, layers=3)
    onnx.checker.check_model(str(path), full_check=True)
    sample = big_model.samples(64, 1)[0]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = session.run(None, sample)[0]
    assert 0.1 < float(wanted.std()) < 10  # signals neither die out nor explode
    result = quantlab.quantize(quantlab.load(path, map_above=0), [sample], quantlab.Recipe(per_channel=True))
    quantlab.save(result.model, tmp_path / "int8.onnx")
    found = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), providers=["CPUExecutionProvider"])
    error = found.run(None, sample)[0] - wanted
    assert float(np.square(error).mean() / np.square(wanted).mean()) < 1e-2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data", "int8.onnx"]


def test_the_chain() -> None:
    model = scaling.chain(32)
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.node) == 32
    assert list(scaling.stages(model)) == ["prepare", "plan", "resolve", "write"]


def test_the_command_prints_seed_and_count(capsys: pytest.CaptureFixture[str]) -> None:
    random_graphs.main(["--examples", "2", "--seed", "7", "--most", "3"])
    first, last = capsys.readouterr().out.splitlines()
    assert first == "seed 7, 2 examples"
    assert last.startswith("seed 7: 2 graphs with ")
