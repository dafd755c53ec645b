"""The command line of the real models: list the cases, or fetch, build, run and score one of them in float32."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort

from . import KEYS, case
from .case import Array, Case, Sample
from .fetch import FetchError, cache_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 when a package cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_models", description=__doc__)
    parser.add_argument("--list", action="store_true", help="list the cases; downloads nothing")
    parser.add_argument("--check", metavar="KEY", choices=[*KEYS, "all"], help="fetch, build, run and score a case")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime (default 1)")
    options = parser.parse_args(arguments)
    if not options.list and options.check is None:
        parser.error("give --list or --check KEY")
    if options.list:
        for key in KEYS:
            _describe(case(key))
    try:
        for key in KEYS if options.check == "all" else [options.check] if options.check else []:
            _check(case(key), options.threads)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _describe(entry: Case) -> None:
    print(f"{entry.key:<14}{entry.title}")
    for name, text in (("source", entry.source), ("licence", entry.licence), ("labels", entry.labels)):
        print(f"{'':<14}{name}: {text}")
    print(f"{'':<14}score: {entry.metric_name}\n")


def _check(entry: Case, threads: int) -> None:
    print(f"{entry.key}: {entry.title}\n  cache: {cache_folder()}")
    start = time.perf_counter()
    content = entry.build()
    built = time.perf_counter()
    calibration, evaluation = entry.calibration(), entry.evaluation()
    prepared = time.perf_counter()
    _print_model(content)
    print(f"  made in: model {built - start:.1f} s, data {prepared - built:.1f} s")
    session = _session(content, threads)
    for sample in calibration:
        _require_finite(entry, session.run(None, sample))
    seconds: list[float] = []
    outputs: list[list[Array]] = []
    for sample in evaluation:
        begun = time.perf_counter()
        outputs.append(session.run(None, sample))
        seconds.append(time.perf_counter() - begun)
        _require_finite(entry, outputs[-1])
    print(f"  samples: {len(calibration)} calibration, {len(evaluation)} evaluation, shapes {_shapes(evaluation)}")
    print(f"  disjoint: {'yes' if _disjoint(calibration, evaluation) else 'NO'}")
    print(f"  time: median {1e3 * float(np.median(seconds)):.2f} ms a sample, {threads} thread(s)")
    for name, metric in ((entry.metric_name, entry.metric), *entry.others.items()):
        print(f"  float {name}: {metric(outputs):.4f}")


def _session(content: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _print_model(content: bytes) -> None:
    model = onnx.load_from_string(content)
    opset = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    counts = Counter(node.op_type for node in model.graph.node)
    weights = {tensor.name for tensor in model.graph.initializer}
    size = len(content) / 1e6
    print(f"  model: {size:.2f} MB, opset {opset}, IR {model.ir_version}, made by '{model.producer_name}'")
    print(f"  nodes: {len(model.graph.node)}: {', '.join(f'{name} {count}' for name, count in counts.most_common(12))}")
    for title, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        print(f"  {title}: {', '.join(_typed(value) for value in values if value.name not in weights)}")


def _typed(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    sides = [side.dim_param or str(side.dim_value) for side in tensor.shape.dim]
    return f"{value.name} {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()}[{','.join(sides)}]"


def _shapes(samples: list[Sample]) -> str:
    kinds = Counter(", ".join(f"{name} {array.shape}" for name, array in sample.items()) for sample in samples)
    first = kinds.most_common(1)[0][0]
    return first if len(kinds) == 1 else f"{first} and {len(kinds) - 1} more"


def _require_finite(entry: Case, outputs: Sequence[Array]) -> None:
    for index, output in enumerate(outputs):
        if not np.isfinite(output).all():
            raise ValueError(f"case '{entry.key}': output {index} of the float model is not finite")


def _disjoint(left: list[Sample], right: list[Sample]) -> bool:
    def marks(samples: list[Sample]) -> set[bytes]:
        return {b"".join(array.tobytes() for array in sample.values()) for sample in samples}

    return not marks(left) & marks(right)


if __name__ == "__main__":
    raise SystemExit(main())
