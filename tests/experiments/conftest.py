"""The shipped example, run once on the demonstration model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import quantlab
from quantlab.cli.app import app
from quantlab.config.ablation import read_ablation


@dataclass(frozen=True, kw_only=True)
class Example:
    """The files of the example, what they declare, and what came out."""

    folder: Path
    out: Path
    ablation: quantlab.Ablation
    result: quantlab.AblationResult

    def model(self, trial):
        return quantlab.load(self.result.row(trial).model)

    def saved(self):
        return json.loads((self.out / "results.json").read_text())


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    done = CliRunner().invoke(app, ["ablate", "--example", str(folder)])
    assert done.exit_code == 0, done.stderr
    declared = read_ablation(folder / "ablation.yaml").ablation
    ablation = replace(declared, evaluation=replace(declared.evaluation, iterations=12), repeats=2)
    out = folder / "out"
    return Example(folder=folder, out=out, ablation=ablation, result=quantlab.ablate(ablation, folder=out))
