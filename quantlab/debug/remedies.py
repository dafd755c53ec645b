"""Remedies: what a source of error does, in numbers, and which option makes it smaller. One sentence a source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantlab.calibration import Histogram, Statistic
from quantlab.debug.findings import Source
from quantlab.debug.gates import Gate
from quantlab.graph import GraphView
from quantlab.plan.axes import channel_axis

SMALL = 0.01
"""Share below which nothing is advised."""

UNLIKE = 4.0
"""How many times the range of the bulk a grid has to span to be called too wide."""

WORTH = 0.5
"""Scales for channels are advised where they leave at most so much of a weight's error."""

BULK = 0.999
"""Share of the values that are called the bulk."""

PIECES = 64
EMPTY = 0.5
"""A tensor's values lie far apart where so large a share of its range, seen in so many pieces, is one gap."""

WIDE = 16
"""No wider grid is on offer for activations and weights."""

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")

_ERRORS = {"rounding": "rounding of", "clipping below": "clipping below at", "clipping above": "clipping above at"}


@dataclass(frozen=True)
class Evidence:
    """What advice is based on.

    Attributes:
        view: The float graph.
        seen: Activation to a histogram of its values in the float network, for those that are measured.
    """

    view: GraphView
    seen: Mapping[str, Statistic]


def advise(source: Source, gate: Gate, evidence: Evidence) -> str:
    """Say what a source does and what to try.

    Args:
        source: The source with its shares.
        gate: Its gate.
        evidence: Numbers of the float network.

    Returns:
        One sentence.
    """
    if source.alone is None:
        return f"{_percent(source.estimate)} of the output error by the screening; not measured"
    share = _percent(source.alone)
    if source.alone < SMALL:
        return f"{share} of the output error: nothing to do"
    what, cure = _diagnosis(gate, evidence)
    error = _ERRORS.get(gate.part, f"rounding of the {gate.part}")
    return f"{share} of the output error is {error} {source.tensor!r} ({what}): {cure}"


def _diagnosis(gate: Gate, evidence: Evidence) -> tuple[str, str]:
    """Return what is the matter with a grid, and what to try."""
    view = evidence.view
    if gate.part == "weight":
        return _weight(gate, view)
    if gate.part == "bias":
        what = "its scale is that of the activation times that of the weight"
        return what, f"leave biases in float (bias=False in a Recipe, QuantizeBias in extra_options), or {_float(gate)}"
    seen = evidence.seen[gate.tensor]
    if gate.part == "rounding":
        return _rounding(gate, seen, view)
    lo, hi = _ends(gate)
    at, data = (lo, seen.lo) if gate.part == "clipping below" else (hi, seen.hi)
    ends = {"rmin": float(f"{min(lo, seen.lo):.6g}"), "rmax": float(f"{max(hi, seen.hi):.6g}")}
    what = f"its grid ends at {at:.4g}, the data at {data:.4g}"
    cure = f"calibrate on more samples or with a larger --percent, or set its range: {_overrides({gate.tensor: ends})}"
    return what, cure


def _rounding(gate: Gate, seen: Statistic, view: GraphView) -> tuple[str, str]:
    (lo, hi), bulk = _ends(gate), _bulk(seen)
    spans = f"its grid spans {lo:.4g} to {hi:.4g}"
    if hi - lo >= UNLIKE * (max(bulk[1], 0.0) - min(bulk[0], 0.0)):
        what = f"{spans}, and {BULK:.1%} of the values lie in {bulk[0]:.4g} to {bulk[1]:.4g}"
        return what, f"cut the few others off with --calibrate percentile, or {_finer(gate, view)}"
    if _gap(seen) >= EMPTY:
        return f"{spans}, and most of that is empty, as with a mask", _float(gate)
    return f"{spans} in steps of {float(np.max(gate.grid.scale)):.3g}", _finer(gate, view)


def _weight(gate: Gate, view: GraphView) -> tuple[str, str]:
    """Look at the channels of a weight that has one scale and may have one for each."""
    spec, values = gate.grid.spec, view.constant(gate.tensor)
    axes = (channel_axis(reader, gate.tensor, view) for reader in view.readers(gate.tensor))
    axis = next((axis for axis in axes if axis is not None), None)
    if spec.axis is not None or values is None or axis is None:
        return f"{spec.dtype}, {'one scale' if spec.axis is None else 'a scale for each channel'}", _finer(gate, view)
    sizes = np.abs(values.astype(np.float64)).max(axis=tuple(i for i in range(values.ndim) if i != axis))
    largest = float(sizes.max(initial=0.0)) or 1.0
    rest = float(np.mean((sizes / largest) ** 2))  # noise goes with the square of the scale
    unlike = largest / (float(np.median(sizes)) or largest)
    what = f"{spec.dtype}, one scale for {len(sizes)} channels, the largest {unlike:.3g} times the middle one"
    per_channel = f"quantize per channel (--per-channel), which leaves about {_percent(rest)} of that"
    return what, per_channel if rest <= WORTH else _finer(gate, view)


def _finer(gate: Gate, view: GraphView) -> str:
    """Offer 16 bits; an activation needs them in the weights that its readers multiply it by, too."""
    if gate.grid.spec.dtype.bits >= WIDE:
        return _float(gate)
    wide = {gate.tensor: {"quant_type": "Int16" if gate.grid.spec.dtype.signed else "UInt16"}}
    maker = view.producers.get(gate.tensor)
    first = -1 if maker is None else view.position(maker)
    for node in view.nodes if gate.part == "rounding" else ():
        if node.name in gate.nodes and view.position(node) > first and node.op_type in _PRODUCTS:
            wide.update({name: {"quant_type": "Int16"} for name in node.input[1:2] if name in view.constants})
    return f"give it 16 bits: {_overrides(wide)}, or {_float(gate)}"


def _overrides(entries: Mapping[str, Any]) -> str:
    return f"--overrides with {json.dumps(entries, ensure_ascii=False)}"


def _float(gate: Gate) -> str:
    several = "s" if len(gate.nodes) > 1 else ""
    return f"leave node{several} {', '.join(map(repr, gate.nodes))} in float (--exclude)"


def _ends(gate: Gate) -> tuple[float, float]:
    span = gate.grid.span()
    return float(np.min(span.lo)), float(np.max(span.hi))


def _bulk(seen: Statistic) -> tuple[float, float]:
    """Return where the bulk of the values lies, as far as a histogram's bins tell; the rest is cut off evenly."""
    if not isinstance(seen, Histogram) or not seen.count:
        return seen.lo, seen.hi
    cumulative, edges, tail = seen.cumulative(), seen.edges(), seen.count * (1 - BULK) / 2
    first = int(np.searchsorted(cumulative, tail, side="right")) - 1
    last = int(np.searchsorted(cumulative, seen.count - tail, side="left"))
    return max(float(edges[first]), seen.lo), min(float(edges[last]), seen.hi)


def _gap(seen: Statistic) -> float:
    """Return the largest gap between values, as a share of their range."""
    if not isinstance(seen, Histogram) or not seen.count:
        return 0.0
    counts = seen.coarsened(min(PIECES, seen.max_bins)).counts
    return float(np.diff(np.flatnonzero(counts)).max(initial=1) - 1) / len(counts)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= SMALL else f"{share:.1%}"
