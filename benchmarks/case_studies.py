"""Real models that onnxruntime.quantization's defaults ruin: who is to blame, what to change, and what that gives.

    python -m benchmarks.case_studies [KEY ...] [-o docs/case-studies]

Each model is quantized with the peer's defaults (QDQ, min-max, int8, one scale a tensor). The error is attributed on
samples that calibrate, the suggested nodes stay in float, and this is gone on with while it helps there. Only then are
all models run on the evaluation samples, which nothing was chosen by.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

import quantlab
from benchmarks.model_checks import sqnr
from benchmarks.pages import conditions
from benchmarks.real_models import KEYS, Sample, case
from benchmarks.results import Quality, judge, session
from quantlab.debug.findings import Attribution
from quantlab.debug.suggest import suggest

RUINED = ("effnet_lite0", "ddddocr_rec", "ppocr4_det", "ppocr4_rec", "minilm", "magika", "silero")
"""Models whose agreement falls below 0.9 with the peer's defaults."""

LOOKED_AT = 8
"""Samples that the error is attributed on."""

ROUNDS = 3
ENOUGH_DB = 20.0
CULPRITS = 5
OFFERED = {"per_channel": True, "activation_type": "uint8"}
"""What is tried beside the suggestion: a scale for each channel, and the type that x86-64 multiplies fastest."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One model on the way.

    Attributes:
        title: What was changed, in words.
        model: The quantized model.
        seen_db: SQNR on the samples that were looked at, in dB.
    """

    title: str
    model: onnx.ModelProto
    seen_db: float


def by_the_peer(content: bytes, samples: Sequence[Sample]) -> onnx.ModelProto:
    """Quantize with onnxruntime.quantization and none of its options."""
    from onnxruntime import quantization as peer

    class Reader(peer.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._left = iter(samples)

        def get_next(self) -> Sample | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(content)
        peer.quantize_static(str(source), str(target), Reader())
        return onnx.load(target)


def steps(key: str) -> tuple[list[Step], list[Attribution], tuple[str, ...]]:
    """Walk from the peer's model to the last suggestion.

    Returns:
        The models, what was found out about each of those that were looked into, and the nodes left in float.
    """
    entry = case(key)
    content, samples = entry.build(), entry.calibration()
    model, looked = onnx.load_from_string(content), samples[:: max(1, len(samples) // LOOKED_AT)][:LOOKED_AT]
    way = [_step("the peer's defaults", model, by_the_peer(content, samples), looked)]
    found: list[Attribution] = []
    left: tuple[str, ...] = ()
    while len(found) < ROUNDS and way[-1].seen_db < ENOUGH_DB:
        found.append(quantlab.attribute(model, way[-1].model, looked))
        new = [name for name in suggest(found[-1]).nodes if name not in left]
        if not new:
            break
        wanted = (*left, *new)
        made = quantlab.quantize_static(content, None, samples, nodes_to_exclude=wanted)
        step = _step(f"{_count(wanted)} left in float", model, made.model, looked)
        if step.seen_db <= way[-1].seen_db:
            break
        left = wanted
        way.append(step)
    made = quantlab.quantize_static(content, None, samples, nodes_to_exclude=left, **OFFERED)
    way.append(_step("and a scale for each channel, uint8 activations", model, made.model, looked))
    return way, found, left


def _count(names: Sequence[str]) -> str:
    return "1 node" if len(names) == 1 else f"{len(names)} nodes"


def _step(title: str, model: onnx.ModelProto, made: onnx.ModelProto, looked: Sequence[Sample]) -> Step:
    exact, rounded = ([run.run(None, x) for x in looked] for run in map(_session, (model, made)))
    return Step(title=title, model=made, seen_db=sqnr(exact, rounded))


def _session(model: onnx.ModelProto) -> Any:
    return session(model.SerializeToString())


def study(key: str, folder: Path) -> Iterator[str]:
    """Yield the lines of one page and write its picture."""
    entry = case(key)
    way, found, left = steps(key)
    judged = judge(key, {"float": entry.build()} | {step.title: step.model.SerializeToString() for step in way})
    yield f"# {key}\n"
    yield f"{entry.title}. Labels: {entry.labels}.\n"
    yield conditions(f"python -m benchmarks.case_studies {key}") + "\n"
    yield from _table(way, judged, entry.metric_name)
    if found:
        yield "## Who is to blame\n"
        yield from _blame(found[0])
        yield f"![The report on the peer's model]({key}.png)\n"
        picture(key, way[0].model, folder / f"{key}.png")
    if left:
        yield "## What stays in float\n"
        yield f"{', '.join(f'`{name}`' for name in left)}\n"


def _table(way: Sequence[Step], judged: dict[str, Quality], score: str) -> Iterator[str]:
    yield f"| | SQNR on samples looked at, dB | output SQNR dB | agreement | {score} | speed-up |"
    yield "|---|---:|---:|---:|---:|---:|"
    yield f"| float | | | | {judged['float'].score:.3f} | 1.00 |"
    for step in way:
        got = judged[step.title]
        yield (
            f"| {step.title} | {step.seen_db:.2f} | {got.sqnr_db:.2f} | {got.agreement:.3f} | {got.score:.3f} "
            f"| {got.speed:.2f} |"
        )
    yield ""


def _blame(found: Attribution) -> Iterator[str]:
    yield "Shares of the noise at the outputs: of a source alone, and what is left without it and those above it.\n"
    yield "| tensor | error | alone | left |\n|---|---|---:|---:|"
    measured = [row for row in found.sources if row.alone is not None][:CULPRITS]
    for row in measured:
        rest = "" if row.left is None else f"{row.left:.1%}"
        yield f"| `{row.tensor}` | {row.part} | {row.alone:.1%} | {rest} |"
    yield ""
    for row in measured:
        if row.advice:
            yield f"- {row.advice}"
    yield ""


def picture(key: str, made: onnx.ModelProto, path: Path) -> None:
    """Write what the head of the report looks like."""
    from playwright.sync_api import sync_playwright

    entry = case(key)
    model = onnx.load_from_string(entry.build())
    page = quantlab.report(model, made, entry.calibration()[:LOOKED_AT], attribute=True, title=key)
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        page.save(Path(folder) / "report.html")
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1200, "height": 1000})
        view.goto(f"file://{folder}/report.html")
        view.screenshot(path=path)
        browser.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.case_studies", description=__doc__)
    parser.add_argument("keys", nargs="*", default=list(RUINED), help=f"models ({', '.join(KEYS)})")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/case-studies"))
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    for key in options.keys:
        (options.output / f"{key}.md").write_text("\n".join(study(key, options.output)).rstrip() + "\n")
        print(key, flush=True)


if __name__ == "__main__":
    main()
