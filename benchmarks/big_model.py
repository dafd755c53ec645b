"""A model over 2 GB: what preparing and quantizing it takes, beside what one float session of onnxruntime takes.

    python -m benchmarks.big_model [--width 5120] [--layers 24] [--samples 3] [--folder FOLDER]

The model is a chain of Gemm and Relu with random weights in a data file beside it, written one layer at a time. Each
stage runs in a process of its own, whose peak memory is the `ru_maxrss` that the system counts; pages of mapped files
that are in memory count too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

NAME = "big.onnx"
ALIGNMENT = 4096


def build(folder: Path, *, width: int, layers: int, seed: int = 0) -> Path:
    """Write the model: `x` float32 `(1, width)` to `y` of the same shape.

    Args:
        folder: Where `big.onnx` and `big.onnx.data` are written.
        width: Rows and columns of the weights.
        layers: Gemm nodes, with a Relu behind each but the last.
        seed: Of the weights, which have variance 2 / width (He et al. 2015).

    Returns:
        Path of the model.
    """
    random, path = np.random.default_rng(seed), folder / NAME
    nodes, constants, value = [], [], "x"
    with (folder / f"{NAME}.data").open("wb") as stream:
        for layer in range(layers):
            last = layer == layers - 1
            made = "y" if last else f"sum{layer}"
            weight = random.standard_normal((width, width), np.float32)
            weight *= np.float32(np.sqrt(2 / width))
            stream.write(bytes(-stream.tell() % ALIGNMENT))
            constants.append(_external(f"w{layer}", weight, stream.tell()))
            stream.write(weight.data)
            bias = random.standard_normal(width, np.float32) / np.float32(10)
            constants.append(onnx.numpy_helper.from_array(bias, f"b{layer}"))
            nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [made], name=f"gemm{layer}"))
            if not last:
                nodes.append(helper.make_node("Relu", [made], [f"relu{layer}"], name=f"relu{layer}"))
            value = f"relu{layer}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "big", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def _external(name: str, weight: npt.NDArray[np.float32], offset: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=weight.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", f"{NAME}.data"), ("offset", offset), ("length", weight.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def samples(width: int, count: int) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Draw inputs."""
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((1, width), np.float32)} for _ in range(count)]


def float_session(folder: Path, width: int, count: int) -> None:
    """Load the float model in onnxruntime, from its path, and run it."""
    _run(folder / NAME, width, count)


def int8_session(folder: Path, width: int, count: int) -> None:
    """Load the quantized model in onnxruntime and run it."""
    _run(folder / f"int8_{NAME}", width, count)


def _run(path: Path, width: int, count: int) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for sample in samples(width, count):
        assert np.isfinite(session.run(None, sample)[0]).all()


def prepare(folder: Path, width: int, count: int) -> None:
    """Load and prepare the float model."""
    import quantlab

    quantlab.prepare_for(quantlab.load(folder / NAME))


def quantize(folder: Path, width: int, count: int) -> None:
    """Load, prepare, calibrate, quantize with a scale for each column of the weights, and save."""
    import quantlab

    quantlab.quantize_static(folder / NAME, folder / f"int8_{NAME}", samples(width, count), per_channel=True)


Stage = Callable[[Path, int, int], None]


def measured(stage: Stage, folder: Path, width: int, count: int) -> tuple[float, float]:
    """Run a stage in a new process, and return its seconds and its peak memory in MB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_timed, stage, folder, width, count).result()


def _timed(stage: Stage, folder: Path, width: int, count: int) -> tuple[float, float]:
    start = perf_counter()
    stage(folder, width, count)
    return perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big_model", description=__doc__)
    parser.add_argument("--width", type=int, default=5120)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        build(folder, width=options.width, layers=options.layers)
        size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        print(f"{options.layers} layers of {options.width} x {options.width}: {size:,.0f} MB on disk\n")
        print("| stage | s | peak MB | of the float session |\n|---|---:|---:|---:|")
        base = None
        for stage in (float_session, prepare, quantize, int8_session):
            seconds, peak = measured(stage, folder, options.width, options.samples)
            base = base or peak
            print(f"| {stage.__name__} | {seconds:.1f} | {peak:,.0f} | {peak / base:.2f} |")


if __name__ == "__main__":
    main()
