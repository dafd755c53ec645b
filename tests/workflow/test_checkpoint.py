"""Going on where a calibration was left: after SIGKILL at any moment, and never with something else."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import quantlab
from quantlab import demo
from quantlab.calibration import Histogram, MinMax
from quantlab.errors import DataError, OptionError
from quantlab.workflow.checkpoint import Checkpoint, Position, batch_hash

IMAGES = demo.digits().train_images[:80]


def quantized(path=None, data=IMAGES, **options):
    engine = quantlab.Engine(checkpoint=path, every=options.pop("every", 0), workers=options.pop("workers", None))
    model = options.pop("model", demo.float_model())
    options = {"calibrate_method": "percentile", **options}
    return quantlab.quantize_static(model, None, {"image": data}, engine=engine, **options).model


WANTED = quantized().SerializeToString()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_calibration_that_broke_off_goes_on(tmp_path, workers):
    def broken(stop):
        for index, image in enumerate(IMAGES):
            if index == stop:
                raise KeyboardInterrupt
            yield {"image": image[None]}

    path = tmp_path / "calibration.npz"
    engine = quantlab.Engine(checkpoint=path, every=0, workers=workers)
    for stop in (13, 40, 41, 79):
        with pytest.raises(KeyboardInterrupt):
            quantlab.quantize_static(
                demo.float_model(), None, broken(stop), calibrate_method="percentile", engine=engine
            )
    assert Checkpoint(path=path).load().samples >= 70
    assert quantized(path, workers=workers).SerializeToString() == WANTED
    assert [file.name for file in tmp_path.iterdir()] == ["calibration.npz"]


SCRIPT = """
import sys, time, numpy as np, quantlab
from quantlab import demo

def slowly():
    for image in demo.digits().train_images[:80]:
        time.sleep(0.01)
        yield {"image": image[None]}

engine = quantlab.Engine(checkpoint=sys.argv[1], every=0.02)
result = quantlab.quantize_static(demo.float_model(), None, slowly(), calibrate_method="percentile", engine=engine)
quantlab.save(result.model, sys.argv[2])
"""


def test_killed_at_any_moment_and_started_again_it_ends_with_the_same_bytes(tmp_path):
    checkpoint, out = tmp_path / "calibration.npz", tmp_path / "int8.onnx"
    random = np.random.default_rng(0)
    kills, reached = 0, []
    while not out.exists():
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(checkpoint), str(out)])
        deadline = time.monotonic() + 60
        if len(reached) < 4:
            # Killed some time after it has got further than the process before it.
            before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            while process.poll() is None and time.monotonic() < deadline:
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns > before:
                    break
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            reached.append(Checkpoint(path=checkpoint).load().samples)
        else:
            assert process.wait(timeout=60) == 0
    assert kills >= 2
    assert reached == sorted(reached)
    assert out.read_bytes() == WANTED


def test_a_finished_calibration_reads_no_further_sample_and_gives_the_same(tmp_path):
    path = tmp_path / "calibration.npz"
    assert quantized(path).SerializeToString() == WANTED
    stored = path.read_bytes()
    assert quantized(path).SerializeToString() == WANTED
    assert path.read_bytes() == stored


def test_more_data_of_the_same_beginning_goes_on(tmp_path):
    path = tmp_path / "calibration.npz"
    quantized(path, IMAGES[:30])
    assert quantized(path).SerializeToString() == WANTED


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"calibrate_options": {"percent": 99.0}}, "options"),
        ({"calibrate_method": "minmax"}, "options"),
        ({"op_types_to_quantize": ["Conv"]}, "options"),
        ({"model": None}, "model"),
    ],
    ids=str,
)
def test_another_model_or_other_options_are_refused(tmp_path, change, name):
    path = tmp_path / "calibration.npz"
    quantized(path, IMAGES[:5])
    if name == "model":
        model = quantlab.load(demo.float_model())
        weight = model.graph.initializer[0]
        changed = np.frombuffer(weight.raw_data, np.float32) * np.float32(1.5)
        weight.raw_data = changed.tobytes()
        change = {"model": model}
    with pytest.raises(DataError) as error:
        quantized(path, IMAGES[:5], **change)
    text = str(error.value)
    assert text.startswith(f"checkpoint '{path}' was made with another {name}: its hash is ")
    assert len({word.strip(";,") for word in text.split() if len(word.strip(";,")) == 64}) == 2
    assert text.endswith("remove the file to begin anew, or give another one")


def test_other_data_is_refused(tmp_path):
    path = tmp_path / "calibration.npz"
    quantized(path, IMAGES[:10])
    with pytest.raises(DataError, match=r"holds 10 samples of other data: here sample 9 is another one; give the same"):
        quantized(path, IMAGES[::-1][:20])
    with pytest.raises(DataError, match=r"holds 10 samples of other data: here there are fewer; give the same data"):
        quantized(path, IMAGES[:4])


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "calibration.npz"
    path.write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match="is truncated, corrupt or not one of quantlab's"):
        quantized(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(DataError, match="is truncated, corrupt or not one of quantlab's"):
        quantized(path)


def test_a_position_survives_the_file(tmp_path):
    statistics = {"a": MinMax().update(np.ones(3)), "b": Histogram().update(np.arange(5.0))}
    checkpoint = Checkpoint(path=tmp_path / "c.npz", identity={"model": "1", "options": "2"})
    assert checkpoint.load() is None
    checkpoint.save(Position(samples=7, last="abc", statistics=statistics))
    assert checkpoint.load() == Position(samples=7, last="abc", statistics=statistics)


def test_samples_are_told_apart():
    x = np.arange(6, dtype=np.float32)
    batches = [None, {"x": x}, {"y": x}, {"x": x.reshape(2, 3)}, {"x": x.astype(np.float64)}, {"x": x[::-1]}]
    assert len({batch_hash(batch) for batch in batches}) == len(batches)
    assert batch_hash({"x": x[::2]}) == batch_hash({"x": x[::2].copy()})


def test_engine_messages(tmp_path):
    for options, text in (
        ({"budget": 0}, "budget must be at least 1, got 0"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"every": -1.0}, "every must be a number of seconds of at least 0, got -1"),
        ({"shards": 3}, "3 shards need an executor to run them"),
    ):
        with pytest.raises(OptionError, match=f"^{text}$"):
            quantlab.Engine(**options)
