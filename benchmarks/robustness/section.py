"""The section of a Markdown page that tells what became of every model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from textwrap import fill

from benchmarks.pages import conditions
from benchmarks.robustness.found import DIED, Found
from benchmarks.robustness.models import BARE_SAMPLES, CASE_SAMPLES, QUANTIZED
from benchmarks.robustness.work import BODIES, CHANNEL, CHECK, PREPARE, TENSOR

TITLE = "Every model"
SHOWN_OPERATORS = 3
LONGEST_ERROR = 110
WIDTH = 120
ORT_WORDS = re.compile(r"\[ONNXRuntimeError\] : \d+ : (\w+) : ")
"""How errors of onnxruntime begin."""


def lines(ours: Mapping[str, Found], theirs: Mapping[str, Found], *, command: str, limit: int) -> Iterator[str]:
    """Yield the section.

    Args:
        ours: Model to what quantlab made of it.
        theirs: The same of onnxruntime.quantization.
        command: What has made these.
        limit: Seconds that a tool had for all it did to one model.
    """
    keys = [key for key in ours if key not in QUANTIZED]
    given = [key for key in ours if key in QUANTIZED]
    yield f"## {TITLE}\n"
    yield _paragraph(
        f"Every model above, and further real ones of which only the graph matters, {len(keys)} in all, prepared and "
        "quantized with default options (int8 for weights and activations, everything that can be quantized) on "
        f"{CASE_SAMPLES} calibration samples, or on {BARE_SAMPLES} random ones where a package brings no data; "
        "quantlab feeds states back from one to the next."
    )
    yield conditions(command)
    yield _paragraph(
        "Machines are shared: do not trust the seconds. quantlab and onnxruntime.quantization each had "
        f"{limit} s for all they did to one model."
    )
    yield _paragraph(
        f"{sum(ours[key].works for key in keys)} of {len(keys)} float models come through quantlab: prepared, per "
        "tensor, per channel and, where there is control flow, inside it, by the functions and by the commands "
        "`quantlab preprocess` and `quantlab quantize` with their own defaults. What is written passes onnx's checker, "
        "onnxruntime loads and runs it with its optimizations on and off, and a prepared model's outputs are those of "
        f"the float model but for float rounding. {_peer_count(theirs, keys)}"
    )
    yield from _failures(ours, keys)
    yield "### What preparing changes\n"
    yield _paragraph(
        "Operators and nodes: those in the bodies of control flow count too. Rungs: how many tensors each rung of the "
        "[shape ladder](preparing.md#the-shape-ladder) told something about. Differs: largest difference of an output, "
        "as a share of the largest value in it, and in brackets what onnxruntime's own optimizations change in the "
        "float model."
    )
    yield "| model | operators | nodes | opset | rungs | changes | differs |"
    yield "|---|---|---|---|---|---|---|"
    yield from (_prepared_row(key, ours[key]) for key in keys)
    yield "\n### What it takes\n"
    yield _paragraph(
        "Seconds; peak memory in MB over what the process held before, with model and samples in it; output SQNR in "
        "dB, of which random samples say little. The pre-processing of onnxruntime.quantization is `quant_pre_process` "
        "with defaults; where it fails, `quantize_static` gets the model as it is."
    )
    yield "| model | quantlab prepares | per tensor | per channel | inside control flow |"
    yield "|---|---|---|---|---|"
    yield from (f"| {key} | {' | '.join(_cells(ours[key], PREPARE, TENSOR, CHANNEL, BODIES))} |" for key in keys)
    yield "\n| model | onnxruntime.quantization pre-processes | per tensor | per channel |"
    yield "|---|---|---|---|"
    yield from (f"| {key} | {' | '.join(_cells(theirs[key], PREPARE, TENSOR, CHANNEL))} |" for key in keys)
    if given:
        yield "\n### Quantized already\n"
        yield "quantlab has to refuse these, and to name what shows it.\n"
        yield "| model | quantlab | onnxruntime.quantization pre-processes | per tensor | per channel |"
        yield "|---|---|---|---|---|"
        yield from (_refused_row(key, ours[key], theirs[key]) for key in given)


def _paragraph(text: str) -> str:
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _peer_count(theirs: Mapping[str, Found], keys: list[str]) -> str:
    def count(*names: str) -> int:
        return sum(not any(theirs[key].error(name) for name in names) for key in keys)

    return (
        f"Of onnxruntime.quantization's, pre-processing succeeds on {count(PREPARE)}, quantization per tensor gives a "
        f"model that runs for {count(TENSOR)}, per channel for {count(CHANNEL)}, all three for "
        f"{count(PREPARE, TENSOR, CHANNEL)}."
    )


def _failures(ours: Mapping[str, Found], keys: list[str]) -> Iterator[str]:
    failed = [(key, name, step.error) for key in keys for name, step in ours[key].steps.items() if step.error]
    for key, name, error in failed:
        yield f"- **{key}** fails, {name}: {_shown(error)}"
    if failed:
        yield ""


def _prepared_row(key: str, found: Found) -> str:
    if error := found.error(PREPARE) or found.error(CHECK):
        return f"| {key} | {_most(found)} | failed: {_shown(error)} | | | | |"
    verdict = "" if found.differs <= found.bound else "**too much**: "
    cells = (
        key,
        _most(found),
        _arrow(*found.nodes),
        _arrow(*found.opsets),
        _counted(found.rungs) or "none needed",
        _counted(found.passes) or "none",
        f"{verdict}{found.differs:.0e} ({found.own:.0e})",
    )
    return f"| {' | '.join(cells)} |"


def _most(found: Found) -> str:
    shown = list(found.operators.items())[:SHOWN_OPERATORS]
    more = len(found.operators) - len(shown)
    return _counted(dict(shown)) + (f", {more} others" if more > 0 else "")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _arrow(before: int, after: int) -> str:
    return f"{before} → {after}" if before != after else f"{before}"


def _cells(found: Found, *names: str) -> Iterator[str]:
    """Yield what each step took; of steps that share the fate of the process only the first says so."""
    told = False
    for name in names:
        if name in found.steps:
            yield _cell(found, name)
        else:
            yield "" if told or DIED not in found.steps else f"failed: {_shown(found.error(DIED))}"
            told = True


def _cell(found: Found, name: str) -> str:
    step = found.steps[name]
    if step.error:
        return f"failed: {_shown(step.error)}"
    worth = "" if step.sqnr is None else f", {step.sqnr:.1f} dB" if isfinite(step.sqnr) else ", same outputs as float"
    if step.rounded == 0:
        worth = ", nothing to quantize"
    return f"{step.seconds:.2f} s, {step.memory:.0f} MB{worth}"


def _refused_row(key: str, found: Found, peer: Found) -> str:
    stages = {found.error(name).removeprefix("ModelError: ").removeprefix("error: ") for name in found.steps}
    words = stages.pop()
    refused = not stages and words.startswith("the model is already quantized")
    first = f"refused: {_shown(words, 300)}" if refused else f"**not refused**: {_shown(str(found.steps))}"
    return f"| {key} | {first} | {' | '.join(_cells(peer, PREPARE, TENSOR, CHANNEL))} |"


def _shown(text: str, longest: int = LONGEST_ERROR) -> str:
    words = " ".join(ORT_WORDS.sub(r"\1: ", text).replace("|", "/").split())
    return words if len(words) <= longest else f"{words[:longest]}..."
