"""The demonstration: the embedded CNN, quantized on one half of the embedded digits and measured on the other.

The halves are different images, mostly of different hands: no number below was measured on an image that the model was
trained on or calibrated with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.backend import Backend, Batch, OrtBackend
from quantlab.debug.compare import compare
from quantlab.debug.findings import TensorError
from quantlab.demo import digits, float_model
from quantlab.experiments.timing import interleaved, ratios
from quantlab.graph.files import atomic_write, load, model_size, save
from quantlab.plan import Recipe
from quantlab.progress import Track, quiet
from quantlab.workflow.quantize import quantize

FLOAT_FILE, INT8_FILE, PLAN_FILE = "digits_float.onnx", "digits_int8.onnx", "plan.json"
LATENCY_BATCH = 32
"""Images in one timed run: a run of a single 8x8 image is over before a clock says much."""

LATENCY_ROUNDS = 25
RUNS_A_ROUND = 8
LATENCY_WARM_UP = 2
WORST = 5


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long a run takes, measured in turns so that a change of clock speed meets both models alike.

    Attributes:
        float_ms: Median of the float model, in milliseconds a run.
        int8_ms: Median of the int8 model, in milliseconds a run.
        ratio: Median over the rounds of float time by int8 time; above 1 the int8 model is faster.
        batch_size: Images in one run.
        threads: Threads in use.
        runs: Timed runs of each model.
    """

    float_ms: float
    int8_ms: float
    ratio: float
    batch_size: int
    threads: int
    runs: int


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demonstration measured.

    Attributes:
        folder: Where the files are.
        files: Float model, int8 model and plan.
        activations: Type of the activations.
        weights: Type of the weights.
        calibrate: Name of the range rule.
        per_channel: Whether weights have a scale a channel.
        calibrated_on: Number of images that the ranges were measured on.
        measured_on: Number of other images that everything else was measured on.
        float_bytes: Size of the float model file.
        int8_bytes: Size of the int8 model file, which carries its plan.
        float_top1: Share of the images that the float model recognizes, in 0..1.
        int8_top1: The same of the int8 model.
        agreement: Share of the images on which both say the same, in 0..1.
        output_sqnr_db: Signal-to-quantization-noise ratio of the logits, in dB.
        latency: How long a run takes.
        worst: The tensors with the lowest SQNR, worst first.
    """

    folder: str
    files: tuple[str, str, str]
    activations: str
    weights: str
    calibrate: str
    per_channel: bool
    calibrated_on: int
    measured_on: int
    float_bytes: int
    int8_bytes: int
    float_top1: float
    int8_top1: float
    agreement: float
    output_sqnr_db: float
    latency: Latency
    worst: tuple[TensorError, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        plain = asdict(replace(self, worst=()))
        return plain | {"worst": [row.to_json() for row in self.worst]}


def demo(folder: Path, recipe: Recipe = Recipe(), *, track: Track = quiet) -> DemoReport:  # noqa: B008  # a frozen value
    """Quantize the embedded model, write it down and measure it.

    Args:
        folder: Where the two models and the plan are written; it is made where it is missing.
        recipe: How to quantize.
        track: Shows progress.

    Returns:
        The measurements.

    Raises:
        ModelError: The folder cannot be written.
        OptionError: The recipe does not fit the model.
    """
    data, backend = digits(), OrtBackend(threads=1)
    files = demo_files(folder)
    model = load(float_model())
    result = quantize(model, Images(images=data.train_images), recipe, track=track)
    save(model, files[0])
    save(result.model, files[1])
    with atomic_write(files[2]) as temporary:
        temporary.write_text(result.plan.to_json(), encoding="utf-8")
    found = compare(model, result.model, Images(images=data.test_images), backend=backend, track=track)
    float_top1, int8_top1 = (
        top1(backend, each, Images(images=data.test_images), data.test_labels, track=track)
        for each in (model, result.model)
    )
    return DemoReport(
        folder=str(folder),
        files=(str(files[0]), str(files[1]), str(files[2])),
        activations=recipe.activation.dtype.name,
        weights=recipe.weight.dtype.name,
        calibrate=recipe.calibrate,
        per_channel=recipe.per_channel,
        calibrated_on=len(data.train_images),
        measured_on=len(data.test_images),
        float_bytes=model_size(files[0]),
        int8_bytes=model_size(files[1]),
        float_top1=float_top1,
        int8_top1=int8_top1,
        agreement=found.agreement or 0.0,
        output_sqnr_db=found.outputs[0].sqnr_db,
        latency=in_turns(model, result.model, {"image": data.test_images[:LATENCY_BATCH]}),
        worst=found.tensors[:WORST],
    )


def demo_files(folder: Path) -> tuple[Path, Path, Path]:
    """Return the paths of float model, int8 model and plan in a folder."""
    return folder / FLOAT_FILE, folder / INT8_FILE, folder / PLAN_FILE


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images as one batch each."""

    images: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Batch]:
        return ({"image": image[None]} for image in self.images)


def top1(
    backend: Backend,
    model: onnx.ModelProto,
    batches: Images,
    labels: npt.NDArray[np.int64],
    *,
    track: Track = quiet,
) -> float:
    """Return the share of images whose largest logit is that of their label.

    Args:
        backend: Runs the model.
        model: The model.
        batches: N images.
        labels: Their classes, shape (N,).
        track: Shows progress.

    Returns:
        A number in 0..1.
    """
    run = backend.open(model)
    samples = track(batches, "recognizing digits", len(batches))
    hits = [next(iter(run(sample).values())).argmax(axis=-1)[0] for sample in samples]
    return float((np.asarray(hits) == labels).mean())


def in_turns(reference: onnx.ModelProto, quantized: onnx.ModelProto, batch: Batch) -> Latency:
    """Time two models on one thread, in turns.

    Args:
        reference: The float model.
        quantized: The int8 model.
        batch: What both are fed.

    Returns:
        Medians, and the median of the ratios within a round.
    """
    backend = OrtBackend(threads=1)
    sessions = [backend.session(model) for model in (reference, quantized)]
    seconds = interleaved(
        sessions, [batch, batch], rounds=range(LATENCY_ROUNDS), runs=RUNS_A_ROUND, warm_up=LATENCY_WARM_UP
    )
    typical = np.median(np.median(seconds, axis=2), axis=0) * 1e3
    return Latency(
        float_ms=float(typical[0]),
        int8_ms=float(typical[1]),
        ratio=ratios(seconds)[1].median,
        batch_size=len(next(iter(batch.values()))),
        threads=1,
        runs=LATENCY_ROUNDS * RUNS_A_ROUND,
    )
