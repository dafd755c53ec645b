"""How an ablation is carried out: shared calibration, any executor, and going on after it was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import onnx
import pytest
from distributed import Client, LocalCluster

import quantlab
from quantlab import Ablation, Sampling, Trial
from quantlab.demo import digits, float_model
from quantlab.experiments import ablation_steps, dataset_times, shared_calibration

DATA = digits()
CALIBRATION = Sampling(data={"image": DATA.train_images[:24]})
EVALUATION = Sampling(data={"image": DATA.test_images[:64], "label": DATA.test_labels[:64]}, batch=32)
TRIALS = (
    Trial(name="per tensor"),
    Trial(name="per channel", options={"per_channel": True}),
    Trial(name="entropy", options={"calibrate": "entropy"}),
    Trial(name="percentile", options={"calibrate_method": "Percentile"}),
    Trial(name="mse", options={"calibrate": "mse"}),
    Trial(name="no classifier", options={"nodes_to_exclude": ["/classifier/*"]}),
    Trial(name="fused", quantize=False, fuse="all"),
)


def ablation(**changed):
    values = {"model": float_model(), "trials": TRIALS, "calibration": CALIBRATION, "evaluation": EVALUATION}
    return Ablation(**values | {"metrics": ("accuracy", "top1"), "repeats": 0} | changed)


def quality(result):
    """Rows without what depends on the place they were made at."""
    plain = [row.to_json() for row in result.rows]
    return [
        {key: row[key] for key in row if key not in ("model", "environment", "seconds", "timed_on")} for row in plain
    ]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    return quantlab.ablate(ablation(), folder=tmp_path_factory.mktemp("wanted"))


# Calibration


@pytest.fixture
def collected(monkeypatch):
    """How many collections were made, and for how many tensors each."""
    counts = []

    def spy(prepared, plan, *args, **options):
        counts.append(len(plan.observed()))
        return original(prepared, plan, *args, **options)

    original = shared_calibration.observe
    monkeypatch.setattr(shared_calibration, "observe", spy)
    return counts


def test_one_collection_serves_every_rule_that_a_histogram_serves(collected):
    result = quantlab.ablate(ablation())
    assert result.calibration_passes == len(collected) == 1


def test_rules_that_need_other_statistics_get_their_own(collected):
    trials = (
        Trial(name="minmax"),
        Trial(name="average", options={"extra_options": {"CalibMovingAverage": True}}),
        Trial(name="histogram", options={"calibrate": "entropy"}),
        Trial(name="two passes", options={"calibrate": "onnxruntime_percentile"}),
        Trial(name="other data", calibration=Sampling(data={"image": DATA.train_images[24:48]})),
        Trial(name="other graph", options={"optimize": False}),
    )
    result = quantlab.ablate(ablation(trials=trials))
    # minmax takes its ends from the averages; the rule of two passes reads its data twice.
    assert len(collected) == 5
    assert result.calibration_passes == 6


@pytest.mark.parametrize("trial", TRIALS[:6], ids=lambda trial: trial.name)
def test_a_trial_makes_the_model_that_quantizing_alone_makes(wanted, trial):
    alone = quantlab.quantize(quantlab.load(float_model()), samples(), trial.recipe).model
    assert quantlab.load(wanted.row(trial.name).model).graph == alone.graph


def samples():
    return [{"image": image[None]} for image in DATA.train_images[:24]]


def test_bodies_of_control_flow_are_calibrated_by_their_trial(tmp_path):
    text = """
    <ir_version: 8, opset_import: ["": 13]>
    g (float[N, 4] x, bool c) => (float[N, 4] y) <float[4, 4] w = {1,0,2,0, 0,1,0,2, 3,0,1,0, 0,3,0,1}> {
        y = If (c) <
            then_branch = t () => (float[N, 4] a) { a = MatMul(x, w) },
            else_branch = e () => (float[N, 4] b) { b = Relu(x) }
        >
    }
    """
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    data = [{"x": rng.standard_normal((1, 4)).astype(np.float32), "c": np.array(True)} for _ in range(8)]
    trials = (Trial(name="inside", options={"subgraphs": True}),)
    found = quantlab.ablate(
        Ablation(
            model=model,
            trials=trials,
            calibration=Sampling(data=data),
            evaluation=Sampling(data=data),
            metrics=(),
            repeats=0,
        )
    )
    assert found.calibration_passes == 0
    assert 20 < found.row("inside").sqnr_db["y"] < 60


# Executors


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_executor_changes_nothing(wanted, tmp_path, kind):
    pool = ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, mp_context=get_context("forkserver"))
    with pool:
        assert quality(quantlab.ablate(ablation(), folder=tmp_path, executor=pool)) == quality(wanted)


def test_a_dask_cluster_changes_nothing(wanted, tmp_path):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        assert quality(quantlab.ablate(ablation(), folder=tmp_path, executor=client.get_executor())) == quality(wanted)


def test_times_are_taken_one_at_a_time_and_in_turns(monkeypatch, tmp_path):
    running = []

    def spy(run, batches):
        running.append("begun")
        assert running.count("begun") == running.count("ended") + 1
        seconds = original(run, batches)
        running.append("ended")
        return seconds

    original = dataset_times.seconds_over
    monkeypatch.setattr(dataset_times, "seconds_over", spy)
    with ThreadPoolExecutor(4) as pool:
        found = quantlab.ablate(ablation(trials=TRIALS[:2], repeats=3), folder=tmp_path, executor=pool)
    lines = map(json.loads, (tmp_path / "journal.jsonl").read_text().splitlines())
    assert [line["time"]["trial"] for line in lines if "time" in line] == ["original", "per tensor", "per channel"] * 3
    assert all(len(row.seconds) == 3 for row in found.rows)


def test_reading_the_data_is_not_counted():
    def slow():
        for _ in range(3):
            time.sleep(0.05)
            yield {}

    assert dataset_times.seconds_over(lambda batch: {}, slow()) < 0.05


# Going on


KILLED = """
import sys, time
from pathlib import Path
import quantlab
sys.path.insert(0, {root!r})
from tests.experiments.test_ablation_flow import ablation, slow_agreement
quantlab.ablate(ablation(metrics=(slow_agreement, "accuracy"), repeats=2), folder={folder!r})
"""


def slow_agreement(exact, rounded):
    if "ABLATION_SLOW" in os.environ:
        time.sleep(0.15)
    return float((exact["logits"].argmax(1) == rounded["logits"].argmax(1)).mean())


def rows_in(journal):
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [line for line in lines if line.startswith('{"row"')]


def test_an_ablation_that_was_killed_goes_on(tmp_path):
    root = str(quantlab.__file__).rpartition("/quantlab/")[0]
    code = KILLED.format(root=root, folder=str(tmp_path))
    environment = {**os.environ, "ABLATION_SLOW": "1", "PYTHONPATH": f"{root}:{root}/kernels"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    journal = tmp_path / "journal.jsonl"
    deadline = time.monotonic() + 60
    while len(rows_in(journal)) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = rows_in(journal)
    assert 3 <= len(kept) < len(TRIALS) + 1
    with journal.open("a") as file:
        file.write('{"row": {"trial": "torn')
    again = quantlab.ablate(ablation(metrics=(slow_agreement, "accuracy"), repeats=2), folder=tmp_path)
    assert again.resumed == len(kept)
    assert rows_in(journal)[: len(kept)] == kept
    fresh = quantlab.ablate(ablation(metrics=(slow_agreement, "accuracy")))
    assert quality(again) == quality(fresh)
    assert all(len(row.seconds) == 2 for row in again.rows)


@pytest.fixture
def runs(monkeypatch):
    names = []

    def spy(task):
        names.append(task.trial.name)
        return original(task)

    original = ablation_steps.run
    monkeypatch.setattr(ablation_steps, "run", spy)
    return names


def test_what_is_finished_is_not_done_again(tmp_path, runs, collected):
    first = quantlab.ablate(ablation(trials=TRIALS[:2], repeats=1), folder=tmp_path)
    assert runs == ["original", "per tensor", "per channel"]
    runs.clear()
    collected.clear()
    again = quantlab.ablate(ablation(trials=TRIALS[:2], repeats=1), folder=tmp_path)
    assert (runs, collected, again.resumed, again.calibration_passes) == ([], [], 3, 0)
    assert again.rows == first.rows
    quantlab.ablate(ablation(trials=(*TRIALS[:2], Trial(name="new", options={"reduce_range": True}))), folder=tmp_path)
    assert runs == ["new"]


@pytest.mark.parametrize(
    "changed",
    [
        {"calibration": Sampling(data={"image": DATA.train_images[1:25]})},
        {"evaluation": replace(EVALUATION, iterations=1)},
        {"metrics": ("accuracy",)},
        {"threads": 2},
        {"loss": "cross_entropy"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_a_row_depends_on_makes_it_another_row(tmp_path, runs, changed):
    quantlab.ablate(ablation(trials=TRIALS[:1]), folder=tmp_path)
    runs.clear()
    quantlab.ablate(ablation(trials=TRIALS[:1], **changed), folder=tmp_path)
    assert "per tensor" in runs


def test_a_file_of_data_that_has_changed_is_read_again(tmp_path, runs):
    path = tmp_path / "data.npz"
    np.savez(path, image=DATA.train_images[:8])
    quantlab.ablate(ablation(trials=TRIALS[:1], calibration=Sampling(data=path)), folder=tmp_path)
    np.savez(path, image=DATA.train_images[8:24])
    runs.clear()
    quantlab.ablate(ablation(trials=TRIALS[:1], calibration=Sampling(data=path)), folder=tmp_path)
    assert runs == ["per tensor"]


def test_calibration_that_was_done_is_not_done_again(tmp_path, runs):
    backend = Counted()
    engine = quantlab.Engine(backend=backend)
    first = quantlab.ablate(ablation(trials=TRIALS[:2]), folder=tmp_path, engine=engine)
    assert backend.samples == 24
    (tmp_path / "journal.jsonl").unlink()
    runs.clear()
    again = quantlab.ablate(ablation(trials=TRIALS[:2]), folder=tmp_path, engine=engine)
    assert (len(runs), backend.samples) == (3, 24)
    assert quality(again) == quality(first)


class Counted:
    """A backend that counts the samples it runs."""

    cores, samples = 1, 0

    def __init__(self):
        self.signature = quantlab.OrtBackend().signature

    def __repr__(self):
        return "Counted()"

    def open(self, model, tensors=None):
        run = quantlab.OrtBackend(threads=1).open(model, tensors)

        def counted(batch):
            self.samples += 1
            return run(batch)

        return counted


def test_another_engine_makes_other_rows(tmp_path, runs):
    quantlab.ablate(ablation(trials=TRIALS[:1]), folder=tmp_path)
    runs.clear()
    quantlab.ablate(ablation(trials=TRIALS[:1]), folder=tmp_path, engine=quantlab.Engine.like_onnxruntime())
    assert "per tensor" in runs


def test_a_model_that_is_gone_is_made_again(tmp_path, runs):
    first = quantlab.ablate(ablation(trials=TRIALS[:1]), folder=tmp_path)
    os.remove(first.row("per tensor").model)
    runs.clear()
    quantlab.ablate(ablation(trials=TRIALS[:1]), folder=tmp_path)
    assert runs == ["per tensor"]


def test_times_of_another_environment_are_not_taken_over(tmp_path):
    first = quantlab.ablate(ablation(trials=(), repeats=1), folder=tmp_path)
    journal = tmp_path / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if "time" in line:
            line["time"]["on"]["host"] = "elsewhere"
            line["time"]["seconds"] = 1e6
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = quantlab.ablate(ablation(trials=(), repeats=1), folder=tmp_path)
    assert again.original.seconds[0] < 1e6
    assert again.original.timed_on == first.original.timed_on


def test_a_model_is_prepared_once_for_all_trials_that_ask_for_the_same(monkeypatch):
    prepared = []

    def spy(model, recipe):
        prepared.append(recipe)
        return original(model, recipe)

    original = ablation_steps.prepare_for
    monkeypatch.setattr(ablation_steps, "prepare_for", spy)
    trials = (*TRIALS[:3], Trial(name="other", options={"optimize": False}), Trial(name="fused", fuse="all"))
    quantlab.ablate(ablation(trials=trials))
    assert len(prepared) == 3


def test_times_go_on_where_they_were_interrupted(tmp_path):
    first = quantlab.ablate(ablation(trials=TRIALS[:1], repeats=3), folder=tmp_path)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:-2]) + "\n")
    again = quantlab.ablate(ablation(trials=TRIALS[:1], repeats=3), folder=tmp_path)
    assert journal.read_text().splitlines()[:-2] == lines[:-2]
    assert [row.seconds[:2] for row in again.rows] == [row.seconds[:2] for row in first.rows]
    assert [len(row.seconds) for row in again.rows] == [3, 3]
    more = quantlab.ablate(ablation(trials=TRIALS[:1], repeats=4), folder=tmp_path)
    assert [row.seconds[:3] for row in more.rows] == [row.seconds for row in again.rows]
