"""Shadows: each quantized node beside its float node, fed with the float network's values.

The error of a quantized tensor is inherited from all nodes in front of it and added to by its own. A shadow inherits
nothing: its inputs are the float network's, rounded to the node's own input grids; it has the quantized weights, and
its output is rounded to its own grid. What lies between that and the float node's output is the error of this one node.

All shadows live in one model beside the float graph, so that each sample is run once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx

from quantlab import kernels
from quantlab.backend import Backend, Batch, OrtBackend
from quantlab.debug.logical import Logical, Step
from quantlab.debug.matching import Matching, match
from quantlab.debug.models import matched
from quantlab.debug.sums import NO_SUMS, Measured, added, numbers
from quantlab.errors import DataError, ModelError
from quantlab.graph import GraphView, default_opset, float_tensor, integer_tensor
from quantlab.graph.prepare import prepare
from quantlab.graph.quantized import Rounded, rounded_tensors
from quantlab.kernels import ErrorSums
from quantlab.progress import Track, known_total, quiet

PREFIX = "shadow/"


@dataclass(frozen=True, kw_only=True)
class ShadowError:
    """The error of one node.

    Attributes:
        node: Its name in the float model.
        op_type: Its operator there.
        tensor: Its output in the float model, behind a Relu or Clip that the grid has absorbed.
        sqnr_db: Signal-to-quantization-noise ratio in dB of the node alone; inf where it adds no error.
        cosine: Cosine between its output and that of its shadow.
        mse: Mean squared difference of the two, in the square of the tensor's unit.
        max_error: Largest absolute difference, in the tensor's unit.
        count: Values looked at.
    """

    node: str
    op_type: str
    tensor: str
    sqnr_db: float
    cosine: float
    mse: float
    max_error: float
    count: int

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values; decibels that are not finite become None."""
        return {key: _plain(value) for key, value in vars(self).items()}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True)
class _Shadow:
    """One shadow in the model of all: the float node, its output and that of the shadow."""

    step: Step
    exact: str
    rounded: str


def shadow_compare(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    batches: Iterable[Batch],
    *,
    backend: Backend | None = None,
    track: Track = quiet,
) -> tuple[ShadowError, ...]:
    """Measure the error that each quantized node adds by itself.

    Args:
        float_model: The float model, prepared or not.
        quantized_model: Its quantized version, of format QDQ or QOperator.
        batches: Input name to array, one mapping a sample; read once, in constant memory.
        backend: Runs the model; onnxruntime by default.
        track: Shows progress.

    Returns:
        One row a node whose inputs and output are rounded, worst first.

    Raises:
        DataError: There is no data.
        ModelError: Nothing in the second model is quantized.
    """
    exact, found = matched(float_model, quantized_model)
    if (opset := default_opset(quantized_model)) > default_opset(exact):  # the two stand in one model
        exact = prepare(exact, min_opset=opset, optimize=False).model
        found = match(GraphView.of(exact), GraphView.of(quantized_model))
    model, shadows = shadow_model(exact, quantized_model, found)
    if not shadows:
        raise ModelError("no node of the quantized model has a partner in the float model: compare shows the reasons")
    run = (backend or OrtBackend()).open(model, [name for each in shadows for name in (each.exact, each.rounded)])
    sums, total = dict.fromkeys(shadows, NO_SUMS), known_total(batches)
    choice = kernels.choice()
    for batch in track(batches, f"comparing {len(shadows)} nodes", total):
        values = run(batch)
        with kernels.using(choice):
            for each in shadows:
                more = Measured(None).sums(values[each.exact], values[each.rounded])
                sums[each] = added(sums[each], more)
    if all(each.size == 0 for each in sums.values()):
        raise DataError("there is no data to compare on: give at least one sample")
    rows = (_row(each, found) for each, found in sums.items())
    return tuple(sorted(rows, key=lambda row: row.sqnr_db))


def _row(each: _Shadow, sums: ErrorSums) -> ShadowError:
    found = numbers(sums)
    return ShadowError(
        node=each.step.node.name,
        op_type=each.step.node.op_type,
        tensor=each.exact,
        **{key: found[key] for key in ("sqnr_db", "cosine", "mse", "max_error", "count")},
    )


def shadow_model(
    exact: onnx.ModelProto, rounded: onnx.ModelProto, found: Matching
) -> tuple[onnx.ModelProto, list[_Shadow]]:
    """Build the model that holds the float graph and a shadow of each quantized node.

    Args:
        exact: The float model in the form that was matched.
        rounded: The quantized model.
        found: Their matching.

    Returns:
        The model, and what is compared in it. All that comes from the quantized model is called `shadow/...`.
    """
    work = _Writer(exact, rounded, found)
    shadows = [shadow for step, other in found.steps if (shadow := work.shadow(step, other)) is not None]
    return work.finished(), shadows


class _Writer:
    """The model that is being written."""

    def __init__(self, exact: onnx.ModelProto, rounded: onnx.ModelProto, found: Matching) -> None:
        self._found, self._rounded = found, rounded
        self._model = onnx.ModelProto()
        self._model.CopyFrom(exact)
        self._grids = {each.integers: each for each in rounded_tensors(found.rounded.view)}
        self._stored: set[str] = set()
        self._count = 0

    def shadow(self, step: Step, other: Step) -> _Shadow | None:
        """Write the shadow of a quantized node, or return None where its inputs or its output are not rounded."""
        logical, node = self._found.rounded, step.node
        output = self._output(node, logical)
        partner = self._found.partners.get(step.outputs[0])
        if output is None or partner is None or step.outputs[0] != node.output[0]:
            return None
        own = f"{PREFIX}{self._count}/"
        on_integers = output.before is None
        inputs = [self._input(name, f"{own}{index}/", on_integers=on_integers) for index, name in enumerate(node.input)]
        if None in inputs:
            return None
        self._count += 1
        copy = self._add(node, [str(name) for name in inputs], own)
        return _Shadow(step=other, exact=partner, rounded=self._rounding(copy, output, own))

    def _output(self, node: onnx.NodeProto, logical: Logical) -> Rounded | None:
        """Return the grid that a node's output is rounded to."""
        if node.output[0] in self._grids and self._grids[node.output[0]].before is None:
            return self._grids[node.output[0]]
        return next((each for each in self._grids.values() if each.before == node.output[0]), None)

    def _input(self, name: str, own: str, *, on_integers: bool) -> str | None:
        """Return what stands for an input of a node: what is stored, or the float network's tensor, rounded.

        None where there is no partner, or where an operator on integers reads some whose grid no node states.
        """
        if not name:
            return ""
        view, origin = self._found.rounded.view, self._found.rounded.origin(name)
        if name in view.constants:
            return self._constant(name)
        maker = view.producers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in view.constants:
            return self._add(maker, [self._constant(each) for each in maker.input], own)[0]
        partner = self._constant(origin) if origin in view.constants else self._found.partners.get(origin)
        behind = maker is not None and maker.op_type == "DequantizeLinear"
        grid = self._grids.get(maker.input[0] if behind and maker is not None else name)
        if partner is None or grid is None:
            return None if on_integers else partner  # without a grid it is not rounded
        integers, values = self._pair(partner, grid, own)
        return values if behind else integers

    def _rounding(self, made: list[str], grid: Rounded, own: str) -> str:
        if grid.before is None:  # made as integers
            return self._dequantized(made[0], grid, own)
        return self._pair(made[0], grid, own)[1]

    def _pair(self, name: str, grid: Rounded, own: str) -> tuple[str, str]:
        """Round a tensor; return the integers and their values."""
        integers = f"{own}integers"
        self._write("QuantizeLinear", name, integers, grid)
        return integers, self._dequantized(integers, grid, own)

    def _dequantized(self, integers: str, grid: Rounded, own: str) -> str:
        values = f"{own}values"
        self._write("DequantizeLinear", integers, values, grid)
        return values

    def _write(self, op_type: str, read: str, made: str, grid: Rounded) -> None:
        scale, zero = f"{PREFIX}{grid.integers}/scale", f"{PREFIX}{grid.integers}/zero_point"
        if scale not in self._stored:
            self._stored.add(scale)
            kind = grid.grid.spec.dtype
            tensors = float_tensor(scale, grid.grid.scale), integer_tensor(zero, grid.grid.zero_point, kind)
            self._model.graph.initializer.extend(tensors)
        node = onnx.helper.make_node(op_type, [read, scale, zero], [made], name=made)
        spec = grid.grid.spec
        for key, value in (("axis", spec.axis), ("block_size", spec.block_size)):
            if value is not None:
                node.attribute.add(name=key, type=onnx.AttributeProto.INT, i=value)
        self._model.graph.node.append(node)

    def _constant(self, name: str) -> str:
        """Store a constant of the quantized model, once."""
        own = PREFIX + name if name else ""
        if name and own not in self._stored:
            self._stored.add(own)
            tensor = self._model.graph.initializer.add()
            tensor.CopyFrom(self._found.rounded.view.constants[name])
            tensor.name = own
        return own

    def _add(self, node: onnx.NodeProto, inputs: list[str], own: str) -> list[str]:
        """Write a copy of a node and return its outputs."""
        copy = self._model.graph.node.add()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.name = own + (node.name or node.op_type)
        copy.input.extend(inputs)
        copy.output.extend(name and own + name for name in node.output)
        return list(copy.output)

    def finished(self) -> onnx.ModelProto:
        """Return the model, which knows the operators of both."""
        known = {entry.domain for entry in self._model.opset_import}
        self._model.opset_import.extend(entry for entry in self._rounded.opset_import if entry.domain not in known)
        self._model.ir_version = max(self._model.ir_version, self._rounded.ir_version)
        return self._model
