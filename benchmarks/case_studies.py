"""Real models that onnxruntime.quantization's defaults ruin: who is to blame, what to change, and what that gives.

    python -m benchmarks.case_studies [KEY ...] [-o docs/case-studies]

Each model is quantized with the peer's defaults (QDQ, min-max, int8, one scale a tensor). The error is attributed on
samples that calibrate, quantlab quantizes with the same options and leaves the suggested nodes in float, and this is
gone on with while it helps there. Only then are all models run on the evaluation samples, by which nothing was chosen.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

import quantlab
from benchmarks.model_checks import sqnr
from benchmarks.pages import conditions
from benchmarks.real_models import KEYS, Sample, case
from benchmarks.results import Quality, judge, session, share
from quantlab.debug.findings import Attribution
from quantlab.debug.remedies import SMALL
from quantlab.debug.suggest import suggest
from quantlab.pages.report import report_page

RUINED = ("effnet_lite0", "ppocr4_det", "ppocr4_rec", "minilm", "magika", "silero")
"""Models whose agreement, or score, falls below 0.9 of the float model with the peer's defaults."""

LOOKED_AT = 4
"""Samples that the error is attributed on."""

ROUNDS = 6
ENOUGH_DB = 20.0
CULPRITS = 5
OFFERED = {"per_channel": True, "activation_type": "uint8"}
"""What is tried beside the suggestion: a scale for each channel, and the type that x86-64 multiplies fastest."""

OFFERED_TITLE = "and a scale for each channel, uint8 activations"


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
        The models, what was found out about those that were looked into, and the nodes left in float.
    """
    entry = case(key)
    content, samples = entry.build(), entry.calibration()
    model, looked = onnx.load_from_string(content), samples[:: max(1, len(samples) // LOOKED_AT)][:LOOKED_AT]
    known = {node.name for node in quantlab.prepare_for(model).model.graph.node}

    def made(title: str, excluded: Sequence[str] = (), **changed: Any) -> Step:
        result = quantlab.quantize_static(content, None, samples, nodes_to_exclude=list(excluded), **changed)
        return _step(title, model, result.model, looked)

    way = [_step("the peer's defaults", model, by_the_peer(content, samples), looked)]
    found = [quantlab.attribute(model, way[0].model, looked)]
    left: tuple[str, ...] = ()
    for title, options in (("the same options by quantlab", {}), (OFFERED_TITLE, OFFERED)):
        way.append(made(title, left, **options))
        new = [] if options else _new(found[0], left, known)
        for _ in range(ROUNDS):
            if way[-1].seen_db >= ENOUGH_DB:
                break
            if not new:
                found.append(quantlab.attribute(model, way[-1].model, looked))
                new = _new(found[-1], left, known)
            if not new:
                break
            wanted = (*left, *new)
            step = made(f"{'and ' if options else ''}{_count(wanted)} left in float", wanted, **options)
            if step.seen_db <= way[-1].seen_db:
                break
            left, new = wanted, []
            way.append(step)
    return way, found, left


def _new(found: Attribution, left: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the nodes that are suggested and not left in float yet, less those that preparing takes away."""
    return [name for name in suggest(found).nodes if name in known and name not in left]


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
    yield "## Who is to blame\n"
    yield from _blame(found[0])
    yield f"![The report on the peer's model]({key}.png)\n"
    picture(key, way[0].model, found[0], folder / f"{key}.png")
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
            f"| {step.title} | {step.seen_db:.2f} | {got.sqnr_db:.2f} | {share(got.agreement)} | {got.score:.3f} "
            f"| {got.speed:.2f} |"
        )
    yield ""


def _blame(found: Attribution) -> Iterator[str]:
    yield "Shares of the noise at the outputs: of a source alone, and what is left without it and those above it.\n"
    yield "| tensor | error | alone | left |\n|---|---|---:|---:|"
    measured = [row for row in found.sources if (row.alone or 0.0) >= SMALL][:CULPRITS]
    for row in measured:
        rest = "" if row.left is None else f"{row.left:.1%}"
        yield f"| `{row.tensor}` | {row.part} | {row.alone:.1%} | {rest} |"
    yield ""
    for row in measured:
        if row.advice:
            yield f"- {row.advice}"
    yield ""


def picture(key: str, made: onnx.ModelProto, blame: Attribution, path: Path) -> None:
    """Write what the head of the report looks like."""
    from playwright.sync_api import sync_playwright

    entry = case(key)
    model = onnx.load_from_string(entry.build())
    found = quantlab.compare(model, made, entry.calibration()[:LOOKED_AT], histograms=True)
    page = report_page(replace(found, attribution=blame), model, made, title=key)
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        page.save(Path(folder) / "report.html")
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1100, "height": 1500})
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
