"""A gated model is a float model in which every rounding of its quantized version can be turned on, off, or part of it.

Each rounded tensor x with the grid `scale * (qmin..qmax - zero_point)`, whose ends are lo and hi, gets three gates
between 0 and 1, and each constant w one:

    u = max(x, below * lo + (1 - below) * x)        v = min(u, above * hi + (1 - above) * u)
    y = v + rounding * (scale * rint(v / scale) - v)                    w + gate * (dequantized(w) - w)

With all gates at 0 every tensor passes unchanged to the bit, with all at 1 it is the quantized one to the bit: `0 * x`
and `1 * x` are exact, and so is `v + (r - v)` where r lies within half a step of v (Sterbenz 1974, theorem 4.3.1). What
remains is that a runtime may add up in another order where weights are no constants. All gates are one input, a
vector, so that one session serves every setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from quantlab.arrays import QParams, dequantize, fake_quant
from quantlab.debug.gate_function import DOMAIN, FUNCTION, declare_function
from quantlab.debug.matching import Matching, match
from quantlab.debug.reads import Reads
from quantlab.errors import ModelError
from quantlab.graph import FLOATS, GraphView, Names, float_tensor
from quantlab.graph.quantized import Rounded

Part = Literal["rounding", "clipping below", "clipping above", "weight", "bias"]
PARTS: tuple[Part, ...] = ("rounding", "clipping below", "clipping above")
"""What a grid does to an activation, in the order of its gates."""

BIAS_BITS = 32
"""Only biases are stored in so many bits."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One place of the vector of gates.

    Attributes:
        tensor: Name in the float model; where several share a grid, as at both ends of MaxPool, the first of them.
        part: What it turns on.
        node: Name of the node that makes the tensor, or reads it first if it is a constant or an input.
        grid: Scale, zero point and axis; of two grids the coarser one.
        nodes: Nodes that have to stay in float so that nobody rounds the tensor.
    """

    tensor: str
    part: Part
    node: str
    grid: QParams
    nodes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Gated:
    """A float model with gates.

    Attributes:
        model: The model; it has one input more than the float model.
        input: Name of that input, float32 of shape (gates,).
        gates: What each of its elements turns on.
    """

    model: onnx.ModelProto
    input: str
    gates: tuple[Gate, ...]

    def setting(self, on: Iterable[int] = ()) -> npt.NDArray[np.float32]:
        """Return a vector of gates: 1 at the places listed, 0 elsewhere."""
        vector = np.zeros(len(self.gates), np.float32)
        vector[list(on)] = 1.0
        return vector


@dataclass(frozen=True, kw_only=True)
class _Site:
    """A tensor with gates.

    Attributes:
        tensor: Its name in the float model.
        names: What it is called before it is rounded, after, and after its second grid.
        grids: Its grids in this order; one for a constant.
        first: Place of its first gate.
        kind: Its floating-point type.
        delta: For a constant: what rounding adds to it.
    """

    tensor: str
    names: tuple[str, ...]
    grids: tuple[QParams, ...]
    first: int
    kind: np.dtype[Any]
    delta: npt.NDArray[Any] | None = None


@dataclass
class _Writing:
    """The model while gates are put in; lives only inside `gated_model`."""

    view: GraphView
    reads: Reads
    names: Names
    graph: onnx.GraphProto
    input: str
    sites: dict[str, _Site] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)
    vectors: dict[np.dtype[Any], tuple[str, str]] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)


def gated_model(prepared: onnx.ModelProto, quantized: onnx.ModelProto, matching: Matching | None = None) -> Gated:
    """Put gates into a float model, at every tensor that its quantized version rounds.

    Args:
        prepared: The prepared float model; it is not changed.
        quantized: Its quantized version, in format QDQ or QOperator.
        matching: The second laid over the first, where that is done already.

    Returns:
        The gated model. Rounded tensors that have no partner in the float model get no gates, nor do those whose grid
        is not even (float8).

    Raises:
        ModelError: No rounded tensor of the second model has a partner in the first.
    """
    matching = matching or match(GraphView.of(prepared), GraphView.of(quantized))
    view = matching.exact.view
    copy = onnx.ModelProto()
    copy.CopyFrom(prepared)
    names = Names.of(prepared)
    reads = Reads.of(matching)
    work = _Writing(view, reads, names, copy.graph, names.fresh("quantlab_gates"))
    for name in reads.grids:
        _place(work, name)
    if not work.gates:
        raise ModelError(
            "no rounded tensor of the second model has a partner in the first: give the float model that the quantized "
            "one was made from, and the quantized one second"
        )
    for name in (*view.constants, *view.inputs):
        _write_gates(work, name)
    for node in view.nodes:
        _write_node(work, node)
    del copy.graph.node[:]
    copy.graph.node.extend(work.nodes)
    copy.graph.input.append(helper.make_tensor_value_info(work.input, onnx.TensorProto.FLOAT, [len(work.gates)]))
    declare_function(copy)
    return Gated(model=copy, input=work.input, gates=tuple(work.gates))


def _place(work: _Writing, name: str) -> None:
    """Decide whether a tensor gets gates, and what its forms are called."""
    entries, kind = work.reads.grids[name], work.view.float_type(name)
    if kind is None or any(entry.grid.spec.dtype.is_float for entry in entries) or work.reads.on_grid(name):
        return
    delta, exact = None, work.view.constant(name)
    if exact is not None:
        values, entries = _constant_values(work.reads, entries[0], exact), entries[:1]
        if values is None or not exact.size:
            return
        delta = np.asarray(values - exact, kind)
    elif any(entry.grid.spec.axis is not None for entry in entries) and work.view.shape(name) is None:
        return
    sharing = work.reads.sharing(name) if delta is None else frozenset([name])
    first = next((work.sites[other].first for other in sharing if other in work.sites), -1)
    if first < 0:
        coarsest = max((entry.grid for entry in entries), key=lambda grid: float(np.max(grid.scale)))
        first = _new_gates(work, name, coarsest, sharing, constant=delta is not None)
    forms = [name, *(work.names.fresh(f"{name}_gated") for _ in entries)]
    if (times := work.reads.given_out(name)) and name in work.view.producers:
        # Callers and subgraphs know the rounded tensor by this name; the node in front makes another one.
        forms[0], forms[times] = work.names.fresh(f"{name}_raw"), name
    grids = tuple(entry.grid for entry in entries)
    work.sites[name] = _Site(tensor=name, names=tuple(forms), grids=grids, first=first, kind=kind, delta=delta)


def _new_gates(work: _Writing, name: str, grid: QParams, sharing: Iterable[str], *, constant: bool) -> int:
    """Make the gates of a tensor, which are those of all that share its grid, and return the place of the first."""
    first, home, nodes = len(work.gates), work.reads.home(name), work.reads.responsible(sharing)
    of_constant: Part = "bias" if grid.spec.dtype.bits == BIAS_BITS else "weight"
    parts = (of_constant,) if constant else PARTS
    work.gates += [Gate(tensor=name, part=part, node=home, grid=grid, nodes=nodes) for part in parts]
    return first


def _constant_values(reads: Reads, entry: Rounded, exact: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return what a constant becomes in the quantized model, or None where that has another shape."""
    if not entry.constant:
        return fake_quant(exact, entry.grid)
    integers = reads.quantized.constant(entry.integers)
    return None if integers is None or integers.shape != exact.shape else dequantize(integers, entry.grid)


def _write_node(work: _Writing, node: onnx.NodeProto) -> None:
    """Write a node that reads rounded tensors where its quantized twin does, then the gates of what it makes."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for index, name in enumerate(node.input):
        if (site := work.sites.get(name)) is not None:
            copy.input[index] = site.names[min(work.reads.times(node, index), len(site.grids))]
    for index, name in enumerate(node.output):
        if (site := work.sites.get(name)) is not None:
            copy.output[index] = site.names[0]
    work.nodes.append(copy)
    for name in node.output:
        _write_gates(work, name)


def _write_gates(work: _Writing, name: str) -> None:
    site = work.sites.get(name)
    if site is None:
        return
    on, off = _vector(work, site.kind)
    if site.delta is not None:
        delta, error = _constant(work, f"{name}_delta", site.delta), work.names.fresh(f"{name}_error")
        _write(work, "Mul", [delta, _picked(work, on, site.first)], error)
        _write(work, "Add", [name, error], site.names[1])
        return
    # A second grid hangs on the gates of the first.
    gates = [_picked(work, on, site.first + place) for place in range(len(PARTS))]
    gates += [_picked(work, off, site.first + place) for place in (1, 2)]
    for grid, source, output in zip(site.grids, site.names, site.names[1:], strict=False):
        numbers = _numbers(grid, work.view.shape(name), site.kind)
        ends = [_constant(work, f"{name}_{word}", value) for word, value in numbers.items()]
        _write(work, FUNCTION, [source, *ends, *gates], output, domain=DOMAIN)


def _numbers(grid: QParams, shape: Sequence[Any] | None, kind: np.dtype[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return scale and ends of a grid in a tensor's type, in a shape that spreads along the grid's axis."""
    span, axis = grid.span(), grid.spec.axis
    found = {"scale": grid.scale, "lo": span.lo, "hi": span.hi}
    spread: tuple[int, ...] = ()
    if axis is not None and shape is not None:
        spread = (-1, *(1,) * (len(shape) - 1 - axis % len(shape)))
    return {word: value.astype(kind).reshape(spread) for word, value in found.items()}


def _vector(work: _Writing, kind: np.dtype[Any]) -> tuple[str, str]:
    """Return the names of the vector of gates in a type, and of one minus it."""
    if kind not in work.vectors:
        on, off = work.input, work.names.fresh(f"{work.input}_off_{kind}")
        if kind != np.float32:
            on = work.names.fresh(f"{work.input}_{kind}")
            code = next(code for code, known in FLOATS.items() if known == kind)
            _write(work, "Cast", [work.input], on, to=code)
        _write(work, "Sub", [_constant(work, f"one_{kind}", np.ones((), kind)), on], off)
        work.vectors[kind] = on, off
    return work.vectors[kind]


def _picked(work: _Writing, vector: str, place: int) -> str:
    """Write the reading of one gate, a scalar, so that it changes the shape of nothing."""
    index = onnx.numpy_helper.from_array(np.array(place, np.int64), work.names.fresh(f"{vector}_place"))
    work.graph.initializer.append(index)
    output = work.names.fresh(f"{vector}_{place}")
    _write(work, "Gather", [vector, index.name], output, axis=0)
    return output


def _constant(work: _Writing, wanted: str, values: npt.NDArray[Any]) -> str:
    tensor = float_tensor(work.names.fresh(wanted), values)
    work.graph.initializer.append(tensor)
    return tensor.name


def _write(work: _Writing, op: str, inputs: Sequence[str], output: str, **settings: Any) -> None:
    name = work.names.fresh(f"{output}_{op}")
    work.nodes.append(helper.make_node(op, inputs, [output], name=name, **settings))
