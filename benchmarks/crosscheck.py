"""Real models, quantized by quantlab.ort and by onnxruntime.quantization over the full grid of options, byte by byte.

python -m benchmarks.crosscheck -o docs/results.md [KEY ...]
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pages import conditions, replaced
from benchmarks.real_models import case
from quantlab.graph.files import load
from quantlab.ort.crosscheck import Verdict, crosscheck
from quantlab.ort.option_sets import option_sets
from quantlab.workflow.quantize import prepare_for

TITLE = "Beside onnxruntime.quantization, byte by byte"
KEYS = ("digit_cnn", "mtcnn_onet", "ppocr_cls", "effnet_lite0", "ddddocr_det")
SAMPLES = 2


def measured(key: str) -> list[Verdict]:
    """Cross-check one model on its first calibration samples; both tools get it as quantlab prepares it."""
    found = case(key)
    model = prepare_for(load(found.build())).model
    return crosscheck(model, found.calibration()[:SAMPLES], option_sets(model, "full"))


def section(keys: Sequence[str]) -> str:
    """Return the section about some models."""
    rows, reasons = [], Counter[str]()
    for key in keys:
        print(key, file=sys.stderr, flush=True)
        verdicts = measured(key)
        count = Counter(each.outcome for each in verdicts)
        known = sum(each.explained for each in verdicts) - count["identical"]
        ours, peer = (sum(each.seconds[side] for each in verdicts) for side in (0, 1))
        rows.append(
            f"| {key} | {len(verdicts)} | {count['identical']} | {known} | "
            f"{len(verdicts) - count['identical'] - known} | {ours:.0f} | {peer:.0f} |"
        )
        for each in verdicts:
            reasons.update(_without_names(words) for words in each.known)
    command = " ".join(
        ["python -m benchmarks.crosscheck", *(() if tuple(keys) == KEYS else keys), "-o docs/results.md"]
    )
    return "\n".join(
        [
            f"## {TITLE}",
            "",
            "Each model, as quantlab prepares it, quantized by `quantlab.ort` and by onnxruntime.quantization for each "
            "option set of `quantlab crosscheck quantizer --grid full`. Identical: the same nodes, names and bytes in "
            f"every initializer. Seconds are those of all option sets on {SAMPLES} samples.",
            "",
            conditions(command),
            "",
            "| model | option sets | identical | known difference | other | quantlab, s | peer, s |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "The known differences, and in how many option sets they show:",
            "",
            *(f"- {words} ({count})" for words, count in reasons.most_common()),
        ]
    )


def _without_names(words: str) -> str:
    """Return a sentence without the names of one model's tensors, so that it is one sentence for all models."""
    return re.sub(r"'[^' ]+'", "`...`", words)


def main() -> None:
    """Print the section, or put it into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keys", nargs="*", metavar="KEY", help=f"models; default {' '.join(KEYS)}")
    parser.add_argument("-o", "--output", type=Path, help="page to put the section into")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    made = section(given.keys or KEYS)
    if given.output is None:
        print(made)
        return
    page = given.output.read_text() if given.output.exists() else ""
    given.output.write_text(replaced(page, made, (TITLE,)))


if __name__ == "__main__":
    main()
