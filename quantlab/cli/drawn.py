"""What `quantlab plot` draws, read from files or measured on samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.cli.console import progress
from quantlab.errors import OptionError, nearest

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from quantlab.arrays import QParams
    from quantlab.calibration import Histogram
    from quantlab.cli.running import Running
    from quantlab.cli.samples import Samples


def read_array(file: Path) -> npt.NDArray[Any]:
    """Read a .npy file.

    Raises:
        OptionError: There is no such file, or it holds no array.
    """
    import numpy as np

    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except FileNotFoundError:
        raise OptionError(f"there is no file {str(file)!r}: give an array that numpy.save wrote") from None
    except (OSError, ValueError, EOFError):
        raise OptionError(f"{str(file)!r} is no .npy file of numbers: give an array that numpy.save wrote") from None


def source_and_grid(model: Path, quantized: Path | None, tensor: str) -> tuple[onnx.ModelProto, QParams | None]:
    """Read the model that holds a tensor, and the tensor's grid; grids are those of the prepared model.

    Args:
        model: A float model.
        quantized: Its quantized version, or None.
        tensor: Name of a tensor.

    Returns:
        The model, prepared where there is a quantized one; and the grid there, or None.

    Raises:
        OptionError: The quantized model has no grid for the tensor.
    """
    from quantlab.graph import GraphView
    from quantlab.graph.files import load
    from quantlab.graph.quantized import original_name, rounded_tensors
    from quantlab.workflow.quantize import prepare_for

    source = load(model)
    if quantized is None:
        return source, None
    grids = {}
    for rounded in rounded_tensors(GraphView.of(load(quantized))):
        for name in (rounded.after, original_name(rounded.integers), rounded.before):
            if name is not None:
                grids[name] = rounded.grid
    if tensor not in grids:
        raise OptionError(f"{str(quantized)!r} has no grid for a tensor {tensor!r}{nearest(tensor, grids)}")
    return prepare_for(source).model, grids[tensor]


def measured(model: onnx.ModelProto, tensor: str, samples: Samples, running: Running) -> Histogram:
    """Run a model on samples, and return the histogram of one of its tensors.

    Raises:
        OptionError: The model has no such tensor.
    """
    from quantlab.backend import OrtBackend
    from quantlab.calibration import Histogram
    from quantlab.graph import GraphView
    from quantlab.workflow.measure import measure

    view = GraphView.of(model)
    known = {*view.inputs, *view.producers}
    if tensor not in known:
        raise OptionError(f"the model has no tensor {tensor!r}{nearest(tensor, known)}")
    with progress(samples_per_batch=samples.per_batch) as track:
        backend, empty = OrtBackend(threads=running.threads), {tensor: Histogram()}
        seen = measure(backend, model, empty, samples, state=running.pairs(), track=track)[tensor]
    assert isinstance(seen, Histogram)
    return seen
