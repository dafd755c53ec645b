"""`quantlab ablate`: what it prints and leaves, and what it refuses."""

import json

import pytest

SMALL = """\
model: {model}
calibration: {{data: {calibration}, iterations: 20}}
evaluation: {{data: {evaluation}, batch: 25}}
repeats: 1
trials:
  - {{name: per tensor, activation_type: QUInt8}}
  - {{name: per channel, activation_type: QUInt8, per_channel: true}}
resources: {{executor: threads, workers: 2}}
"""


@pytest.fixture
def config(files, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.format(model=files.model, calibration=files.calibration, evaluation=files.evaluation))
    return path


def test_the_table_and_the_files(run, config, tmp_path):
    result = run("ablate", config, "-o", "out")
    lines = result.stdout.splitlines()
    assert " ".join(lines[0].split()) == "trial size MB smaller time s spread faster loss top1 SQNR dB logits"
    assert [line.split("  ")[0] for line in lines[2:5]] == ["original", "per tensor", "per channel"]
    assert "3 rows, 0 of them from the journal; passes over calibration data: 1" in result.stdout
    assert result.stdout.endswith("left in out: results.md, results.csv, results.json\n")
    assert result.stderr == ""
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["trial"] for row in saved["rows"]] == ["original", "per tensor", "per channel"]
    assert (tmp_path / "out" / "results.md").read_text().startswith("| trial | size MB | times smaller | time s |")
    assert (tmp_path / "out" / "results.csv").read_text().startswith("trial,size MB,times smaller,time s,spread s,")


def test_started_again_it_goes_on(run, config):
    first = json.loads(run("ablate", config, "-o", "out", "--json").stdout)
    again = json.loads(run("ablate", config, "-o", "out", "--json").stdout)
    assert (first["resumed"], again["resumed"], again["calibration_passes"]) == (0, 3, 0)
    assert again["rows"] == first["rows"]


def test_the_example_can_be_run_where_it_is_written(run, tmp_path):
    result = run("ablate", "--example", "ex")
    assert result.stdout.startswith("left in ex: ablation.yaml, digits_float.onnx, calibration.npz, evaluation.npz\n")
    assert "next: quantlab ablate ex/ablation.yaml" in result.stdout
    assert sorted(path.name for path in (tmp_path / "ex").iterdir()) == sorted(
        ("ablation.yaml", "digits_float.onnx", "calibration.npz", "evaluation.npz")
    )


def test_refusals(run, config):
    assert run("ablate", code=2).stderr == (
        "error: there is no CONFIG: name the YAML file of an ablation, or begin with --example FOLDER\n"
    )
    assert run("ablate", config, "--example", "ex", code=2).stderr == (
        "error: CONFIG and --example exclude each other: give one of them\n"
    )
    assert "'gone.yaml' cannot be read" in run("ablate", "gone.yaml", code=2).stderr
    config.write_text(config.read_text().replace("per_channel: true", "per_chanel: true"))
    assert run("ablate", config, "-o", "out", code=2).stderr.startswith(
        "error: small.yaml, line 7, trials[1].per_chanel: unknown key 'per_chanel'; did you mean 'per_channel'"
    )
