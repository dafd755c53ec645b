"""The command line: every model in processes of its own, and the section that tells what became of them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import robustness
from benchmarks.pages import replaced
from benchmarks.robustness.found import DIED, Found, Step
from benchmarks.robustness.models import FLOAT, QUANTIZED
from benchmarks.robustness.section import TITLE, lines
from benchmarks.robustness.work import with_onnxruntime, with_quantlab

TOOLS = {"quantlab": with_quantlab, "onnxruntime": with_onnxruntime}
SECONDS = 300
"""How long a tool may take for one model."""

KNOWN = (*FLOAT, *QUANTIZED)


def in_own_process(tool: str, key: str) -> Found:
    """Run one tool on one model in a new process and a folder of its own; what it did before it died counts."""
    command = [sys.executable, "-m", robustness.__name__, "--worker", tool, key]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    with tempfile.TemporaryDirectory() as room:
        reports, words = Path(room, "reports"), Path(room, "words")
        with reports.open("w") as out, words.open("w") as err:
            try:
                code = subprocess.run(
                    command, stdout=out, stderr=err, check=False, cwd=room, env=environment, timeout=SECONDS
                ).returncode
                last = (words.read_text(errors="replace").splitlines() or [""])[-1]
                end = f"died with exit code {code}: {last}" if code else ""
            except subprocess.TimeoutExpired:
                end = f"not done after {SECONDS} s"
        said = [line for line in reports.read_text().splitlines() if line.startswith("{")]
    found = Found.of(json.loads(said[-1])) if said else Found()
    if end:
        found.steps[DIED] = Step(error=end)
    return found


def section(keys: Sequence[str]) -> str:
    """Put models through both tools, and return the section about them."""
    found: dict[str, dict[str, Found]] = {tool: {} for tool in TOOLS}
    for key in keys:
        for tool in TOOLS:
            print(f"{key}: {tool}", file=sys.stderr, flush=True)
            found[tool][key] = in_own_process(tool, key)
    command = " ".join(["python -m", robustness.__name__, *(() if tuple(keys) == KNOWN else keys)])
    return "\n".join(lines(*found.values(), command=command, limit=SECONDS)) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness", description=robustness.__doc__)
    parser.add_argument("keys", nargs="*", metavar="KEY", help=f"models, all by default: {', '.join(KNOWN)}")
    parser.add_argument("-o", "--output", type=Path, help="the page that has the section, or gets it at its end")
    parser.add_argument("--worker", nargs=2, metavar=("TOOL", "KEY"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := [key for key in options.keys if key not in KNOWN]:
        parser.error(f"there is no model {unknown[0]!r}: the models are {', '.join(KNOWN)}")
    if options.worker:
        tool, key = options.worker
        for found in TOOLS[tool](key):
            print(json.dumps(asdict(found)), flush=True)
        return 0
    text = section(options.keys or KNOWN)
    if options.output:
        page = options.output.read_text() if options.output.exists() else ""
        options.output.write_text(replaced(page, text, (TITLE,)))
    else:
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
