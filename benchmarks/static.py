"""Static quantization beside onnxruntime.quantization: weights per channel, and whole models with the bytes compared.

    python -m benchmarks.static [--rounds 3]

Weights: scales, zero points and integers of the columns of one matrix, against the method of the peer that computes
them; and those of blocks of 32 in each column, against the peer's two functions for blocks. Models: `quantize_static`
from file to file with min-max ranges, by `quantlab.ort` and by the peer, on graphs with random weights and their
published size (`benchmarks/graphs.py`). Both sides take turns.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from benchmarks.graphs import bert, resnet50, samples
from quantlab.arrays import INT8, QuantSpec, block_range, qparams_from_range, quantize
from quantlab.ort.crosscheck import changed_initializers, graph_differences
from quantlab.ort.quantize import quantize_static
from quantlab.plan.resolve import constant_range
from quantlab.workflow.quantize import prepare_for

Numbers = list[npt.NDArray[Any]]
SHAPES = ((50_000, 256), (4096, 4096))
SPEC = QuantSpec(dtype=INT8, symmetric=True, narrow_range=True, axis=1)
BLOCK = 32
BLOCKED = QuantSpec(dtype=INT8, symmetric=True, narrow_range=True, axis=0, block_size=BLOCK)
SAMPLES = 8


def by_quantlab(w: npt.NDArray[np.float32]) -> Numbers:
    """Quantize the columns of a matrix: integers, scales, zero points."""
    grid = qparams_from_range(constant_range(w, 1), SPEC)
    return [quantize(w, grid), grid.scale, grid.zero_point]


def by_the_peer(w: npt.NDArray[np.float32]) -> Callable[[], Numbers]:
    """Make the peer ready to quantize the columns of a matrix."""
    from onnxruntime.quantization import QuantizationMode, QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

    graph = onnx.helper.make_graph([], "one", [], [], [numpy_helper.from_array(w, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    kinds = QuantType.QInt8, QuantType.QUInt8
    mode = QuantizationMode.QLinearOps
    quantizer = ONNXQuantizer(model, True, False, mode, True, *kinds, None, [], [], ["MatMul"], {})
    names = ("w_quantized", "w_scale", "w_zero_point")

    def run() -> Numbers:
        quantizer.quantize_weight_per_channel_impl("w", onnx.TensorProto.INT8, 1)
        made = {tensor.name: tensor for tensor in quantizer.model.initializer()}
        found = [numpy_helper.to_array(made[name]) for name in names]
        for name in names:
            quantizer.model.initializer().remove(made[name])
        return found

    return run


def in_blocks(w: npt.NDArray[np.float32]) -> Numbers:
    """Quantize blocks of the columns of a matrix: integers, scales, zero points."""
    grid = qparams_from_range(block_range(w, 0, BLOCK), BLOCKED)
    return [quantize(w, grid), grid.scale, grid.zero_point]


def in_blocks_by_the_peer(w: npt.NDArray[np.float32]) -> Callable[[], Numbers]:
    """Make the peer ready to quantize blocks of the columns of a matrix."""
    from onnxruntime.quantization.quant_utils import compute_scale_zp_blocked, quantize_onnx_initializer

    tensor = numpy_helper.from_array(w, "w")

    def run() -> Numbers:
        zero, scale = compute_scale_zp_blocked(w, INT8.onnx_code, 0, BLOCK, symmetric=True)
        made = quantize_onnx_initializer(tensor, INT8.onnx_code, zero, scale, 0, "q", BLOCK)
        return [numpy_helper.to_array(made), scale, zero]

    return run


def ratio(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """Return the median seconds of both, and the median ratio of a turn."""
    turns = [(_timed(ours), _timed(theirs)) for _ in range(rounds)]
    here, there = zip(*turns, strict=True)
    return median(here), median(there), median(b / a for a, b in turns)


def _timed(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def weights(rounds: int) -> Iterator[str]:
    """Yield two rows for each matrix."""
    for shape in SHAPES:
        w = np.random.default_rng(0).standard_normal(shape, np.float32)
        yield _weight(w, "a scale for each column", lambda w=w: by_quantlab(w), by_the_peer(w), rounds)
        words = f"a scale for each {BLOCK} of a column"
        yield _weight(w, words, lambda w=w: in_blocks(w), in_blocks_by_the_peer(w), rounds)


def _weight(
    w: npt.NDArray[np.float32], words: str, ours: Callable[[], Numbers], theirs: Callable[[], Numbers], rounds: int
) -> str:
    for mine, others in zip(ours(), theirs(), strict=True):
        assert mine.tobytes() == others.tobytes(), (w.shape, words)
    here, there, times = ratio(ours, theirs, rounds)
    return f"| weight {w.shape[0]:,} x {w.shape[1]:,}, {words} | {here:.3f} | {there:.3f} | {times:.1f} |"


def models(rounds: int) -> Iterator[str]:
    """Yield a row for each network and format."""
    graphs = {"ResNet-50": (resnet50(), "input", (1, 3, 224, 224)), "BERT": (bert(), "embeddings", (1, 128, 768))}
    for title, (blob, _, shape) in graphs.items():
        model = prepare_for(onnx.load_from_string(blob)).model
        name = model.graph.input[0].name
        data = [{name: x} for x in samples(shape, SAMPLES)]
        for form in ("QDQ", "QOperator"):
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "float.onnx"
                onnx.save(model, source)
                calls = [
                    _call(tool, source, Path(folder) / f"{tool}.onnx", data, form) for tool in ("quantlab", "peer")
                ]
                for call in calls:
                    call()
                made = [onnx.load(Path(folder) / f"{tool}.onnx") for tool in ("quantlab", "peer")]
                same = not graph_differences(*made) and not changed_initializers(*made)
                here, there, times = ratio(calls[0], calls[1], rounds)
            yield (
                f"| {title}, {form}, {SAMPLES} samples, {'the same bytes' if same else 'other bytes'} | {here:.2f} | "
                f"{there:.2f} | {times:.1f} |"
            )


def _call(tool: str, source: Path, target: Path, data: Sequence[dict[str, Any]], form: str) -> Callable[[], None]:
    if tool == "quantlab":
        kinds = {"activation_type": "QUInt8", "weight_type": "QInt8"}

        def ours() -> None:
            quantize_static(source, target, list(data), form, per_channel=True, **kinds)

        return ours
    from onnxruntime import quantization as peer

    class Reader(peer.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._left = iter(data)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    def run() -> None:
        kinds = {"activation_type": peer.QuantType.QUInt8, "weight_type": peer.QuantType.QInt8}
        peer.quantize_static(source, target, Reader(), peer.QuantFormat[form], per_channel=True, **kinds)

    return run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    print("| what | quantlab, s | peer, s | times |\n|---|---:|---:|---:|")
    for row in (*weights(rounds), *models(rounds)):
        print(row, flush=True)


if __name__ == "__main__":
    main()
