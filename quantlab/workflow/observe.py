"""Observing: run a model on samples and let the arrays of chosen tensors pass through observers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from quantlab.backend import Array, Backend, Batch, OrtBackend
from quantlab.calibration import Observer
from quantlab.errors import DataError, OptionError, nearest
from quantlab.graph import GraphView
from quantlab.graph.prepare import INFER_SHAPES
from quantlab.progress import Track, known_total, quiet


def observe(
    model: onnx.ModelProto,
    batches: Iterable[Batch],
    observers: Mapping[str, Observer],
    *,
    backend: Backend | None = None,
    track: Track = quiet,
) -> int:
    """Attach observers to tensors of a model and run it on samples.

    Args:
        model: Any model that runs; it is not changed.
        batches: Input name to array, one mapping a sample; see `quantlab.data.batches`.
        observers: Tensor of the main graph to its observer.
        backend: Runs the model; onnxruntime on the CPU by default.
        track: Shows progress.

    Returns:
        How many samples were run. The observers know what they saw.

    Raises:
        OptionError: A tensor is not in the model, or no float tensor.
        DataError: There is no sample, or an observer cannot take an array.
        ModelError: The model cannot be run.

    Example:
        >>> import numpy as np
        >>> from quantlab.arrays import UINT8, QuantSpec
        >>> from quantlab.calibration import min_max_observer
        >>> graph = onnx.parser.parse_graph("g (float[2] x) => (float[2] y) { t = Relu(x) y = Exp(t) }")
        >>> model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 17)])
        >>> seen = min_max_observer(QuantSpec(dtype=UINT8))
        >>> observe(model, [{"x": np.array([-1, 2], np.float32)}, {"x": np.array([3, 0], np.float32)}], {"t": seen})
        2
        >>> seen.range()
        Range(lo=array(0.), hi=array(3.))
    """
    _check_tensors(model, observers)
    run = (backend or OrtBackend()).open(model, tuple(observers))
    count = 0
    for batch in track(batches, "observing", known_total(batches)):
        values = run(batch)
        for name, observer in observers.items():
            _pass_through(observer, values[name], name, count)
        count += 1
    if not count:
        raise DataError("there is no sample to observe; give at least one")
    return count


def _pass_through(observer: Observer, value: Array, name: str, sample: int) -> None:
    try:
        observer.observe(value)
    except DataError as error:
        raise DataError(f"tensor {name!r}, sample {sample}: {error}") from error


def _check_tensors(model: onnx.ModelProto, observers: Mapping[str, object]) -> None:
    view = GraphView.of(INFER_SHAPES(model).model)
    known = [*view.inputs, *view.producers]
    for name in observers:
        if name not in known:
            raise OptionError(f"no tensor {name!r} to attach an observer to{nearest(name, known)}")
        kind = view.element_type(name)
        if kind is not None and view.float_type(name) is None and kind != onnx.TensorProto.BFLOAT16:
            raise OptionError(
                f"tensor {name!r} holds {onnx.TensorProto.DataType.Name(kind)}, and observers take floats; "
                "attach it to a float tensor"
            )
    if not observers:
        raise OptionError("no observer was given; name at least one tensor, such as {'x': min_max_observer(spec)}")
