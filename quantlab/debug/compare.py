"""Compare: run a float model and its quantized version on the same data and say how far each tensor moved.

The SQNR of a tensor here is the accumulated one: float network against quantized network, everything before the tensor
included. Sums are streamed, so memory does not grow with the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantlab.arrays import dequantize, sqnr_from_powers
from quantlab.backend import Backend, Batch, OrtBackend
from quantlab.errors import DataError, ModelError
from quantlab.graph import GraphView
from quantlab.graph.quantized import Rounded, original_name, rounded_tensors
from quantlab.progress import Track, known_total, quiet
from quantlab.workflow.quantize import prepare_for
from quantlab.workflow.recurrence import NO_STATE, Recurrence, State


@dataclass(frozen=True, kw_only=True)
class TensorError:
    """How far one tensor moved.

    Attributes:
        name: Name in the float model.
        kind: `"activation"`, `"constant"` or `"output"`.
        dtype: Type of the stored values, or `"float32"` for an output that is not rounded.
        sqnr_db: Signal-to-quantization-noise ratio in dB; inf where nothing changed.
        cosine: Cosine between float and quantized values.
        mse: Mean squared error, in the square of the tensor's unit.
        max_error: Largest absolute difference, in the tensor's unit.
    """

    name: str
    kind: str
    dtype: str
    sqnr_db: float
    cosine: float
    mse: float
    max_error: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        tensors: Rounded tensors, worst SQNR first.
        outputs: The models' outputs in their order.
        agreement: Share of rows on which the arg-max of the first output agrees, in 0..1; None where it has no classes.
        samples: How many batches were run.
        unmatched: Rounded tensors that have no partner in the float model.
    """

    tensors: tuple[TensorError, ...]
    outputs: tuple[TensorError, ...]
    agreement: float | None
    samples: int
    unmatched: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values; infinite decibels become None."""
        plain = asdict(self)
        for row in (*plain["tensors"], *plain["outputs"]):
            row["sqnr_db"] = row["sqnr_db"] if math.isfinite(row["sqnr_db"]) else None
        return plain


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Streaming sums over pairs of arrays; all in float64."""

    signal: float = 0.0
    other: float = 0.0
    noise: float = 0.0
    dot: float = 0.0
    largest: float = 0.0
    count: int = 0

    def update(self, reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> _Sums:
        x, y = np.ravel(reference).astype(np.float64), np.ravel(other).astype(np.float64)
        noise = x - y
        return _Sums(
            signal=self.signal + float(x @ x),
            other=self.other + float(y @ y),
            noise=self.noise + float(noise @ noise),
            dot=self.dot + float(x @ y),
            largest=max(self.largest, float(np.abs(noise).max(initial=0.0))),
            count=self.count + x.size,
        )

    def row(self, name: str, kind: str, dtype: str) -> TensorError:
        norms = math.sqrt(self.signal) * math.sqrt(self.other)
        return TensorError(
            name=name,
            kind=kind,
            dtype=dtype,
            sqnr_db=sqnr_from_powers(self.signal, self.noise),
            cosine=min(1.0, max(-1.0, self.dot / norms)) if norms else float(self.signal == self.other),
            mse=self.noise / self.count if self.count else 0.0,
            max_error=self.largest,
        )


def compare(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    batches: Iterable[Batch],
    *,
    backend: Backend | None = None,
    state: State = NO_STATE,
    track: Track = quiet,
) -> Comparison:
    """Measure what quantization did to every tensor.

    Args:
        float_model: The float model, prepared or not.
        quantized_model: Its quantized version.
        batches: Input name to array, one mapping a sample.
        backend: Runs the models; onnxruntime by default.
        state: Outputs that each model is fed back, as in `Engine`: output to input.
        track: Shows progress.

    Returns:
        One row a tensor and output.

    Raises:
        ModelError: The models' inputs or outputs have different names, or nothing in the second one is quantized.
        DataError: There is no data.
        OptionError: One of the models has no such output or input to feed back.
    """
    backend = backend or OrtBackend()
    prepared = prepare_for(float_model).model
    outputs = _common_outputs(prepared, quantized_model)
    exact_state, rounded_state = (Recurrence.of(model, state, backend) for model in (prepared, quantized_model))
    reference, view = GraphView.of(prepared), GraphView.of(quantized_model)
    found = [_pair(rounded, reference, view) for rounded in rounded_tensors(view)]
    pairs = [pair for pair in found if pair.name is not None and not pair.rounded.constant]
    if not found:
        raise ModelError(
            "nothing in the second model is quantized: give the float model first, the quantized one second"
        )
    sums = {("tensor", str(pair.name)): _Sums() for pair in pairs} | {("output", name): _Sums() for name in outputs}
    total = known_total(batches)
    run_float = backend.open(prepared, [*outputs, *state, *(str(pair.name) for pair in pairs)])
    run_rounded = backend.open(quantized_model, [*outputs, *state, *(pair.rounded.integers for pair in pairs)])
    agreeing = rows = samples = 0
    for batch in track(batches, f"comparing {len(pairs)} tensors", total):
        samples += 1
        exact, rounded = run_float(exact_state.fed(batch)), run_rounded(rounded_state.fed(batch))
        exact_state.keep(exact)
        rounded_state.keep(rounded)
        for pair in pairs:
            key, values = str(pair.name), dequantize(rounded[pair.rounded.integers], pair.rounded.grid)
            sums["tensor", key] = sums["tensor", key].update(exact[key], values)
        for name in outputs:
            sums["output", name] = sums["output", name].update(exact[name], rounded[name])
        votes = _votes(exact[outputs[0]], rounded[outputs[0]])
        agreeing, rows = agreeing + int(votes.sum()), rows + votes.size
    if not samples:
        raise DataError("there is no data to compare on: give at least one sample")
    tensors = [sums["tensor", str(pair.name)].row(str(pair.name), "activation", _kind(pair)) for pair in pairs]
    tensors += [_constant(pair, reference, view) for pair in found if pair.name is not None and pair not in pairs]
    return Comparison(
        tensors=tuple(sorted(tensors, key=lambda row: row.sqnr_db)),
        outputs=tuple(sums["output", name].row(name, "output", "float") for name in outputs),
        agreement=agreeing / rows if rows else None,
        samples=samples,
        unmatched=tuple(pair.rounded.after or pair.rounded.integers for pair in found if pair.name is None),
    )


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A rounded tensor and the name of its partner in the float model, if it has one."""

    rounded: Rounded
    name: str | None


def _kind(pair: _Pair) -> str:
    return pair.rounded.grid.spec.dtype.name


def _pair(rounded: Rounded, reference: GraphView, view: GraphView) -> _Pair:
    """Find the float partner: the tensor in front of the pair, the one behind it, or that of the same name."""
    stem = original_name(rounded.integers)
    if rounded.constant:
        return _Pair(rounded=rounded, name=stem if stem in reference.constants else None)
    candidates = [rounded.before, rounded.after] if rounded.before is not None else [rounded.after, stem]
    known = (name for name in candidates if name in reference.producers or name in reference.inputs)
    name = next(known, None)
    if name is not None and rounded.before is None:
        name = _behind_absorbed(name, reference, view)
    return _Pair(rounded=rounded, name=name)


def _behind_absorbed(name: str, reference: GraphView, view: GraphView) -> str:
    """Return the output of the Relu or Clip that a tensor's grid has absorbed, or the tensor where it has none."""
    reader = reference.only_reader(name)
    if reader is None or reader.op_type not in ("Relu", "Clip"):
        return name
    return name if any(node.name == reader.name for node in view.nodes) else reader.output[0]


def _constant(pair: _Pair, reference: GraphView, view: GraphView) -> TensorError:
    exact, integers = reference.constant(str(pair.name)), view.constant(pair.rounded.integers)
    assert exact is not None
    assert integers is not None
    values = dequantize(integers, pair.rounded.grid)
    return _Sums().update(exact, values).row(str(pair.name), "constant", _kind(pair))


def _common_outputs(reference: onnx.ModelProto, quantized: onnx.ModelProto) -> list[str]:
    wanted, got = ([value.name for value in model.graph.output] for model in (reference, quantized))
    if wanted != got:
        raise ModelError(f"the two models have different outputs: {wanted} and {got}")
    return wanted


def _votes(exact: npt.NDArray[Any], rounded: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Say for each row of class scores (..., classes) whether both networks prefer the same class."""
    if exact.ndim < 2 or exact.shape[-1] < 2:
        return np.zeros(0, bool)
    same: npt.NDArray[np.bool_] = exact.argmax(axis=-1) == rounded.argmax(axis=-1)
    return same
