"""Real trained models quantized by quantlab and by onnxruntime.quantization, on the same samples, side by side.

    python -m benchmarks.results [KEY ...] [--variants minmax-int8 ...] [-o docs/results.md]

Every quantization runs in a process of its own, so that its time and peak memory are its own. Afterwards float model
and both int8 models run on the evaluation samples in one process; latencies are medians of interleaved single-threaded
runs of batch 1, given as ratios within that run.

Sections of the output file that are not about a case stay as they are, such as that of `benchmarks.robustness`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.model_checks import sqnr
from benchmarks.pages import INTRODUCTION, conditions, replaced
from benchmarks.real_models import KEYS, Array, Sample, case

VARIANTS = (
    "minmax-int8",
    "minmax-uint8",
    "percentile-uint8",
    "minmax-uint8-linear",
    "minmax-int8-qoperator",
    "minmax-uint8-qoperator",
)
"""Range rule, type of the activations, whether only linear operators are quantized, and the format if it is not QDQ."""
LINEAR = ("Conv", "MatMul", "Gemm")
TOOLS = ("quantlab", "onnxruntime")
MIN_OPSET = 13
LATENCY_ROUNDS = 100
JITTER = 5e-4
JITTERED = 5
NOTES = {
    "ppocr_cls": "Slower than float with both tools, whatever is quantized: the tensors are small, and rounding them "
    "between 44 Add, 27 Mul and 18 Div takes longer than 8-bit convolutions save.",
    "magika": "Ruined by both tools where everything is quantized, and unharmed where only the linear operators are.",
    "minilm": "Ruined by both tools where everything is quantized: the attention mask adds -10,000 to padded "
    "positions, and one grid has to hold that and the scores beside it. Differences between rows that far down are "
    "noise.",
    "silero": "Agreement says nothing here: each row of the output has one value.",
}
"""What to know when reading a case's table."""
JITTER_FROM: list[Any] = []
"""What quantlab made last in this process."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one tool made of one model in one variant.

    Attributes:
        seconds: Time of the whole quantization, model and data in memory, in seconds.
        peak_mb: Growth of the process' peak memory over what it held before, in MB (1e6 bytes).
        size_mb: Size of the written model in MB.
        note: What had to be done or went wrong, in words.
        error: The first line of an error; empty where the model was made and loads.
    """

    seconds: float = 0.0
    peak_mb: float = 0.0
    size_mb: float = 0.0
    note: str = ""
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What one int8 model is worth on the evaluation samples.

    Attributes:
        sqnr_db: Signal-to-quantization-noise ratio over all float outputs, in dB.
        agreement: Share of rows of the first output whose largest value stands at the float model's place; NaN where
            rows have one value.
        score: The case's own metric.
        speed: Median latency of the float model divided by that of this one.
    """

    sqnr_db: float
    agreement: float
    score: float
    speed: float


def quantize_with_quantlab(content: bytes, samples: list[Sample], variant: str, target: Path) -> str:
    """Quantize with per-channel int8 weights; everything else as it comes."""
    import quantlab

    rule, kind, *more = variant.split("-")
    result = quantlab.quantize_static(
        content,
        target,
        samples,
        quant_format="QOperator" if "qoperator" in more else "QDQ",
        per_channel=True,
        calibrate_method=rule,
        activation_type=kind,
        op_types_to_quantize=LINEAR if "linear" in more else None,
    )
    JITTER_FROM.append(result)
    return ""


def write_jittered(target: Path) -> None:
    """Write variants of the model just made, whose activation ranges are off by a factor within 1 +- JITTER."""
    import quantlab
    from quantlab.graph import GraphView
    from quantlab.plan import resolve

    (result,) = JITTER_FROM
    random = np.random.default_rng(0)
    for index in range(JITTERED):
        changed = {}
        for name, tensor in result.plan.tensors.items():
            wanted = None
            if tensor.role == "activation" and tensor.values is not None:
                factor = tensor.values.dtype.type(1 + random.uniform(-JITTER, JITTER))
                wanted = quantlab.Range(tensor.values.lo * factor, tensor.values.hi * factor)
            changed[name] = replace(tensor, values=wanted, qparams=None)
        plan = resolve(result.plan.with_tensors(changed), {}, GraphView.of(result.prepared.model))
        quantlab.save(quantlab.write(result.prepared, plan).model, jittered_path(target, index))


def jittered_path(target: Path, index: int) -> Path:
    """Name the file of one variant."""
    return target.with_name(f"{target.stem}-jittered-{index}.onnx")


def quantize_with_onnxruntime(content: bytes, samples: list[Sample], variant: str, target: Path) -> str:
    """Quantize as the peer's own guide says: pre-process, then quantize_static with per-channel int8 weights."""
    from onnxruntime import quantization as peer

    class Reader(peer.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(samples)

        def get_next(self) -> Sample | None:
            return next(self.samples, None)

    notes = []
    source = target.with_suffix(".float.onnx")
    source.write_bytes(content)
    ready = target.with_suffix(".ready.onnx")
    try:
        peer.quant_pre_process(str(source), str(ready))
    except Exception as error:
        notes.append(f"its pre-processing fails ({type(error).__name__}), so it gets the model as it is")
        ready = source
    rule, kind, *more = variant.split("-")
    method = {"minmax": peer.CalibrationMethod.MinMax, "percentile": peer.CalibrationMethod.Percentile}[rule]
    activation = {"int8": peer.QuantType.QInt8, "uint8": peer.QuantType.QUInt8}[kind]
    raised = content_opset(ready.read_bytes()) < MIN_OPSET
    if raised:
        notes.append("its per-channel model does not load below opset 13, so its input was raised by hand")
        onnx.save(onnx.version_converter.convert_version(onnx.load(ready), MIN_OPSET), ready)
    peer.quantize_static(
        str(ready),
        str(target),
        Reader(),
        peer.QuantFormat.QOperator if "qoperator" in more else peer.QuantFormat.QDQ,
        per_channel=True,
        calibrate_method=method,
        activation_type=activation,
        op_types_to_quantize=list(LINEAR) if "linear" in more else None,
    )
    return "; ".join(notes)


def content_opset(content: bytes) -> int:
    """Version of the default operator set."""
    imports = onnx.load_from_string(content).opset_import
    return max(entry.version for entry in imports if entry.domain in ("", "ai.onnx"))


def work(tool: str, variant: str, key: str, target: Path) -> Outcome:
    """Quantize in this process and measure it."""
    entry = case(key)
    content, samples = entry.build(), entry.calibration()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    act = {"quantlab": quantize_with_quantlab, "onnxruntime": quantize_with_onnxruntime}[tool]
    start = time.perf_counter()
    try:
        note = act(content, samples, variant, target)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        session(target.read_bytes())
        if tool == "quantlab":
            write_jittered(target)
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {str(error).splitlines()[0][:160]}")
    return Outcome(seconds=seconds, peak_mb=peak * 1024 / 1e6, size_mb=target.stat().st_size / 1e6, note=note)


def session(content: bytes) -> Any:
    """Open a single-threaded session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_worker(tool: str, variant: str, key: str, target: Path) -> Outcome:
    """Quantize in a new process."""
    command = [sys.executable, "-m", "benchmarks.results", "--worker", tool, variant, key, str(target)]
    # The peer's pre-processing leaves files where it runs, so it runs beside its target.
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    place = {"cwd": target.parent, "env": {**os.environ, "PYTHONPATH": paths}}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **place)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return Outcome(error=f"process died: {(done.stderr.splitlines() or ['no message'])[-1][:160]}")
    return Outcome(**json.loads(lines[-1]))


def judge(key: str, models: dict[str, bytes]) -> dict[str, Quality]:
    """Run the float model and the quantized ones on the evaluation samples.

    Args:
        key: The case.
        models: Name to serialized model; `"float"` is the reference.

    Returns:
        Name to quality, the float model's included.
    """
    entry = case(key)
    samples = entry.evaluation()
    sessions = {name: session(content) for name, content in models.items()}
    outputs = {name: [run.run(None, sample) for sample in samples] for name, run in sessions.items()}
    seconds = _latencies(sessions, samples)
    exact = outputs["float"]
    return {
        name: Quality(
            sqnr_db=sqnr(exact, found),
            agreement=_agreement(exact, found),
            score=entry.metric(found),
            speed=seconds["float"] / seconds[name],
        )
        for name, found in outputs.items()
    }


def sqnr_alone(key: str, content: bytes) -> float:
    """Output SQNR of one quantized model on the evaluation samples of a case, in dB."""
    entry = case(key)
    samples = entry.evaluation()
    exact, found = ([run.run(None, sample) for sample in samples] for run in (session(entry.build()), session(content)))
    return sqnr(exact, found)


def _latencies(sessions: dict[str, Any], samples: list[Sample]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    random = np.random.default_rng(0)
    for index in range(LATENCY_ROUNDS):
        sample = samples[index % len(samples)]
        # Whoever runs after the large float model finds the caches full, so everybody has to take that place in turn.
        for name in random.permutation(list(sessions)):
            run = sessions[name]
            start = time.perf_counter()
            run.run(None, sample)
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in taken.items()}


def share(value: float) -> str:
    """Write a share, or nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.3f}"


def _agreement(exact: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float:
    if exact[0][0].shape[-1] < 2:
        return float("nan")
    same = [wanted[0].argmax(-1) == got[0].argmax(-1) for wanted, got in zip(exact, found, strict=True)]
    return float(np.mean(np.concatenate([np.ravel(votes) for votes in same])))


def rows(key: str, variants: Sequence[str]) -> Iterator[str]:
    """Measure one case and yield its table rows and notes as Markdown."""
    entry = case(key)
    content = entry.build()
    made: dict[str, bytes] = {"float": content}
    outcomes: dict[str, Outcome] = {}
    shaken: dict[str, list[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in variants:
            for tool in TOOLS:
                name, target = f"{tool} {variant}", Path(folder, f"{tool}-{variant}.onnx")
                print(f"{key}: {name}", file=sys.stderr, flush=True)
                outcomes[name] = run_worker(tool, variant, key, target)
                if outcomes[name].error:
                    continue
                made[name] = target.read_bytes()
                if tool == "quantlab":
                    shaken[name] = [jittered_path(target, index).read_bytes() for index in range(JITTERED)]
    quality = judge(key, made)
    spread = {name: [sqnr_alone(key, model) for model in models] for name, models in shaken.items()}
    float_size = len(content) / 1e6
    opset = content_opset(content)
    yield f"## {key}\n"
    yield f"{entry.title}. Opset {opset}; {len(entry.calibration())} calibration and {len(entry.evaluation())} "
    yield f"evaluation samples; labels: {entry.labels}. Weights: {entry.source} ({entry.licence}).\n"
    heads = (
        "time s",
        "peak memory MB",
        "size MB",
        "output SQNR dB",
        "jittered",
        "agreement",
        entry.metric_name,
        "speed-up",
    )
    yield f"| | {' | '.join(heads)} |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    yield f"| float | | | {float_size:.2f} | | | | {quality['float'].score:.3f} | 1.00 |"
    for name, outcome in outcomes.items():
        if outcome.error:
            yield f"| {name} | failed: {outcome.error} | | | | | | | |"
            continue
        found, shakes = quality[name], spread.get(name, [])
        around = f"{np.mean(shakes):.2f} ± {np.std(shakes):.2f}" if shakes else ""
        yield (
            f"| {name} | {outcome.seconds:.2f} | {outcome.peak_mb:.0f} | {outcome.size_mb:.2f} | {found.sqnr_db:.2f} "
            f"| {around} | {share(found.agreement)} | {found.score:.3f} | {found.speed:.2f} |"
        )
    yield ""
    if key in NOTES:
        yield f"{NOTES[key]}\n"
    for note in dict.fromkeys(outcome.note for outcome in outcomes.values() if outcome.note):
        yield f"onnxruntime.quantization: {note}.\n"


def page(keys: Sequence[str], variants: Sequence[str]) -> str:
    """Measure all cases and return the page."""
    command = f"python -m benchmarks.results {' '.join(keys)} --variants {' '.join(variants)} -o docs/results.md"
    text = f"""# Results on real models

quantlab and onnxruntime.quantization on the same calibration samples, both with per-channel int8 weights.
Variants name the range rule and the type of the activations; "linear" leaves all but Conv, MatMul and Gemm in float;
the format is QDQ where "qoperator" does not say otherwise.
Time and peak memory are those of the whole quantization in a process of its own, the memory as growth over what loading
model and data took. SQNR is over all outputs against the float model. Speed-up is the float model's median latency over
the int8 model's, one thread, interleaved runs in random order. Jittered: mean and standard deviation of the SQNR of
{JITTERED} variants of the same model whose activation ranges are off by up to {100 * JITTER:g} %; differences
below that spread say nothing about the tools.

{conditions(command)}
Machines are shared: repeat the ratios, do not trust the seconds. These runs had other work beside them, and speed-ups
that differ by a few percent do not differ.
"""
    lines = [text]
    for key in keys:
        lines += list(rows(key, variants))
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("keys", nargs="*", default=list(KEYS), help=f"cases ({', '.join(KEYS)})")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("-o", "--output", type=Path, help="where to write the page; standard output by default")
    parser.add_argument("--worker", nargs=4, metavar=("TOOL", "VARIANT", "KEY", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        tool, variant, key, target = options.worker
        print(json.dumps(asdict(work(tool, variant, key, Path(target)))))
        return 0
    text = page(options.keys, options.variants)
    if options.output:
        old = options.output.read_text() if options.output.exists() else ""
        options.output.write_text(replaced(old, text, (INTRODUCTION, *KEYS)))
    else:
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
